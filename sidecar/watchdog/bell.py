"""How the poller wakes up: in time, at once when it is called, and before others where it may.

It wakes fifty times a second for as long as there are loops, so what that takes is most of what an idle watch costs: an
`Event` is a lock, a condition and a list of waiters, this is one lock.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import Final

_NICE: Final = -10
# For how long a thread that computes may keep the interpreter when others wait for it: while there are loops, one of
# which may have to be looked at every 2 ms; and otherwise. A change of threads costs what caches held; by default it is
# 5 ms, for which a small request would wait for a large one.
_WATCHING_SECONDS: Final = 0.001
_NOTHING_TO_WATCH_SECONDS: Final = 0.002


class Bell:
    """Any thread rings, one waits. A ring that nobody waited for ends the next wait; several are one."""

    def __init__(self) -> None:
        self._silent = threading.Lock()  # held while there is nothing to wake up for
        self._silent.acquire()

    def ring(self) -> None:
        """Wake the one who waits, or is about to; returns at once."""
        with suppress(RuntimeError):  # it rang already
            self._silent.release()

    def wait(self, seconds: float) -> None:
        """Until it rings, at most so long."""
        self._silent.acquire(timeout=seconds)


def come_first() -> None:
    """Have the host prefer the calling thread: on a crowded one, who watches must not wait with who is watched.

    Where that is allowed (CAP_SYS_NICE), and where nobody gave the process a niceness of his own.
    """
    thread = threading.get_native_id()
    with suppress(OSError):
        if os.getpriority(os.PRIO_PROCESS, thread) == 0:
            os.setpriority(os.PRIO_PROCESS, thread, _NICE)


def be_quick(*, watching: bool) -> None:
    """Have the interpreter change threads as often as it takes to watch; for all of the process."""
    seconds = _WATCHING_SECONDS if watching else _NOTHING_TO_WATCH_SECONDS
    if sys.getswitchinterval() != seconds:
        sys.setswitchinterval(seconds)
