"""Threads in `/proc`, looked at again and again: their files are opened once, for opening is most of what a look costs.

A descriptor is the thread's for which it was opened: when that has ended, reading fails, whoever gets its numbers
later. So what a thread's process is, is looked up once, and a look is two short reads.

What it refuses: to keep more than `MOST` threads, and to tell anything of a thread that is not known to be its
process's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from sidecar.wire import process

MOST: Final = 256  # of two descriptors; a process has 1024, and the cells and streams take theirs
GONE: Final = "X"  # the kernel's letter for it
_STAT_BYTES: Final = 512
_SCHEDSTAT_BYTES: Final = 128


class _Task:
    """One thread; its files are open for as long as this is there. `state` and `run_delay` raise when it has ended."""

    __slots__ = ("_schedstat", "_stat", "start")

    def __init__(self, pid: int, start: int, thread: int) -> None:
        self.start = start
        self._stat = self._schedstat = -1
        self._stat = os.open(f"/proc/{pid}/task/{thread}/stat", os.O_RDONLY | os.O_CLOEXEC)
        with suppress(OSError):  # a kernel that keeps no such account
            self._schedstat = os.open(f"/proc/{pid}/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        for descriptor in (self._stat, self._schedstat):
            if descriptor >= 0:
                os.close(descriptor)

    def state(self) -> str:
        stat = os.pread(self._stat, _STAT_BYTES, 0)
        # The command in parentheses may itself hold parentheses, and nothing after it does.
        return chr(stat[stat.rindex(b")") + 2])

    def run_delay(self) -> int:
        if self._schedstat < 0:
            return 0
        return int(os.pread(self._schedstat, _SCHEDSTAT_BYTES, 0).split(b" ")[1])


class Tasks:
    """The threads that were asked for. Not for more than one thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._open: dict[tuple[int, int], _Task] = {}  # by pid and thread; the oldest first

    def state(self, pid: int, start: int, thread: int) -> str:
        """The kernel's letter for the state of a thread of the process with this pid and start time; `GONE` without."""
        task = self._open.get((pid, thread))
        if task is None or task.start != start:
            task = self._opened(pid, start, thread)
            if task is None:
                return GONE
        try:
            return task.state()
        except (OSError, ValueError, IndexError):
            self._open.pop((pid, thread), None)
            return GONE

    def run_delay(self, pid: int, thread: int) -> int:
        """Nanoseconds that a thread was ready and had no CPU, since it began; 0 of one that is not known, or gone."""
        task = self._open.get((pid, thread))
        if task is None:
            found = process.stat(pid)
            task = None if found is None else self._opened(pid, found[1], thread)
        try:
            return 0 if task is None else task.run_delay()
        except (OSError, ValueError, IndexError):
            self._open.pop((pid, thread), None)
            return 0

    def _opened(self, pid: int, start: int, thread: int) -> _Task | None:
        self._open.pop((pid, thread), None)
        try:
            task = _Task(pid, start, thread)
        except OSError:
            return None
        # Looked up when the files are open: the process had the pid before, too.
        found = process.stat(pid)
        if found is None or found[1] != start:
            return None
        if len(self._open) >= self._most:
            del self._open[next(iter(self._open))]
        self._open[pid, thread] = task
        return task
