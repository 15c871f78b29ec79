"""How soon is a stall named? A real application, a real sidecar's watchdog in this process, five ways to block.

A child process blocks its loop again and again, each time for longer than the threshold: with `time.sleep` and with a
loop in Python (other threads run meanwhile), and in three ways that hold the interpreter, so that no other thread runs:
a regular expression that backtracks, the power of a large integer, a C function that is called without letting go. It
writes down when each block began; the delay is from there to the alert, less the threshold. An alert waits up to 8 ms
for its stack. A stack that was found later counts only if the block still lasted when it was found; it is right when it
has the blocking function, in a line of that function. All of it on asyncio's own loop and on uvloop.

    python -m benchmarks.stall_detection [--threshold-ms 100] [--rounds 40] [--kinds sleep,spin] [--loops asyncio]
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import inspect
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import uvloop
from prometheus_client import CollectorRegistry

from benchmarks.targets import at_least, at_most
from instrumentation.loop import Loops
from instrumentation.loop.offer import Offer
from instrumentation.tenancy import tenant
from sidecar.alerts import Alert, Alerts
from sidecar.watchdog import Watchdog
from sidecar.watchdog.stacks import Asked, find
from sidecar.wire import frames, process

BLOCK_SECONDS = 0.25
P50_MS, P99_MS, STACKS = 3.0, 10.0, 0.95  # past the threshold; of the stalls, with the right stack while they last


def by_sleep() -> None:
    """Block with the interpreter free."""
    time.sleep(BLOCK_SECONDS)


def by_spin() -> None:
    """Block in Python code."""
    end = time.monotonic() + BLOCK_SECONDS
    while time.monotonic() < end:
        pass


def by_regex() -> None:
    """Block in C with the interpreter held: doubles with each character."""
    re.match(r"(a+)+$", "a" * _characters + "!")


def by_power() -> None:
    """Block in C with the interpreter held: takes about three times as long for twice the digits."""
    7**_digits


def by_c_call() -> None:
    """Block in a C function that keeps the interpreter."""
    ctypes.PyDLL(None).usleep(round(BLOCK_SECONDS * 1e6))


BLOCKS: dict[str, Callable[[], None]] = {
    "sleep": by_sleep, "spin": by_spin, "regex": by_regex, "power": by_power, "c_call": by_c_call,
}  # fmt: skip
LOOPS: dict[str, Callable[..., None]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}
_characters = 18
_digits = 100_000


def _calibrate(kind: str) -> None:
    """Make the expressions take about as long as the other blocks."""
    global _characters, _digits
    while kind in ("regex", "power"):
        began = time.monotonic()
        BLOCKS[kind]()
        if time.monotonic() - began >= BLOCK_SECONDS * 0.8:
            return
        _characters += 1
        _digits = round(_digits * 1.2)


def application(endpoint: str, cells: str, kind: str, loop: str, rounds: int) -> None:
    """The child: prints the start of each block, in nanoseconds of the monotonic clock."""
    _calibrate(kind)
    loops = Loops(Path(cells), "stall-detection", "benchmark", endpoint)
    loops.start()

    async def main() -> None:
        await asyncio.sleep(1)  # until the watchdog knows the loop
        for _ in range(rounds):
            await asyncio.sleep(0.1)
            with tenant("hooli"):
                print(time.monotonic_ns(), flush=True)
                BLOCKS[kind]()

    LOOPS[loop](main())
    loops.stop()


class _Moments:
    """Notes when each alert fired, and whether it had its stack."""

    name = "moments"

    def __init__(self) -> None:
        self.fired: list[tuple[int, bool]] = []

    def submit(self, alert: Alert) -> None:
        if alert.status == "firing" and alert.labels["tenant_id"] == "hooli":
            self.fired.append((time.monotonic_ns(), "not available" not in alert.annotations["stack"]))


def measure(kind: str, loop: str, threshold_ms: int, rounds: int) -> str:
    """One line of the result."""
    moments = _Moments()
    watchdog = Watchdog(threshold_ms * 1_000_000, Alerts([moments]), CollectorRegistry())
    server = grpc.server(ThreadPoolExecutor(4))
    watchdog.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    watchdog.start()
    server.start()
    try:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as cells:
            arguments = [f"http://127.0.0.1:{port}", cells, kind, loop, str(rounds)]
            command = [sys.executable, "-m", "benchmarks.stall_detection", "application", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        stalls = watchdog.stalls()
    finally:
        server.stop(0).wait()
        watchdog.stop()
    began = [int(line) for line in done.stdout.split()]
    if len(moments.fired) != len(began):
        return f"{kind:<8}{loop:<9}{len(began)} blocks, {len(moments.fired)} alerts: missed or false ones, no figures"
    delays = sorted(
        (fired - start) / 1e6 - threshold_ms for start, (fired, _) in zip(began, moments.fired, strict=True)
    )
    in_alert = sum(had for _, had in moments.fired)
    stacks = [stall["stack"] for stall in stalls if stall["tenant"] == "hooli"]
    while_blocked = sum(map(bool, stacks))
    right = sum(any(_is_in(BLOCKS[kind], line) for line in stack) for stack in stacks)
    p99 = delays[min(len(delays) - 1, round(len(delays) * 0.99))]
    p50 = statistics.median(delays)
    found = f"{kind:<8}{loop:<9}{len(began):>6}{p50:>9.1f} ms{p99:>9.1f} ms{in_alert:>10}{while_blocked:>15}{right:>7}"
    told = (at_most(p50, P50_MS, "ms"), at_most(p99, P99_MS, "ms"), at_least(right / len(began), STACKS))
    return f"{found}  {', '.join(told)}"


def _is_in(function: Callable[[], None], frame: str) -> bool:
    """Whether a line of a stack, `file:line function`, is in a line of this function."""
    place, _, name = frame.rpartition(" ")
    file, _, line = place.rpartition(":")
    source, first = inspect.getsourcelines(function)
    return name == function.__qualname__ and file == __file__ and first < int(line) < first + len(source)


def reading(depth: int = 20, times: int = 500) -> str:
    """What it takes to read one stack, of a thread of this process that waits."""
    there, gate, offer = threading.Event(), threading.Event(), Offer()
    announced: list[frames.Thread] = []

    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        else:
            here = threading.get_ident(), threading.get_native_id()
            announced.append(frames.Thread(offer.python, offer.thread_state(), *here))
            there.set()
            gate.wait()

    thread = threading.Thread(target=deeper, args=(depth,))
    thread.start()
    there.wait()
    asked = Asked((os.getpid(), process.own_start()), announced[0], Path("/nowhere"), 0)
    took = []
    for _ in range(times):
        began = time.monotonic_ns()
        found = find(asked)
        took.append((time.monotonic_ns() - began) / 1e6)
    gate.set()
    thread.join()
    p99 = sorted(took)[round(times * 0.99) - 1]
    return f"reading a stack of {len(found.lines)} frames: p50 {statistics.median(took):.2f} ms, p99 {p99:.2f} ms"


def main() -> None:
    """Print one line for each way to block, on each loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threshold-ms", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--kinds", default=",".join(BLOCKS), help="ways to block, separated by commas")
    parser.add_argument("--loops", default=",".join(LOOPS), help="event loops, separated by commas")
    asked = parser.parse_args()
    print("from the threshold to the alert; stacks in the alert, while it was blocked, and right")
    print(
        f"{'block':<8}{'loop':<9}{'blocks':>6}{'p50':>12}{'p99':>12}{'in alert':>10}{'while blocked':>15}{'right':>7}"
    )
    for kind in asked.kinds.split(","):
        for loop in asked.loops.split(","):
            print(measure(kind, loop, asked.threshold_ms, asked.rounds), flush=True)
    print(reading(), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["application"]:
        endpoint, cells, kind, loop, rounds = sys.argv[2:]
        application(endpoint, cells, kind, loop, int(rounds))
    else:
        main()
