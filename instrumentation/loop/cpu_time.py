"""How much CPU time did each tenant's slices take, and how much the loop itself?

A slice may take long because it computes, because it blocks in a call, or because the host let its thread wait. To tell
the first from the others, the CPU clock of the loop's thread is read: not for each slice, for that is a system call of
0.3 us, but whenever the account is settled, which is every few milliseconds and at the end of each long slice.

What happened between two readings is then divided. Short slices are taken to compute while they last. What is left
belongs to the long slice that has just ended, and to the loop's own work (polling, timers, taking callbacks off its
queue), of which it is known how much a slice costs. So the sums are exact, and a single long slice is charged too much
or too little by at most what happened in the milliseconds before it.

What it refuses: to charge a slice with more CPU time than it lasted. When a loop runs in another thread than at the
reading before, its CPU time in between is not known, and nobody's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence

from sidecar.wire import process


class CpuTime:
    """The CPU time of one loop; used on its thread, times in nanoseconds.

    Attributes:
        used: by tenant slot.
        framework: of the loop's own work.
    """

    __slots__ = ("_clock", "_cost", "_read", "_read_at", "_thread", "framework", "used")

    def __init__(self, slots: int, now: int, clock: Callable[[], int]) -> None:
        self.used = [0] * slots
        self.framework = 0
        self._clock = clock
        self._cost = 0.0  # of the loop's own work, for each slice
        self._thread = threading.get_ident()
        self._read, self._read_at = clock(), now

    def settle(self, now: int, had: Sequence[tuple[int, int]], slices: int, long: tuple[int, int] | None) -> None:
        """Divide the CPU time since the last call.

        Args:
            now: end of the slice that has just ended.
            had: (slot, time) that each tenant has had the loop since the last call.
            slices: how many slices that were.
            long: (slot, time) of the slice that has just ended, when it was a long one; part of `had`.
        """
        thread, read = threading.get_ident(), self._clock()
        used = read - self._read if thread == self._thread else 0
        wall = now - self._read_at
        self._thread, self._read, self._read_at = thread, read, now
        culprit, held = long or (-1, 0)
        active = sum(time for _, time in had)
        short = active - held
        computed = min(short, used)
        if computed > 0:
            for slot, time in had:
                self.used[slot] += (time - held if slot == culprit else time) * computed // short
        left, outside = max(0, used - computed), max(0, wall - active)
        if long is None:
            self._cost = min(left, outside) / max(1, slices)
        else:
            computed = min(held, left - min(left, outside, round(self._cost * slices)))
            self.used[culprit] += computed
            left -= computed
        self.framework += min(left, outside)


class CpuDelay:
    """How long the host had no CPU for threads that were ready to run.

    Args:
        run_delay: of a thread (process id, native thread id), in nanoseconds since it began.
    """

    def __init__(self, run_delay: Callable[[int, int], int] = process.run_delay) -> None:
        self._run_delay = run_delay
        self._last: dict[int, int] = {}
        self._total = 0

    def read(self, threads: Iterable[int]) -> int:
        """Nanoseconds since the first reading of each thread, of all that were ever read. Not for a loop's thread."""
        found = {thread: self._run_delay(os.getpid(), thread) for thread in set(threads)}
        self._total += sum(max(0, delay - self._last.get(thread, delay)) for thread, delay in found.items())
        self._last = found
        return self._total
