"""Slice accounting: measures every callback of every asyncio loop in the process, by the tenant of its context.

`Handle._run` is the one place that every callback, task step and timer of asyncio goes through. While installed, ours
is in its place and calls the original, so that everything an application can see of a callback (its exception, the
loop's exception handler, debug mode) stays the original's business.

What it refuses: to be the reason that a callback does not run, or runs twice. When the accounting of a loop fails, the
fault is counted and that loop is left alone from then on. Loops that don't go through `Handle._run` (uvloop has its
own) are not accounted. With a nested loop (`run_until_complete` inside a callback, as nest_asyncio allows) the outer
callback is charged until the first inner one begins: afterwards nobody can tell its work from the inner loop's waiting.
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

from .account import LONG_NS, Account

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
        self._original: Run | None = None
        self._ours: Run | None = None
        self._retire: Callable[[], None] = lambda: None

    def install(self) -> None:
        """Account from the next callback on. Installing twice changes nothing."""
        if self._original is not None:
            return
        self._original = events.Handle._run
        self._ours, self._retire = _wrap(self._original, self._adopt, self._abandon, self._clock)
        events.Handle._run = self._ours  # type: ignore[method-assign,assignment]
        tenancy.on_switch(self._switched)

    def uninstall(self) -> None:
        """Put the very original back; where somebody wrapped ours meanwhile, stay in the chain and only pass on."""
        if self._original is None:
            return
        tenancy.on_switch(None)
        self._retire()
        if events.Handle._run is self._ours:
            events.Handle._run = self._original  # type: ignore[method-assign,assignment]
        self._original = None

    def _switched(self, binding: tenancy.Binding | None) -> None:
        """The running code works for another tenant from here on: the running slice ends, another begins."""
        loop: Any = events._get_running_loop()
        if loop is None:  # a plain thread: nobody's loop
            return
        try:
            account = getattr(loop, ATTRIBUTE, None)
            if account is None:
                _say_if_foreign(loop)
            elif account.start:
                slot = 0 if binding is None else binding.tenant.slot
                if slot != account.slot:
                    now = self._clock()
                    account.end(now, loop)
                    account.begin(now, slot)
        except Exception as error:
            self._abandon(loop, error)


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
                account.slot = slot = 0 if binding is None else binding.tenant.slot
                account.start = start = clock()
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
                        account.settle(now, slot, elapsed, loop)
                    account.words[_RUNNING] = 0
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


def _say_if_foreign(loop: object) -> None:
    """One line for every kind of loop that does not run its callbacks through asyncio's `Handle`."""
    kind = type(loop)
    if kind in _foreign_kinds or isinstance(loop, asyncio.BaseEventLoop):
        return
    _foreign_kinds.add(kind)
    count("loop.not_accounted")
    log.warning("this kind of event loop is not accounted", loop=f"{kind.__module__}.{kind.__qualname__}")
