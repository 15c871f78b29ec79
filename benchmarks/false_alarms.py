"""What does the watchdog say when there is nothing to say? Each alert that a phase does not call for is a false one.

Two applications that do little. They idle; they idle beside two processes that compute; others come and go; the
watchdog is restarted; one is stopped and let go again (an alert that says just that is right); the wall clock jumps by
a day.

    python -m benchmarks.false_alarms [--seconds 600] [--times 20] [--threshold-ms 100]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

from benchmarks.targets import at_most
from benchmarks.watched import Desk, applications, desk

Children = list[subprocess.Popen[bytes]]


class Wall:
    """A wall clock that can be moved."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def compute() -> None:
    """Take a core."""
    while True:
        sum(range(10_000))


def busy(seconds: float) -> None:
    """Wait beside two processes that compute."""
    neighbours = [multiprocessing.get_context("spawn").Process(target=compute, daemon=True) for _ in range(2)]
    for neighbour in neighbours:
        neighbour.start()
    time.sleep(seconds)
    for neighbour in neighbours:
        neighbour.kill()
        neighbour.join()


def restart_applications(watching: Desk, times: int) -> None:
    """They end in good order and come again."""
    for _ in range(times):
        with applications(watching.endpoint, watching.folder, 2):
            watching.wait_for(4)
        watching.wait_for(2)


def restart_watchdog(watching: Desk, times: int) -> None:
    """The applications find it again by themselves."""
    for _ in range(times):
        watching.stop()
        watching.start()
        watching.wait_for(2)


def stop_and_go(watching: Desk, children: Children, times: int) -> None:
    """One of them, each time for a little longer than the threshold."""
    for number in range(times):
        os.kill(children[0].pid, signal.SIGSTOP)
        watching.heard.wait_for("EventLoopStopped", "firing")
        time.sleep(0.15 + number * 0.01)
        os.kill(children[0].pid, signal.SIGCONT)
        watching.heard.wait_for("EventLoopStopped", "resolved")


def clock_steps(wall: Wall, times: int) -> None:
    """A day to and fro."""
    for number in range(times):
        wall.ahead = timedelta(days=1 if number % 2 else -1)
        time.sleep(0.5)
    wall.ahead = timedelta()


def main() -> None:
    """Print a line for each phase."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="of each of the two phases that only wait")
    parser.add_argument("--times", type=int, default=20, help="that each of the other phases repeats itself")
    parser.add_argument("--threshold-ms", type=int, default=100)
    asked = parser.parse_args()
    wall = Wall()
    with desk(asked.threshold_ms, wall) as watching, ExitStack() as stack:
        children = stack.enter_context(applications(watching.endpoint, watching.folder, 2))
        watching.wait_for(2)

        phases: dict[str, Callable[[], object]] = {
            f"{asked.seconds:.0f} s idle": lambda: time.sleep(asked.seconds),
            f"{asked.seconds:.0f} s beside two busy processes": lambda: busy(asked.seconds),
            f"{asked.times} restarts of two applications": lambda: restart_applications(watching, asked.times),
            f"{asked.times} restarts of the watchdog": lambda: restart_watchdog(watching, asked.times),
            f"{asked.times} times SIGSTOP, SIGCONT": lambda: stop_and_go(watching, children, asked.times),
            f"{asked.times} steps of the wall clock by a day": lambda: clock_steps(wall, asked.times),
        }
        for name, phase in phases.items():
            phase()
            time.sleep(1)
            found = [alert for alert in watching.heard.rest() if alert.status == "firing"]
            print(f"{name:<40}{len(found):>4} false alarms, {at_most(len(found), 0, 'alarms')}", flush=True)
            for alert in found:
                print(f"    {alert.name}: {alert.annotations['summary']}\n{alert.annotations.get('stack', '')}")


if __name__ == "__main__":
    main()
