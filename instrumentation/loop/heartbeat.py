"""A timer on the loop that says how late the loop is, and that notices when the loop is closed.

It belongs to no tenant (an empty context), does not keep the loop running, and needs no goodbye: a loop that is closed
drops its timers, and a weak reference to ours tells of that at once.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from contextvars import Context
from typing import Final

from instrumentation.diagnostics import fault

from .account import Account

PERIOD_NS: Final = 50_000_000
CallLater = Callable[[asyncio.AbstractEventLoop], Callable[..., asyncio.TimerHandle]]


class Heartbeat:
    """Beats on one loop until `cancel`, or until the loop is closed.

    Args:
        account: of the loop; learns each lateness.
        closed: called with the account, once, from wherever the loop was closed. Must take no lock.
        call_later: what schedules a callback of our own on a loop.
    """

    def __init__(self, account: Account, closed: Callable[[Account], None], call_later: CallLater) -> None:
        self._account = account
        self._closed = closed
        self._call_later = call_later
        self._due = 0
        self._timer: weakref.ref[asyncio.TimerHandle] | None = None

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Schedule the next beat; on the loop's thread."""
        self._due = self._account.clock() + PERIOD_NS
        timer = self._call_later(loop)(PERIOD_NS / 1e9, self._beat, loop, context=Context())
        self._timer = weakref.ref(timer, self._dropped)

    def timer(self) -> asyncio.TimerHandle | None:
        """The scheduled beat."""
        return None if self._timer is None else self._timer()

    def cancel(self) -> None:
        """Beat no more."""
        timer = self.timer()
        self._timer = None
        if timer is not None:
            timer.cancel()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None:
            return
        try:
            now = self._account.clock()
            self._account.late(now, max(0, now - self._due))
            self.arm(loop)
        except Exception as error:
            fault("loop.heartbeat", error)

    def _dropped(self, timer: weakref.ref[asyncio.TimerHandle]) -> None:
        if timer is not self._timer:  # one that beat, and was replaced
            return
        loop = self._account.loop()
        if loop is None or loop.is_closed():
            self._timer = None
            self._closed(self._account)
