"""How soon is a process noticed that dies or is stopped? From just before the signal to the alert.

python -m benchmarks.death_and_stop [--rounds 20] [--threshold-ms 100]
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import time

from benchmarks.targets import at_most
from benchmarks.watched import Desk, applications, desk

NOTICED_MS = 20.0  # for the median; the longest is beside it


def stop(watching: Desk, rounds: int) -> list[float]:
    """Milliseconds from SIGSTOP to the alert."""
    took = []
    with applications(watching.endpoint, watching.folder) as (child,):
        watching.wait_for(1)
        for number in range(rounds):
            time.sleep(0.2 + number * 0.0031)  # not always at the same moment between two looks
            began = time.monotonic_ns()
            os.kill(child.pid, signal.SIGSTOP)
            took.append((watching.heard.wait_for("EventLoopStopped", "firing") - began) / 1e6)
            os.kill(child.pid, signal.SIGCONT)
            watching.heard.wait_for("EventLoopStopped", "resolved")
    watching.wait_for(0)
    return took


def death(watching: Desk, rounds: int) -> list[float]:
    """Milliseconds from SIGKILL to the alert. Alerts about a service that dies again and again are told each."""
    took = []
    for number in range(rounds):
        with applications(watching.endpoint, watching.folder) as (child,):
            watching.wait_for(1)
            time.sleep(0.2 + number * 0.0031)
            began = time.monotonic_ns()
            child.kill()
            took.append((watching.heard.wait_for("EventLoopDead", "firing") - began) / 1e6)
    return took


def line(name: str, took: list[float]) -> str:
    """One line of the result."""
    median = statistics.median(took)
    return f"{name:<10}{len(took):>6}{median:>9.1f} ms{max(took):>9.1f} ms  {at_most(median, NOTICED_MS, 'ms')}"


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threshold-ms", type=int, default=100)
    asked = parser.parse_args()
    print(f"{'noticed':<10}{'times':>6}{'p50':>12}{'longest':>12}")
    with desk(asked.threshold_ms) as watching:
        print(line("stopped", stop(watching, asked.rounds)), flush=True)
        print(line("killed", death(watching, asked.rounds)), flush=True)


if __name__ == "__main__":
    main()
