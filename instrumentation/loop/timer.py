"""`faulthandler`'s timer: a C thread that writes all stacks unless it is called off, whoever holds the interpreter.

There is one in a process. What this module refuses: to take it from the application. If it is running when we come, or
the application sets it later, we step aside until the application cancels it.

Whether it runs already nobody tells; but its thread is the kind that blocks every signal. Some other libraries' threads
do so too; then we needlessly step aside, which costs a stack. To learn of later uses, the two functions of the module
are replaced by ours, which take note and call them. Who imported them by name before is not noticed.
"""

from __future__ import annotations

import faulthandler
import functools
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_BLOCKED: Final = re.compile(r"^SigBlk:\t([0-9a-f]+)$", re.MULTILINE)
# All signals but KILL and STOP, which nobody can block, and the two that the C library keeps for itself.
_ALL_SIGNALS: Final = 0xFFFFFFFE7FFBFEFF


class Timer:
    """The timer, as far as the application leaves it to us. Between `open` and `close`."""

    def __init__(self) -> None:
        # Reentrant: a signal handler of the application may use the timer while the application does.
        self._lock = threading.RLock()
        self._in_use = False
        self._armed = False
        self._put_back: Callable[[], None] = lambda: None
        self._arm: Callable[..., None] = faulthandler.dump_traceback_later
        self._cancel: Callable[..., None] = faulthandler.cancel_dump_traceback_later

    @property
    def in_use(self) -> bool:
        """Whether the application uses it."""
        return self._in_use

    def open(self) -> None:
        """Look whether it is in use, and take note of uses from now on."""
        self._in_use = _runs()
        self._arm = arm = faulthandler.dump_traceback_later
        self._cancel = cancel = faulthandler.cancel_dump_traceback_later

        @functools.wraps(arm)
        def dump_traceback_later(*args: Any, **options: Any) -> None:
            with self._lock:
                arm(*args, **options)
                self._in_use, self._armed = True, False

        @functools.wraps(cancel)
        def cancel_dump_traceback_later() -> None:
            with self._lock:
                cancel()
                self._in_use = self._armed = False

        def put_back() -> None:  # where somebody wrapped ours meanwhile, they stay in the chain
            if faulthandler.dump_traceback_later is dump_traceback_later:
                faulthandler.dump_traceback_later = arm
            if faulthandler.cancel_dump_traceback_later is cancel_dump_traceback_later:
                faulthandler.cancel_dump_traceback_later = cancel

        faulthandler.dump_traceback_later = dump_traceback_later
        faulthandler.cancel_dump_traceback_later = cancel_dump_traceback_later
        self._put_back = put_back

    def arm(self, seconds: float, descriptor: int) -> None:
        """Unless cancelled or armed again before, write all stacks to `descriptor` in `seconds`. Replaces the last."""
        with self._lock:
            if not self._in_use:
                self._arm(max(0.001, seconds), file=descriptor)
                self._armed = True

    def cancel(self) -> None:
        """Call it off if it is ours. A dump that is being written is waited for."""
        with self._lock:
            if self._armed:
                self._cancel()
                self._armed = False

    def hold(self) -> None:
        """Call it off, and keep it off until `release`, in the same thread: the process forks.

        A child has no such thread, and waits for it for ever when it exits.
        """
        self._lock.acquire()
        self.cancel()

    def release(self) -> None:
        """After `hold`."""
        self._lock.release()

    def close(self) -> None:
        """Call it off, and leave the module as it was."""
        self.cancel()
        self._put_back()

    def forget(self) -> None:
        """In a forked child, where it does not run; after `hold`."""
        self._lock = threading.RLock()
        self._armed = False
        self._put_back()


def usable() -> bool:
    """Whether a dump can be made at all: without a global lock, frames change under the eyes of who reads them."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def _runs() -> bool:
    """Whether a thread of this process, none of Python's, blocks all signals."""
    known = {thread.native_id for thread in threading.enumerate()}
    for status in Path("/proc/self/task").glob("*/status"):
        if int(status.parent.name) in known:
            continue
        try:
            blocked = _BLOCKED.search(status.read_text())
        except OSError:  # it ended meanwhile
            continue
        if blocked is not None and int(blocked[1], 16) & _ALL_SIGNALS == _ALL_SIGNALS:
            return True
    return False
