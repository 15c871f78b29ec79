"""Slice accounting: measures every callback of every event loop in the process, by the tenant of its context.

`Handle._run` is the one place that every callback, task step and timer of asyncio goes through, and of all loops that
build on asyncio's. While installed, ours is in its place and calls the original, so that everything an application can
see of a callback (its exception, the loop's exception handler, debug mode) stays the original's business. uvloop has
handles of its own, see `uvloop_callbacks`.

What it refuses: to be the reason that a callback does not run, or runs twice. When the accounting of a loop fails, the
fault is counted and that loop is left alone from then on. A kind of loop that is neither, or whose inside is not as
expected, is not accounted, and said to be so once. With a nested loop (`run_until_complete` inside a callback, as
nest_asyncio allows) the outer callback is charged until the first inner one begins: afterwards nobody can tell its work
from the inner loop's waiting.
"""
# ruff: noqa: SLF001  # asyncio's seam, pinned by tests/event_loop

from __future__ import annotations

import asyncio
from asyncio import events
from collections.abc import Callable
from typing import Any, Final

from instrumentation import tenancy
from instrumentation.diagnostics import count, log
from sidecar.wire import cell as layout

from . import eager_tasks
from .account import LONG_NS, Account
from .executors import run_in_executor
from .uvloop_callbacks import UvloopCallbacks

ATTRIBUTE: Final = "_tenantscope_account"  # where a loop carries its account; None: not accounted
_RUNNING: Final = layout.RUNNING
_START_BITS: Final = layout.START_BITS
Run = Callable[[asyncio.Handle], None]


class Slices:
    """Puts itself between asyncio's loops and their callbacks.

    Args:
        adopt: makes the account of a loop at its first callback, or None to leave the loop alone; must not raise.
        abandon: told that the accounting of a loop failed; must not raise.
        clock: nanoseconds, monotonic.
    """

    def __init__(
        self,
        adopt: Callable[[Any], Account | None],
        abandon: Callable[[Any, Exception], None],
        clock: Callable[[], int],
    ) -> None:
        self._adopt = adopt
        self._abandon = abandon
        self._clock = clock
        self._uvloop = UvloopCallbacks(adopt, abandon, self._resumed, clock)
        self._installed = False
        # (owner, name, what stood there, what we put there)
        self._changes: list[tuple[type, str, Any, Any]] = []
        self._retire: Callable[[], None] = lambda: None

    def install(self) -> None:
        """Account from the next callback on, loops of each kind that is as expected. Twice is as good as once."""
        if self._installed:
            return
        self._installed = True
        for kind, install in (("asyncio", self._install), ("uvloop", self._uvloop.install)):
            try:
                install()
            except Exception as error:
                _not_accounted(kind, error)
        tenancy.on_switch(self._switched)

    def _install(self) -> None:
        original: Any = vars(events.Handle).get("_run")
        if not callable(original) or not {"_loop", "_context"} <= set(events.Handle.__slots__):
            raise LookupError("asyncio's Handle is not as expected")
        run, self._retire = _wrap(original, self._adopt, self._abandon, self._clock)
        self._put(events.Handle, "_run", original, run)
        loop = asyncio.BaseEventLoop
        self._put(loop, "run_in_executor", loop.run_in_executor, run_in_executor(loop.run_in_executor))
        if eager_tasks.POSSIBLE:
            self._put(loop, "create_task", loop.create_task, eager_tasks.create_task(loop.create_task, self._resumed))

    def _put(self, owner: type, name: str, before: Any, ours: Any) -> None:
        setattr(owner, name, ours)
        self._changes.append((owner, name, before, ours))

    def uninstall(self) -> None:
        """Put the very original back; where somebody wrapped ours meanwhile, stay in the chain and only pass on."""
        if not self._installed:
            return
        self._installed = False
        tenancy.on_switch(None)
        self._uvloop.uninstall()
        self._retire()
        for owner, name, before, ours in self._changes:
            if vars(owner).get(name) is ours:
                setattr(owner, name, before)
        self._changes = []

    def accounts(self, loop: object) -> bool:
        """Whether this loop's callbacks come through here."""
        return isinstance(loop, asyncio.BaseEventLoop) or self._uvloop.runs(loop)

    def call_later(self, loop: asyncio.AbstractEventLoop) -> Callable[..., asyncio.TimerHandle]:
        """`loop.call_later` for a callback of our own, which nobody waits for."""
        return self._uvloop.call_later(loop) if self._uvloop.runs(loop) else loop.call_later

    def _switched(self, binding: tenancy.Binding | None, before: tenancy.Binding | None = None) -> None:
        """The running code works for another tenant from here on: the running slice ends, another begins."""
        loop: Any = events._get_running_loop()
        if loop is None:  # a plain thread: nobody's loop
            return
        try:
            account = getattr(loop, ATTRIBUTE, None)
            if account is None:
                if not isinstance(loop, asyncio.BaseEventLoop):
                    self._found(loop)
            elif account.start:
                slot, turn = (0, None) if binding is None else (binding.tenant.slot, binding.turn)
                if slot != account.slot or turn is not account.turn:
                    try:
                        account.switch(self._clock(), slot, turn, loop, before)
                    except BaseException:  # KeyboardInterrupt too: the loop is not to look busy ever after
                        account.interrupted()
                        raise
        except Exception as error:
            self._abandon(loop, error)

    def _resumed(self) -> None:
        """Code goes on whose context was another's meanwhile."""
        if self._installed:
            self._switched(tenancy.BOUND.get())

    def _found(self, loop: Any) -> None:
        """A loop that is not of asyncio's making: uvloop may have been imported after `install`."""
        if self._uvloop.runs(loop) or type(loop) in _foreign_kinds:
            return  # its next callback will tell; it was told
        try:
            self._uvloop.install()
        except Exception as error:
            _not_accounted("uvloop", error)
        if not self._uvloop.runs(loop):
            _say_that_foreign(loop)
        elif not self._installed:  # `uninstall` in another thread, this very moment
            self._uvloop.uninstall()


