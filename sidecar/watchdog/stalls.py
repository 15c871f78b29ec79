"""The stalls of all loops: from the slice that is found overdue to its end, with its stack and its victims.

Whether a slice is a stall, the poll judges. One that is found while it runs gets its stack, and its alert waits for
that a little; it ends when the cell shows another slice, or none. One that had ended before anybody looked, for the
watchdog had no CPU or the slice was hardly too long, is told all the same, late and without a stack.

What it refuses: to show a stack that may be another slice's, and victims that may be another slice's.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import RLock
from typing import Any, Final

from sidecar.alerts import Alert, printable
from sidecar.wire import cell as layout

from .cell import RefusedError
from .mode import Mode
from .stacks import Answer, Asked, Found
from .stall import ENDED_UNSEEN, Stall
from .watched import Watched

STACK_WAIT_NS: Final = 8_000_000  # what the alert waits for its stack
REFRESH_NS: Final = 100_000_000  # how often the stack of a stall that lasts is asked for anew, at most
REMEMBERED: Final = 256


class Stalls:
    """Not for more than one thread, but for the answers.

    Args:
        runbook_url: base URL of the runbooks, or empty.
        wall: the present time, for the alerts.
        ask: has a stack found, and answers from any thread.
        whose: the loop that has this stall now, if any does.
        lock: held by the caller of every method; answers take it themselves.
        clock: nanoseconds of `CLOCK_MONOTONIC`, to be read beside `wall`.
    """

    def __init__(
        self,
        runbook_url: str,
        wall: Callable[[], datetime],
        ask: Callable[[Asked, Answer], None],
        whose: Callable[[Stall], Watched | None],
        lock: RLock,
        clock: Callable[[], int],
    ) -> None:
        self._runbook_url = runbook_url
        self._wall = wall
        self._ask = ask
        self._whose = whose
        self._lock = lock
        self._clock = clock
        self._ids = itertools.count(1)
        self._last: deque[Stall] = deque(maxlen=REMEMBERED)

    def begin(self, watched: Watched, running: int, now: int) -> None:
        """A slice that runs is overdue."""
        # What was read may have been torn or have changed while the process was looked up; what stands is read twice.
        if watched.cell.header()[layout.RUNNING] != running:
            return
        stall = self._found(watched, running, watched.cell.suffered())
        stall.alert_by = now + (0 if watched.cell.mode is Mode.HEARTBEATS else STACK_WAIT_NS)
        watched.stall = stall
        self._ask_for_stack(watched, stall, now)

    def go_on(self, watched: Watched, stall: Stall, now: int, alerts: list[Alert]) -> None:
        """It lasts: see to its stack, and to its alert."""
        if now >= stall.look_at and not stall.awaited:
            self._ask_for_stack(watched, stall, now)
        if stall.alerted is None and (stall.stack or now >= stall.alert_by):
            alerts.append(stall.fire(now, self._runbook_url))

    def end(self, watched: Watched, stall: Stall, ended: int, now: int, alerts: list[Alert]) -> None:
        """It is over."""
        try:
            suffered = watched.cell.suffered()
        except RefusedError:
            suffered = {}
        stall.victims = tuple(
            printable(watched.cell.name(holder))
            for holder, suffering in suffered.items()
            if suffering > stall.suffered.get(holder, 0)
        )
        watched.stall = None
        self._over(stall, ended, now, alerts)

    def missed(self, watched: Watched, running: int, ended: int, now: int, alerts: list[Alert]) -> None:
        """A slice that is over was overdue. Who waited for it cannot be told from those who waited for others."""
        stall = self._found(watched, running, {})
        stall.stack_unavailable = ENDED_UNSEEN
        stall.victims = None
        self._over(stall, ended, now, alerts)

    def _over(self, stall: Stall, ended: int, now: int, alerts: list[Alert]) -> None:
        if stall.alerted is None:
            alerts.append(stall.fire(now, self._runbook_url))
        stall.ended = ended
        stall.ended_at = stall.began_at + timedelta(microseconds=(ended - stall.began) / 1000)
        alerts.append(stall.alert(now, self._runbook_url))

    def _found(self, watched: Watched, running: int, suffered: dict[int, int]) -> Stall:
        began = running & layout.START_BITS
        # Not by when the look began: whoever looks may have had no CPU since.
        ago, moment = self._clock() - began, self._wall()
        stall = Stall(
            id=next(self._ids),
            tenant=printable(watched.cell.whose(running)),
            service=watched.service,
            instance=watched.instance,
            pid=watched.cell.pid,
            running=running,
            began=began,
            began_at=moment - timedelta(microseconds=ago / 1000),
            suffered=suffered,
            host=watched.host,
            mode=watched.cell.mode,
        )
        watched.stalled = running
        self._last.append(stall)
        return stall

    def _ask_for_stack(self, watched: Watched, stall: Stall, now: int) -> None:
        """For a stall that lasts, anew when its age has doubled: the slice may have gone on elsewhere."""
        stall.look_at = now + max(REFRESH_NS, now - stall.began)
        stack = watched.cell.stack(max(stall.began, stall.stack_at))
        stall.awaited = True
        if isinstance(stack, Found):
            self._answered(stall, stack)
        else:
            self._ask(stack, lambda found: self._answered(stall, found))

    def _answered(self, stall: Stall, found: Found) -> None:
        """By any thread."""
        with self._lock:
            # Looked at after the stack was taken: a slice that began before and runs now is the stack's. By the cell
            # that is open now: the loop may have been announced again meanwhile.
            watched = self._whose(stall)
            try:
                runs = watched is not None and watched.cell.header()[layout.RUNNING] == stall.running
            except RefusedError:
                runs = False
            stall.answered(found, runs)

    def as_dicts(self, now: int) -> list[dict[str, Any]]:
        """The last ones, newest last, as in `/status`."""
        return [stall.as_dict(now) for stall in self._last]
