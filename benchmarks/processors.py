"""How fast the processors are meanwhile, of the best that they can.

The same work can take a virtual machine's processor twice as long as a second ago: it was idle, and is slow until it
has been busy for a while, or it shares its core with another machine's. CPU time does not say so, for a slow second
counts as one. So a figure that is taken beside idle time, such as that of an acknowledgement at a steady rate, is not
to be held against one of a busy loop without this.

One process for each processor does a little work ten times a second and notes how long it took. Run as a program it
is such a process: it prints what it finds until its input ends.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from statistics import median
from typing import Final

_BUSY_SECONDS: Final = 1.5  # until a processor is as fast as it gets
_EVERY: Final = 0.1


class Speeds:
    """What was found so far: by processor, shares of its best speed, from 0 to 1."""

    def __init__(self) -> None:
        self.found: dict[int, list[float]] = {}

    def __str__(self) -> str:
        """The median of each."""
        return ", ".join(f"{median(shares):.0%}" for _, shares in sorted(self.found.items()) if shares)


@contextlib.contextmanager
def watched() -> Iterator[Speeds]:
    """Watch all processors of this process; it takes two seconds until they are at their best."""
    speeds = Speeds()
    with contextlib.ExitStack() as stack:
        for number in sorted(os.sched_getaffinity(0)):
            command = [sys.executable, "-m", "benchmarks.processors", str(number)]
            pipes = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            process = stack.enter_context(pipes)
            stack.callback(process.terminate)
            speeds.found[number] = []
            threading.Thread(target=_read, args=(process, speeds.found[number])).start()
        time.sleep(_BUSY_SECONDS + 0.5)
        yield speeds


def _read(process: subprocess.Popen[str], shares: list[float]) -> None:
    assert process.stdout is not None
    shares.extend(map(float, process.stdout))


def _work() -> float:
    """Seconds that a fixed loop takes the processor."""
    begun, counts = time.thread_time(), {}
    for number in range(8_000):
        counts[number & 63] = number
    return time.thread_time() - begun


def _watch(processor: int) -> None:
    os.sched_setaffinity(0, {processor})
    begun, best = time.monotonic(), _work()
    while time.monotonic() < begun + _BUSY_SECONDS:
        best = min(best, _work())
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    while True:
        print(f"{best / max(best, _work()):.3f}", flush=True)
        time.sleep(_EVERY)


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