def _wrap(  # noqa: C901  # the hot path is written out: two calls less are 0.05 us less
    original: Run,
    adopt: Callable[[Any], Account | None],
    abandon: Callable[[Any, Exception], None],
    clock: Callable[[], int],
) -> tuple[Run, Callable[[], None]]:
    """Our `Handle._run`, and what turns it into a pass-through. A closure, for this is the hot path."""
    live = True
    bound = tenancy.BOUND

    def _run(handle: Any) -> None:  # noqa: C901
        if not live:
            return original(handle)
        loop = handle._loop
        try:
            account = loop._tenantscope_account
        except AttributeError:
            account = adopt(loop)
        if account is not None:
            try:
                if account.start:  # a nested loop: the callback that runs it stands still meanwhile
                    account.end(clock(), loop)
                binding = handle._context.get(bound)
                if binding is None:
                    slot = account.slot = 0
                    account.turn = None
                else:
                    slot = account.slot = binding.tenant.slot
                    account.turn = binding.turn
                start = clock()
                if start >= account.read_at:
                    start = account.read(start)
                account.start = start
                account.words[_RUNNING] = start & _START_BITS | slot
            except BaseException as error:
                account.interrupted()
                if not isinstance(error, Exception):  # KeyboardInterrupt: the application's, as without us
                    raise
                abandon(loop, error)
                account = None
        # Outside of the handlers above: the application must not find an exception of ours in `__context__`.
        if account is None:
            return original(handle)
        try:
            return original(handle)
        finally:
            try:
                now = clock()
                start = account.start
                if start:  # else a nested loop, a fork or `stop` has ended the slice; for the rest see Account.end
                    account.start = 0
                    slot = account.slot
                    elapsed = now - start
                    account.active[slot] += elapsed
                    account.slices[slot] += 1
                    if elapsed > account.longest[slot]:
                        account.longest[slot] = elapsed
                    if elapsed >= LONG_NS or now >= account.publish_at:
                        account.settle(now, slot, elapsed, loop, handle._context.get(bound))
                    account.words[_RUNNING] = 0
                    if account.turn is not None:
                        account.turn.hold(elapsed, loop)
            except BaseException as error:
                account.interrupted()
                if not isinstance(error, Exception):
                    raise
                abandon(loop, error)

    def retire() -> None:
        nonlocal live
        live = False

    return _run, retire


_foreign_kinds: set[type] = set()


def _say_that_foreign(loop: object) -> None:
    """One line for every kind of loop that does not run its callbacks where we could measure them."""
    kind = type(loop)
    _foreign_kinds.add(kind)
    _not_accounted(f"{kind.__module__}.{kind.__qualname__}", None)


def _not_accounted(kind: str, error: Exception | None) -> None:
    count("loop.not_accounted")
    why = {} if error is None else {"error": type(error).__name__}
    log.warning("this kind of event loop is not accounted", loop=kind, **why)
