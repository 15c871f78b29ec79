"""The memory of a process, read from outside: nothing runs there, and nothing there is changed.

`/proc/<pid>/mem`, opened for reading only. The kernel asks once, at the opening, whether we may trace that process:
the same user, no more privileges than ours, and what Yama (`kernel.yama.ptrace_scope`) says. The descriptor stays with
the memory it was opened on, so a process that ends or becomes another program reads as nothing, never as its successor.

What it refuses: a read that comes back short.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Final, Self

from . import process

_HIGHEST: Final = 2**56  # no address of a program is as high, in 64 bits


class ForbiddenError(Exception):
    """The memory of this process cannot be read from here; the message says why."""


class TornError(Exception):
    """What was read is not what was to be there: it changed meanwhile, or never was."""


class Memory:
    """A process's memory, to be used in a `with`.

    Args:
        pid: of the process.
        start: its start time, as `process.stat` tells it: a later process with its pid is another one.

    Raises:
        ForbiddenError: no such process, or not to be read from here.
    """

    def __init__(self, pid: int, start: int) -> None:
        try:
            self._descriptor = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            raise ForbiddenError(f"the system does not let the sidecar read the process's memory{_yama()}") from None
        except OSError as error:
            raise ForbiddenError(f"the process's memory cannot be opened: {error.strerror}") from None
        # Asked after the opening: who has the pid now had it then.
        found = process.stat(pid)
        if found is None or found[1] != start:
            os.close(self._descriptor)
            raise ForbiddenError("the process is gone")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)

    def read(self, address: int, length: int) -> bytes:
        """So many bytes from an address on.

        Raises:
            TornError: nothing is there, or not as much.
        """
        if not 0 < address < _HIGHEST:
            raise TornError("not an address")
        try:
            raw = os.pread(self._descriptor, length, address)
        except OSError:
            raise TornError("nothing is there") from None
        if len(raw) != length:
            raise TornError("not as much is there")
        return raw


def _yama() -> str:
    """What Yama has to do with it, for people."""
    try:
        scope = process.read("/proc/sys/kernel/yama/ptrace_scope").decode("ascii", "replace").strip()
    except OSError:
        return ""
    return f" (kernel.yama.ptrace_scope is {scope})" if scope != "0" else ""
