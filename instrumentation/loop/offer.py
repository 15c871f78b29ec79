"""What this process offers a watchdog for reading the stack of a loop's thread from its memory (`sidecar.wire.frames`).

That works while C code holds the interpreter, and costs this process nothing: nothing of ours runs here. Offered is the
address of the thread's state, and the version of Python whose structs hold. The proof comes first, once a process: a
thread of ours waits in known frames, which are read through `/proc/self/mem` exactly as the watchdog would, and what
comes out must be what Python itself says.

What it refuses: to offer what it has not proved, or what the settings forbid (`never`); to change the
`ctypes.pythonapi` that the application may use; and, but for `granted`, to lift any protection of the system. To grant
means Yama's `PR_SET_PTRACER`: the watchdog may then trace this process, which is more than to read it, and whoever was
granted that before is not any longer. So an application asks for it, or it does not happen.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from instrumentation.diagnostics import count, fault, log
from instrumentation.settings import GRANTED, NEVER, PERMITTED
from sidecar.wire import frames, process
from sidecar.wire.memory import ForbiddenError, Memory, TornError

_PYTHON: Final = sys.hexversion >> 16
_PR_SET_PTRACER: Final = 0x59616D61
_PATIENCE_SECONDS: Final = 1.0  # for a thread to come up; a container at its limit of CPU stands still for that long
_TRIES: Final = 50
_PAUSE_SECONDS: Final = 0.002


class Offer:
    """What one process offers.

    Args:
        read_stacks: `permitted`, `granted` or `never`.

    Attributes:
        python: for the cell's word of that name.
    """

    def __init__(self, read_stacks: str = PERMITTED) -> None:
        self.python = _PYTHON if read_stacks != NEVER and _proved() else 0
        self._may_grant = read_stacks == GRANTED and self.python != 0
        self._granted: int | None = None

    def thread_state(self) -> int:
        """For the cell's word of that name: of the thread that calls this."""
        return _thread_state_of_caller()() if self.python else 0

    def grant(self, watchdog: int) -> None:
        """The watchdog (its pid) may not read: let it, if the application asked for that."""
        if not self._may_grant or watchdog == self._granted or watchdog <= 0:
            return
        try:
            _let_trace(watchdog)
            self._granted = watchdog
            log.info("granted: the sidecar may trace this process, to read its stacks", pid=watchdog)
        except OSError as error:
            self._may_grant = False  # no Yama here: then there is nothing that it could allow
            count("stacks.not_granted")
            log.warning("the sidecar cannot be granted to read stacks", error=error.strerror)

    def withdraw(self) -> None:
        """Nobody may trace us any longer, if somebody was granted it."""
        if self._granted is not None:
            self._granted = None
            try:
                _let_trace(0)
            except OSError as error:
                fault("loop.offer", error)


@functools.cache
def _proved() -> bool:
    """Whether frames of this build of Python are where the table says; told once when not."""
    if _PYTHON not in frames.LAYOUTS:
        why = "this version of Python is not known"
    else:
        try:
            why = _misread()
        except (ForbiddenError, TornError) as error:
            why = str(error)
        except Exception as error:  # no `ctypes`, no more threads, a sandbox
            why = type(error).__name__
    if why:
        count("stacks.not_offered")
        log.info("stacks cannot be read from outside, a thread in the process takes them", why=why)
    return not why


def _misread() -> str:
    """Read the stack of a thread that waits, as a watchdog would; what is wrong with it, empty when nothing is.

    Raises:
        ForbiddenError, TornError: it could not be read at all.
    """
    _thread_state_of_caller()  # fails here, if it does: the hook for exceptions in threads is the application's
    waiting = _Waiting()
    waiting.thread.start()
    try:
        waiting.there.wait(_PATIENCE_SECONDS)
        with Memory(os.getpid(), process.own_start()) as memory:
            for _ in range(_TRIES):
                before = waiting.stack()
                try:
                    read = frames.stack(memory.read, waiting.whose()) if before else None
                except TornError:
                    if before == waiting.stack():
                        raise
                    continue
                if before and before == waiting.stack():  # it stood still, so this is what was to be read
                    return "" if read == [frame for frame, _ in before] else "its frames are read wrongly"
                waiting.thread.join(_PAUSE_SECONDS)
        return "a thread of this process could not be made to wait"
    finally:
        waiting.release()


class _Waiting:
    """A thread that waits in a function, called in the middle of an expression of many lines, in a generator."""

    def __init__(self) -> None:
        self.thread = threading.Thread(target=self._outer, name="tenantscope-proof", daemon=True)
        self.there = threading.Event()
        self._state = 0
        self._gate = threading.Lock()
        self._gate.acquire()

    def whose(self) -> frames.Thread:
        """As it would be announced."""
        return frames.Thread(_PYTHON, self._state, self.thread.ident or 0, self.thread.native_id or 0)

    def stack(self) -> list[tuple[frames.Frame, int]]:
        """Where it is, by Python's own account, to the instruction."""
        frame = sys._current_frames().get(self.thread.ident or 0)  # noqa: SLF001  # documented, and the only way
        found: list[tuple[frames.Frame, int]] = []
        while frame is not None and len(found) < frames.MAX_FRAMES:
            code = frame.f_code
            file, function = code.co_filename[-frames.MAX_TEXT :], code.co_qualname[-frames.MAX_TEXT :]
            found.append(((file, frame.f_lineno or 0, function), frame.f_lasti))
            frame = frame.f_back
        return found

    def release(self) -> None:
        self._gate.release()
        self.thread.join(_PATIENCE_SECONDS)

    def _outer(self) -> None:
        self._state = _thread_state_of_caller()()
        self.there.set()
        max(
            0,
            *self._inner(
                self._gate.acquire,
            ),
        )

    def _inner(self, wait: Callable[[], bool]) -> Iterator[int]:
        yield 0
        yield int(
            wait(),
        )


@functools.cache
def _thread_state_of_caller() -> Callable[[], int]:
    # A library object of our own: attributes of `ctypes.pythonapi` are shared with the application.
    import ctypes

    get: Any = ctypes.PyDLL(None).PyThreadState_Get
    get.argtypes, get.restype = (), ctypes.c_void_p
    return get  # type: ignore[no-any-return]


def _let_trace(pid: int) -> None:
    """Yama's exception for one process, 0 for none.

    Raises:
        OSError: there is no Yama, or no such process.
    """
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    word = ctypes.c_ulong
    if prctl(_PR_SET_PTRACER, word(pid), word(0), word(0), word(0)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
