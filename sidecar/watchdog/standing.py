"""Does a process run, or is it held for a reason that is nobody's fault? Did its thread get the CPU it asked for?"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Final

from sidecar.wire import process

from .cell import Cell
from .mode import Mode

_TRACER: Final = re.compile(rb"^TracerPid:\t(\d+)$", re.MULTILINE)
_READING_NS: Final = 20_000_000


class Standing(Enum):
    """What the system says of a process."""

    RUNS = "runs"
    HELD = "held"  # stopped by a signal, or under a debugger
    GONE = "gone"


def standing(pid: int, start: int) -> Standing:
    """Of the process with this pid and start time; a later process with the same pid is another one."""
    found = process.stat(pid)
    if found is None or found[1] != start or found[0] in "ZX":
        return Standing.GONE
    if found[0] in "Tt":
        return Standing.HELD
    try:
        status = process.read(f"/proc/{pid}/status")
    except OSError:
        return Standing.GONE
    tracer = _TRACER.search(status)
    return Standing.HELD if tracer is not None and tracer[1] != b"0" else Standing.RUNS


class System:
    """What can be looked up of the process of a cell, and what is to be believed where nothing can.

    Args:
        look_up: what the system says of a process (pid, start time).
        run_delay: how long a thread had no CPU so far (pid, thread), in nanoseconds.
    """

    def __init__(
        self,
        look_up: Callable[[int, int], Standing] = standing,
        run_delay: Callable[[int, int], int] = process.run_delay,
    ) -> None:
        self._look_up = look_up
        self._run_delay = run_delay

    def standing(self, cell: Cell) -> Standing:
        """Of its process; that it runs, unless something else is known."""
        if cell.mode is Mode.CELL:
            _, pid, start = cell.process
            return self._look_up(pid, start)
        return Standing.GONE if cell.abandoned() else Standing.RUNS

    def run_delay(self, cell: Cell, thread: int) -> int:
        """How long a thread of its process had no CPU, so far; 0 where that cannot be looked up."""
        return self._run_delay(cell.pid, thread) if cell.mode is Mode.CELL else 0


class Starvation:
    """How long the host kept one thread from running during a slice.

    Args:
        run_delay: of the thread, so far.
    """

    def __init__(self) -> None:
        # Two readings: one from before the running slice, and the last, for slices that are to come.
        self._before = self._last = (0, 0)

    def due(self, now: int) -> bool:
        """Whether it is time for a reading."""
        return now - self._last[0] >= _READING_NS

    def read(self, now: int, began: int, delay: int) -> None:
        """A reading, every now and then; `began` is the start of the running slice, 0 without one."""
        if not self._last[0] or not began or began >= self._last[0]:
            self._before = self._last if self._last[0] else (now, delay)
        self._last = (now, delay)

    def during(self, began: int, delay: int) -> int:
        """Nanoseconds, too much by what it was between the last reading and the slice's start; 0 when not known."""
        at, before = self._last if self._last[0] <= began else self._before
        return max(0, delay - before) if 0 < at <= began else 0
