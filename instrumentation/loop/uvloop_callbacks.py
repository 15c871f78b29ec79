"""Measures the callbacks of uvloop's loops, which run past asyncio's `Handle`.

uvloop keeps its handles, its ready queue and its timers in C. What a program hands to a loop goes through methods of
`uvloop.Loop`, and so does every step of a task; while installed, ours are in their place, and hand on an object that
measures the callback when it is called, and passes for it wherever uvloop shows it.

What it refuses: to import uvloop, which is the application's choice. What uvloop calls without any of these methods is
not measured: methods of a protocol (`data_received`), which it calls from C. Asyncio's streams only wake tasks there;
what an application does in a protocol of its own is charged to nobody.
One difference can be seen: the traceback of an exception that a plain callback raises has one more line, ours.
"""

# ruff: noqa: SLF001  # where a loop carries its account, see `slices`

from __future__ import annotations

import functools
import inspect
import sys
import threading
from asyncio import iscoroutine
from collections.abc import Callable
from typing import Any, Final

from instrumentation import tenancy

from .account import Account
from .eager_tasks import POSSIBLE, as_made_by_caller, create_task
from .executors import run_in_executor

_ABSENT: Final = object()
Run = Callable[..., Any]  # of a loop, a callback and its arguments


class UvloopCallbacks:
    """Puts itself between uvloop's loops and their callbacks.

    Args:
        adopt: makes the account of a loop at its first callback, or None to leave the loop alone; must not raise.
        abandon: told that the accounting of a loop failed; must not raise.
        resumed: told that code goes on whose context was another's meanwhile, see `eager_tasks`; must not raise.
        clock: nanoseconds, monotonic.
    """

    def __init__(
        self,
        adopt: Callable[[Any], Account | None],
        abandon: Callable[[Any, Exception], None],
        resumed: Callable[[], object],
        clock: Callable[[], int],
    ) -> None:
        self._adopt = adopt
        self._abandon = abandon
        self._resumed = resumed
        self._clock = clock
        self._kind: Any = None
        self._ours: dict[str, Any] = {}
        self._before: dict[str, Any] = {}
        self._retire: Callable[[], None] = lambda: None
        self._installing = threading.Lock()

    def install(self) -> None:
        """Account what is handed to uvloop's loops from now on, if the application has imported uvloop.

        Raises:
            AttributeError, TypeError: this uvloop is not as expected; nothing was changed.
        """
        module = sys.modules.get("uvloop")
        # Loops of two threads may be found at once; and to wait for a lock is out of the question here.
        if module is None or self._kind is not None or not self._installing.acquire(blocking=False):
            return
        try:
            self._install(module)
        finally:
            self._installing.release()

    def _install(self, module: object) -> None:
        kind: Any = getattr(module, "Loop", None)
        if self._kind is not None or kind is None:
            return
        run, self._retire = _runner(self._adopt, self._abandon, self._clock)
        self._ours = _methods(kind, run)
        self._ours["run_in_executor"] = run_in_executor(kind.run_in_executor)
        if POSSIBLE:
            self._ours["create_task"] = create_task(kind.create_task, self._resumed)
        self._before = {name: vars(kind).get(name, _ABSENT) for name in self._ours}
        self._kind = kind
        try:
            for name, method in self._ours.items():
                setattr(kind, name, method)
        except BaseException:
            self.uninstall()
            raise

    def uninstall(self) -> None:
        """Take our methods away; where somebody wrapped them meanwhile, they stay in the chain and only pass on."""
        kind, self._kind = self._kind, None
        if kind is None:
            return
        self._retire()
        for name, method in self._ours.items():
            if vars(kind).get(name) is method:
                if self._before[name] is _ABSENT:
                    delattr(kind, name)
                else:
                    setattr(kind, name, self._before[name])

    def runs(self, loop: object) -> bool:
        """Whether this loop's callbacks come through here."""
        return self._kind is not None and isinstance(loop, self._kind)

    def call_later(self, loop: Any) -> Callable[..., Any]:
        """Schedules a callback of our own on the loop, past the measuring: it is nobody's work."""
        later: Callable[..., Any] = self._ours["call_later"].__wrapped__
        return functools.partial(later, loop)


class _Measured(functools.partial[Any]):
    """Measures a callback when it is called, and passes for it wherever it is shown: `Handle.__repr__`, logs."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self.args[1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.args[1], name)


def _runner(
    adopt: Callable[[Any], Account | None],
    abandon: Callable[[Any, Exception], None],
    clock: Callable[[], int],
) -> tuple[Run, Callable[[], None]]:
    """What runs a callback, and what turns that into a pass-through. A closure, for this is the hot path."""
    live = True
    bound = tenancy.BOUND

    def run(loop: Any, callback: Any, *args: Any) -> Any:
        if not live:
            return callback(*args)
        try:
            account = loop._tenantscope_account
        except AttributeError:
            account = adopt(loop)
        if account is not None:
            try:
                binding, now = bound.get(), clock()
                if account.start:  # cannot be, but for a fault
                    account.end(now, loop)
                account.begin(now, binding)
            except BaseException as error:
                account.interrupted()
                if not isinstance(error, Exception):  # KeyboardInterrupt: the application's, as without us
                    raise
                abandon(loop, error)
                account = None
        # Outside of the handlers above: the application must not find an exception of ours in `__context__`.
        if account is None:
            return callback(*args)
        try:
            return callback(*args)
        finally:
            try:
                account.end(clock(), loop)
            except BaseException as error:
                account.interrupted()
                if not isinstance(error, Exception):
                    raise
                abandon(loop, error)

    def retire() -> None:
        nonlocal live
        live = False

    return run, retire


def _methods(kind: Any, run: Run) -> dict[str, Any]:
    """Our methods in place of those of `kind`: each hands on the same, but for the callback."""
    soon, threadsafe, later = kind.call_soon, kind.call_soon_threadsafe, kind.call_later
    reader, writer, signal = kind.add_reader, kind.add_writer, kind.add_signal_handler

    @functools.wraps(soon)
    def call_soon(self: Any, callback: Any, *args: Any, context: Any = None) -> Any:
        return as_made_by_caller(soon(self, _Measured(run, self, callback, *args), context=context))

    @functools.wraps(threadsafe)
    def call_soon_threadsafe(self: Any, callback: Any, *args: Any, context: Any = None) -> Any:
        return as_made_by_caller(threadsafe(self, _Measured(run, self, callback, *args), context=context))

    @functools.wraps(later)  # and `call_at`, which calls it
    def call_later(self: Any, delay: Any, callback: Any, *args: Any, context: Any = None) -> Any:
        return as_made_by_caller(later(self, delay, _Measured(run, self, callback, *args), context=context))

    @functools.wraps(reader)
    def add_reader(self: Any, fileobj: Any, callback: Any, *args: Any) -> Any:
        return reader(self, fileobj, _Measured(run, self, callback, *args))

    @functools.wraps(writer)
    def add_writer(self: Any, fileobj: Any, callback: Any, *args: Any) -> Any:
        return writer(self, fileobj, _Measured(run, self, callback, *args))

    @functools.wraps(signal)
    def add_signal_handler(self: Any, sig: Any, callback: Any, *args: Any) -> Any:
        if not iscoroutine(callback) and not inspect.iscoroutinefunction(callback):  # which uvloop refuses
            callback = _Measured(run, self, callback)
        return signal(self, sig, callback, *args)

    ours = (call_soon, call_soon_threadsafe, call_later, add_reader, add_writer, add_signal_handler)
    return {method.__name__: method for method in ours}
