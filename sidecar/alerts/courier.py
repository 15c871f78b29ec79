"""The courier: one thread that tells one receiver of alerts, as far as its route says what is due.

The watchdog's poller only leaves a change in the outbox. The state is written before a message goes out, so that what
a receiver may have been told is never forgotten. A receiver that cannot take a message now is asked again for as long
as it takes; one that says no for good is not, and that is counted. What it refuses: to wait for a receiver longer than
a deadline, and to log anything but reasons and the receiver's host: the path of a webhook's address is often a secret.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from sidecar.network.backoff import Backoff

from .alert import Alert
from .outbox import Notice, Outbox
from .post import MAX_RETRY_AFTER, Endpoint, UndeliveredError
from .state_file import StateFile

BACKOFF: Final = Backoff(first=0.5, longest=30.0, longest_asked=MAX_RETRY_AFTER)
# An application finds a restarted sidecar within seconds; one that is blocked with its interpreter held does not.
GRACE_SECONDS: Final = 30.0
REFUSED: Final = "refused"
FAULT: Final = "fault"
STATE_FILE: Final = "state_file"
_FAULT_SECONDS: Final = 5.0

_log: Final = structlog.get_logger("sidecar.alerts")


@dataclass(frozen=True, slots=True)
class Message:
    """One POST: its body, and what it tells."""

    body: bytes
    notices: tuple[Notice, ...]


class Route(Protocol):
    """What a kind of receiver is told, and when. Times are seconds of the courier's clock."""

    def next(self, outbox: Outbox, now: float) -> Message | float:
        """The message that is due, or the time at which one may be without further news."""

    def sent(self, message: Message, now: float) -> None:
        """The message was taken, or refused for good."""


class Courier:
    """A sink of alerts.

    Args:
        name: of the sink, in metrics and the log.
        route: decides what is told.
        endpoint: where it is posted to.
        headers: for a body, at the time of sending.
        state: survives a restart; None forgets.
        clock: monotonic seconds.
        wall: the present time.
        backoff: how long to wait after a failed attempt.
    """

    def __init__(
        self,
        name: str,
        route: Route,
        endpoint: Endpoint,
        *,
        headers: Callable[[bytes], Mapping[str, str]] = lambda _body: {},
        state: StateFile | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        backoff: Backoff = BACKOFF,
    ) -> None:
        self.name = name
        self._route = route
        self._endpoint = endpoint
        self._headers = headers
        self._state = state
        self._clock = clock
        self._wall = wall
        self._backoff = backoff
        self._news = threading.Event()
        self.outbox = Outbox(self._news.set)
        self._stopping = False
        self._failures: Counter[str] = Counter()
        self._attempts = 0
        self._refusal = ""
        self._blocked_until = -math.inf
        self._inherited_until = math.inf
        self._saved = self.outbox.version
        self._thread = threading.Thread(target=self._run, name=f"alerts-{name}", daemon=True)

    def submit(self, alert: Alert) -> None:
        """Take a change; returns at once."""
        self.outbox.take(alert)

    def counts(self) -> tuple[int, int, dict[str, int], int]:
        """Taken, told, dropped by reason, waiting; all read at one moment."""
        return self.outbox.counts()

    def failures(self) -> dict[str, int]:
        """Failed attempts, by reason."""
        return dict(self._failures)

    # Life ---------------------------------------------------------------------------------------------------
    def restore(self) -> None:
        """Take up what was told before a restart; `start` does it."""
        items = [] if self._state is None else self._state.load()
        self.outbox.restore(items)
        if any(item.inherited for item in items):
            self._inherited_until = self._clock() + GRACE_SECONDS
            _log.info("alerts were firing before the restart", sink=self.name, alerts=len(items))

    def start(self) -> None:
        """Begin; to be called once."""
        self.restore()
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Tell what is due within `grace` seconds; what is left is in the state file."""
        self._stopping = True
        self._news.set()
        if self._thread.ident is not None:
            self._thread.join(grace)

    def _run(self) -> None:
        while True:
            self._news.clear()
            now = self._clock()
            try:
                wake = self.step(now)
            except Exception as error:  # noqa: BLE001  # a fault of ours must not end the thread
                self._failures[FAULT] += 1
                _log.error("telling of alerts failed", sink=self.name, error=type(error).__name__)
                wake = self._blocked_until = now + _FAULT_SECONDS
            if wake <= now:
                continue
            if self._stopping:
                return
            self._news.wait(None if wake == math.inf else max(0.0, wake - self._clock()))

    # One message --------------------------------------------------------------------------------------------
    def step(self, now: float) -> float:
        """Send what is due at `now`, one message at most; returns when to look again."""
        if now >= self._inherited_until:
            self._inherited_until = math.inf
            self._resolve_inherited()
        self._save()
        if now < self._blocked_until:
            return self._blocked_until
        message = self._route.next(self.outbox, now)
        if not isinstance(message, Message):
            return min(message, self._inherited_until)
        began = self._clock()
        try:
            self._endpoint.post(message.body, self._headers(message.body))
        except UndeliveredError as error:
            self._failures[error.reason] += 1
            if not error.final:
                self._put_off(error, now + self._clock() - began)  # what the attempt took is no part of the wait
                return self._blocked_until
            self._refused(message, error)
        else:
            self._taken(message)
        self._route.sent(message, now)
        self._save()
        return now

    def _taken(self, message: Message) -> None:
        self.outbox.settle(message.notices)
        self._refusal = ""
        self._answers()

    def _refused(self, message: Message, error: UndeliveredError) -> None:
        self.outbox.settle(message.notices, dropped=REFUSED)
        if error.reason != self._refusal:  # the first of a row; the metric counts the others
            _log.error("receiver refuses alerts", sink=self.name, host=self._endpoint.host, reason=error.reason)
        self._refusal = error.reason
        self._answers()

    def _put_off(self, error: UndeliveredError, now: float) -> None:
        if self._attempts == 0:  # one line when it begins, one when it ends
            _log.warning(
                "receiver cannot take alerts, retrying", sink=self.name, host=self._endpoint.host, reason=error.reason
            )
        self._blocked_until = now + self._backoff.delay(self._attempts, error.after)
        self._attempts += 1

    def _answers(self) -> None:
        if self._attempts:
            _log.info("receiver answers again", sink=self.name, host=self._endpoint.host, attempts=self._attempts)
        self._attempts = 0

    def _resolve_inherited(self) -> None:
        moment = self._wall()
        count = self.outbox.resolve_inherited(lambda alert: _lapsed(alert, moment))
        if count:
            _log.info("alerts from before the restart are over", sink=self.name, alerts=count)

    def _save(self) -> None:
        version = self.outbox.version
        if self._state is None or version == self._saved:
            return
        if not self._state.save(self.outbox.items()):
            self._failures[STATE_FILE] += 1
        self._saved = version


def _lapsed(alert: Alert, moment: datetime) -> Alert:
    summary = "It fired when the sidecar was restarted, and nobody has reported it since."
    return replace(
        alert,
        status="resolved",
        ends_at=max(moment, alert.starts_at),
        annotations={**alert.annotations, "summary": f"{alert.annotations.get('summary', '')} {summary}".lstrip()},
    )
