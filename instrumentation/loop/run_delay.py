"""For how long did the host have no CPU for a loop's thread while a slice lasted?

The kernel counts that for each thread since it began. Whoever asks when the slice is over and gone has to take what
came afterwards for the slice's, too; so the loop's thread asks itself, at the end of each long slice, and before a
slice when the last reading is more than 5 ms old. The difference of two readings is what a long slice lacked, and what
the thread lacked in the at most 5 ms before it.

A reading takes about 5 us. What it refuses: to give the interpreter up, as every system call from Python does, and
beside a thread that computes it takes 5 ms to come back; to keep a descriptor, which would be somebody else's after a
fork, or after a program closed all it found; and to say 0 where the kernel does not count.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any, Final

from instrumentation.diagnostics import fault

_PATH: Final = b"/proc/thread-self/schedstat"  # time on a CPU, time ready without one, times that it got one
_MAX_BYTES: Final = 128


class RunDelay:
    """What one loop's thread lacked between two readings; used on that thread.

    Args:
        read: nanoseconds that the calling thread was ready and had no CPU, since it began; None when not known.
    """

    __slots__ = ("_last", "_read", "_thread")

    def __init__(self, read: Callable[[], int | None]) -> None:
        self._read = read
        self._thread, self._last = threading.get_native_id(), read()

    def since_last(self) -> int | None:
        """Nanoseconds since the reading before; None when not known, or when another thread did that."""
        last = self._last if threading.get_native_id() == self._thread else None
        self._thread, self._last = threading.get_native_id(), self._read()
        if last is None or self._last is None or self._last < last:
            return None
        return self._last - last


def own() -> int | None:
    """Nanoseconds that the calling thread was ready and had no CPU, since it began; None when the system does not tell.

    Never raises, and never gives the interpreter up.
    """
    calls = _calls()
    if calls is None:
        return None
    new, open_, read, close = calls
    descriptor = open_(_PATH, os.O_RDONLY | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    try:
        text = new()
        size = read(descriptor, text, _MAX_BYTES)
        fields = text.raw[: max(0, size)].split()
    finally:
        close(descriptor)
    # A kernel that does not count says 0 to all; a thread that asks has had a CPU once, if not yet for a tick.
    return int(fields[1]) if len(fields) == 3 and fields[2] != b"0" and fields[1].isdigit() else None


@functools.cache
def _calls() -> tuple[Any, Any, Any, Any] | None:
    """What makes room for a text, and the system's `open`, `read` and `close`; None where there is no `ctypes`."""
    try:
        import ctypes

        # Of our own, and of the kind that keeps the interpreter.
        library = ctypes.PyDLL(None)
        library.open.argtypes = ctypes.c_char_p, ctypes.c_int
        library.read.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
        library.read.restype = ctypes.c_ssize_t
        library.close.argtypes = (ctypes.c_int,)
        return ctypes.c_char * _MAX_BYTES, library.open, library.read, library.close
    except Exception as error:
        fault("loop.run_delay", error)
        return None
