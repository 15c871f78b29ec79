"""A webhook whose body has the shape of Alertmanager's own, version 4, so that receivers written for that work.

Alerts of one name and one service are a group. The first alert of a group goes out at once; what changes after that
is gathered for the group interval. A message lists every alert of the group that fires, and those that ceased to
since the last one. A group ends when its last alert was told to be over.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from .alert import printable, rfc3339
from .allowance import Allowance
from .courier import Message
from .outbox import Item, Notice, Outbox
from .wording import MAX_LABEL, shown_annotations, shown_labels

GROUP_BY: Final = ("alertname", "service_name")
GROUP_SECONDS: Final = 30.0
MAX_ALERTS: Final = 64  # of one message; how many more there are is in `truncatedAlerts`
RECEIVER: Final = "tenantscope"
NEVER: Final = "0001-01-01T00:00:00Z"  # what Alertmanager writes for the end of what still fires

_Key = tuple[str, ...]


class Webhook:
    """Decides what the webhook's receiver is sent next. A `Route`; used by one thread.

    Args:
        admin_url: the sidecar's own address, where an alert's evidence is.
        allowance: of changes a tenant.
        interval: seconds for which the changes of a group are gathered.
    """

    def __init__(
        self,
        admin_url: Callable[[], str],
        allowance: Allowance | None = None,
        interval: float = GROUP_SECONDS,
    ) -> None:
        self._admin_url = admin_url
        self._allowance = allowance or Allowance()
        self._interval = interval
        self._sent_at: dict[_Key, float] = {}
        self._tried_at: dict[_Key, float] = {}

    def next(self, outbox: Outbox, now: float) -> Message | float:
        """The message that is due, or the time at which one may be without further news."""
        groups: dict[_Key, list[Item]] = {}
        for item in outbox.items():
            groups.setdefault(_key(item), []).append(item)
            if item.told:
                # Told before the restart: the group goes on, it does not begin again.
                self._sent_at.setdefault(_key(item), now)
        self._sent_at = {key: at for key, at in self._sent_at.items() if key in groups}
        self._tried_at = {key: at for key, at in self._tried_at.items() if key in groups}
        wake = math.inf
        # The one that was tried longest ago comes first: a group that its receiver chokes on delays no other.
        for key in sorted(groups, key=lambda each: self._tried_at.get(each, -math.inf)):
            due = self._sent_at.get(key, -math.inf) + self._interval
            told, held_until = self._told(groups[key], now)
            if not any(notice.is_news for notice in told):
                wake = min(wake, max(due, held_until))
            elif due > now:
                wake = min(wake, due)
            else:
                self._tried_at[key] = now
                return self._message(key, told)
        return wake

    def sent(self, message: Message, now: float) -> None:
        """The message was taken, or refused for good."""
        for notice in message.notices:
            self._sent_at[tuple(notice.alert.labels.get(name, "") for name in GROUP_BY)] = now
            if notice.is_news:
                self._allowance.spend(notice.alert.about, now)

    def _told(self, items: Sequence[Item], now: float) -> tuple[list[Notice], float]:
        """What may be told of a group, news first, and until when the first of the rest is held back."""
        news: list[Notice] = []
        known: list[Notice] = []
        planned: Counter[str] = Counter()
        held_until = math.inf
        for item in items:
            free = self._allowance.free_at(item.alert.about, now, planned[item.alert.about])
            if item.is_news and free <= now:
                planned[item.alert.about] += 1
                news.append(Notice(item.alert, item.changes, is_news=True))
                continue
            if item.is_news:
                held_until = min(held_until, free)
            if item.told == "firing":  # what is held back looks as it was told
                known.append(Notice(item.firing, 0 if item.is_news else item.changes, is_news=False))
        return news + known, held_until

    def _message(self, key: _Key, told: Sequence[Notice]) -> Message:
        shown = told[:MAX_ALERTS]
        alerts = [self._alert(notice) for notice in shown]
        group_labels = {n: printable(text, MAX_LABEL) for n, text in zip(GROUP_BY, key, strict=True) if text}
        document = {
            "version": "4",
            "groupKey": "{}:{" + ", ".join(f"{name}={json.dumps(text)}" for name, text in group_labels.items()) + "}",
            "truncatedAlerts": len(told) - len(shown),
            "status": "firing" if any(notice.alert.status == "firing" for notice in shown) else "resolved",
            "receiver": RECEIVER,
            "groupLabels": group_labels,
            "commonLabels": _common([alert["labels"] for alert in alerts]),
            "commonAnnotations": _common([alert["annotations"] for alert in alerts]),
            "externalURL": self._admin_url(),
            "alerts": alerts,
        }
        return Message(json.dumps(document, ensure_ascii=True).encode("ascii"), tuple(shown))

    def _alert(self, notice: Notice) -> dict[str, Any]:
        alert = notice.alert
        return {
            "status": alert.status,
            "labels": shown_labels(alert),
            "annotations": shown_annotations(notice),
            "startsAt": rfc3339(alert.starts_at),
            "endsAt": NEVER if alert.ends_at is None else rfc3339(max(alert.starts_at, alert.ends_at)),
            "generatorURL": f"{self._admin_url()}/status",
            "fingerprint": alert.fingerprint,
        }


def _key(item: Item) -> _Key:
    return tuple(item.firing.labels.get(name, "") for name in GROUP_BY)


def _common(tables: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The entries that all tables share."""
    first, *others = tables
    return {name: value for name, value in first.items() if all(table.get(name) == value for table in others)}
