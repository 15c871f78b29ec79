"""Does a process run, or is it held for a reason that is nobody's fault? Did its thread get the CPU it asked for?"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol

from sidecar.wire import process

from .cell import Cell
from .freezer import frozen
from .mode import Mode
from .tasks import Tasks

_TRACER: Final = re.compile(rb"^TracerPid:\t(\d+)$", re.MULTILINE)
_READING_NS: Final = 20_000_000


class Standing(Enum):
    """What the system says of a process."""

    RUNS = "runs"
    HELD = "held"  # stopped by a signal, frozen, or under a debugger
    GONE = "gone"


class Proc:
    """What `/proc` says, of threads by files that are kept open. Not for more than one thread."""

    def __init__(self) -> None:
        self._tasks = Tasks()

    def standing(self, pid: int, start: int, thread: int = 0) -> Standing:
        """Of the process with this pid and start time; a later process with the same pid is another one.

        Its `thread` is looked up instead where that is known to be its own: what a process stops for stops all threads,
        and the kernel sums up the times of all of them for who asks about the process.
        """
        if thread:
            state = self._tasks.state(pid, start, thread)
            if state not in "ZX":
                return Standing.HELD if state in "Tt" else Standing.RUNS
        # Threads may end before their process.
        found = process.stat(pid)
        if found is None or found[1] != start or found[0] in "ZX":
            return Standing.GONE
        return Standing.HELD if found[0] in "Tt" else Standing.RUNS

    def traced(self, pid: int) -> bool:
        """Whether a debugger has it, though it may run at this moment."""
        try:
            tracer = _TRACER.search(process.read(f"/proc/{pid}/status"))
        except OSError:
            return False
        return tracer is not None and tracer[1] != b"0"

    def run_delay(self, pid: int, thread: int) -> int:
        """Nanoseconds that a thread was ready and had no CPU, since it began; 0 when the system does not tell."""
        return self._tasks.run_delay(pid, thread)


class Lookup(Protocol):
    """What `Proc` does."""

    def standing(self, pid: int, start: int, thread: int) -> Standing: ...
    def traced(self, pid: int) -> bool: ...
    def run_delay(self, pid: int, thread: int) -> int: ...


class System:
    """What can be looked up of the process of a cell, and what is to be believed where nothing can.

    Args:
        proc: what the system says.
        clock: nanoseconds of `CLOCK_MONOTONIC`.
        frozen: whether a process's control group is.
    """

    def __init__(
        self,
        proc: Lookup | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        frozen: Callable[[int], bool] = frozen,
    ) -> None:
        self._proc = proc or Proc()
        self.clock = clock
        self._frozen = frozen

    def standing(self, cell: Cell, thread: int = 0) -> Standing:
        """Of its process; that it runs, unless something else is known. `thread` is its loop's, if that is known."""
        if cell.mode is Mode.CELL:
            _, pid, start = cell.process
            return self._proc.standing(pid, start, thread)
        return Standing.GONE if cell.abandoned() else Standing.RUNS

    def traced(self, cell: Cell) -> bool:
        """Whether a debugger has it; dearer to ask than `standing`."""
        return cell.mode is Mode.CELL and self._proc.traced(cell.pid)

    def frozen(self, cell: Cell) -> bool:
        """Whether its container is; dearer to ask than `standing`, which does not tell."""
        return cell.mode is Mode.CELL and self._frozen(cell.pid)

    def run_delay(self, cell: Cell, thread: int) -> int:
        """How long a thread of its process had no CPU, so far; 0 where that cannot be looked up."""
        return self._proc.run_delay(cell.pid, thread) if cell.mode is Mode.CELL else 0

    def reading(self, cell: Cell, thread: int) -> tuple[int, int]:
        """Its `run_delay`, and a moment before which that was so."""
        delay = self.run_delay(cell, thread)
        # Asked afterwards: whoever looks may have had no CPU either, since the look began.
        return self.clock(), delay


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
        """A reading, done by `now`, every now and then; `began` is the start of the running slice, 0 without one."""
        if not self._last[0] or not began or began >= self._last[0]:
            self._before = self._last if self._last[0] else (now, delay)
        self._last = (now, delay)

    def during(self, began: int, delay: int) -> int:
        """Nanoseconds, too much by what it was between the last reading and the slice's start; 0 when not known."""
        at, before = self._last if self._last[0] <= began else self._before
        return max(0, delay - before) if 0 < at <= began else 0
