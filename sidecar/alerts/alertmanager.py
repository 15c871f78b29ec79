"""Alertmanager's API v2: `POST /api/v2/alerts`.

Alertmanager forgets an alert at its `endsAt`, so that a dead sender leaves nothing ringing. A firing alert therefore
ends a lifetime ahead and is sent again after a third of it: two attempts may fail before it lapses. A resolved one is
sent once with its end.

Alertmanager notifies nobody of a resolution whose beginning it never saw. A stall that is over before its first
message went out is therefore sent twice: firing, then resolved.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from .alert import rfc3339
from .allowance import Allowance
from .courier import Message
from .outbox import Item, Notice, Outbox
from .wording import shown_annotations, shown_labels

PATH: Final = "/api/v2/alerts"
LIFETIME_SECONDS: Final = 180.0
MAX_ALERTS: Final = 64  # of one message


class Alertmanager:
    """Decides what Alertmanager is sent next. A `Route`; used by one thread.

    Args:
        admin_url: the sidecar's own address, where an alert's evidence is.
        allowance: of changes a tenant.
        lifetime: seconds after which a firing alert lapses unless it is sent again.
        wall: the present time.
    """

    def __init__(
        self,
        admin_url: Callable[[], str],
        allowance: Allowance | None = None,
        lifetime: float = LIFETIME_SECONDS,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._admin_url = admin_url
        self._allowance = allowance or Allowance()
        self._lifetime = timedelta(seconds=lifetime)
        self._again = lifetime / 3
        self._wall = wall
        self._sent_at: dict[str, float] = {}

    def next(self, outbox: Outbox, now: float) -> Message | float:
        """The message that is due, or the time at which one may be without further news."""
        chosen: list[Notice] = []
        planned: Counter[str] = Counter()
        wake = math.inf
        for item in sorted(outbox.items(), key=lambda each: not each.is_news):
            about = item.alert.about
            if item.is_news:
                due = self._allowance.free_at(about, now, planned[about])
            else:
                due = self._sent_at.get(item.fingerprint, -math.inf) + self._again
            if due > now:
                wake = min(wake, due)
            elif len(chosen) < MAX_ALERTS:
                chosen.append(_notice(item))
                planned[about] += item.is_news
        if not chosen:
            return wake
        moment = self._wall()
        body = json.dumps([self._postable(notice, moment) for notice in chosen], ensure_ascii=True)
        return Message(body.encode("ascii"), tuple(chosen))

    def sent(self, message: Message, now: float) -> None:
        """The message was taken, or refused for good."""
        for notice in message.notices:
            if notice.alert.status == "firing":
                self._sent_at[notice.alert.fingerprint] = now
            else:
                self._sent_at.pop(notice.alert.fingerprint, None)
            if notice.is_news:
                self._allowance.spend(notice.alert.about, now)

    def _postable(self, notice: Notice, moment: datetime) -> dict[str, Any]:
        alert = notice.alert
        # A clock that was set back must not make an alert of the future: Alertmanager would hold it for firing.
        starts_at = min(alert.starts_at, moment)
        ends_at = moment + self._lifetime if alert.ends_at is None else max(starts_at, min(alert.ends_at, moment))
        return {
            "labels": shown_labels(alert),
            "annotations": shown_annotations(notice),
            "startsAt": rfc3339(starts_at),
            "endsAt": rfc3339(ends_at),
            "generatorURL": f"{self._admin_url()}/status",
        }


def _notice(item: Item) -> Notice:
    if item.over is None or item.told:
        return Notice(item.alert, item.changes, item.is_news)
    return Notice(item.firing, max(0, item.changes - 1), is_news=True)
