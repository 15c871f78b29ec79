"""What one receiver has been told of each alert, and what it has yet to be told.

One item a fingerprint: however often an alert changes while its receiver is away or its tenant is over the limit, one
item waits, with the latest word and the number of changes it stands for. So a receiver that comes back gets what is
true now, not a backlog, and at every moment

    taken = told + dropped + waiting

Changes that one notification sums up are told: the notification says how many (`suppressed_changes`). What it
refuses: more than `MAX_ITEMS` fingerprints at once, and to lose a change without a count. It holds no thread and no
connection; `take` is called by the watchdog's poller and returns at once.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from .alert import Alert

MAX_ITEMS: Final = 1000
QUEUE_FULL: Final = "queue_full"

Told = Literal["", "firing", "resolved"]


@dataclass(frozen=True, slots=True)
class Item:
    """One alert as one receiver knows it, and as it is.

    Attributes:
        firing: the alert as it fires, or last fired.
        over: its resolution; None while it fires.
        told: what the receiver was told last; empty when it was told nothing.
        changes: how many changes it has not been told.
        open: what fires under this fingerprint now: two loops of one process may stall at once.
        inherited: it fired before the sidecar was restarted, and nobody has reported it since.
    """

    firing: Alert
    over: Alert | None = None
    told: Told = ""
    changes: int = 0
    open: tuple[Alert, ...] = ()
    inherited: bool = False

    @property
    def alert(self) -> Alert:
        """The alert as it is."""
        return self.over or self.firing

    @property
    def fingerprint(self) -> str:
        """Of the labels."""
        return self.firing.fingerprint

    @property
    def is_news(self) -> bool:
        """Whether the receiver believes something else. A resolved item stays until its resolution was told."""
        return self.over is not None or self.told != "firing"


@dataclass(frozen=True, slots=True)
class Notice:
    """What a message says of one item.

    Attributes:
        alert: as it is told.
        changes: how many changes the message settles.
        is_news: whether it tells a change, or repeats what was told.
    """

    alert: Alert
    changes: int
    is_news: bool

    @property
    def suppressed(self) -> int:
        """Changes that the receiver hears of only as this number."""
        return max(0, self.changes - self.is_news)


class Outbox:
    """The items of one receiver. Thread-safe.

    Args:
        arrived: called after every change taken; must not block.
    """

    def __init__(self, arrived: Callable[[], None] = lambda: None) -> None:
        self._arrived = arrived
        self._lock = threading.Lock()
        self._items: dict[str, Item] = {}
        self._taken = 0
        self._told = 0
        self._dropped: Counter[str] = Counter()
        self._version = 0

    def take(self, alert: Alert) -> None:
        """A change to be told."""
        with self._lock:
            self._taken += 1
            item = self._items.get(alert.fingerprint)
            if item is None and len(self._items) >= MAX_ITEMS:
                self._dropped[QUEUE_FULL] += 1
                return
            self._items[alert.fingerprint] = _changed(item, alert)
            self._version += 1
        self._arrived()

    def restore(self, items: Iterable[Item]) -> None:
        """Put back what a state file held. What was reported meanwhile is newer, and stays."""
        with self._lock:
            for item in items:
                if item.fingerprint not in self._items and len(self._items) < MAX_ITEMS:
                    self._items[item.fingerprint] = item
                    self._taken += item.changes

    def resolve_inherited(self, resolution: Callable[[Alert], Alert]) -> int:
        """Resolve what fired before the restart and was not reported since; how many there were."""
        with self._lock:
            left = [item for item in self._items.values() if item.inherited]
            for item in left:
                over = resolution(item.firing)
                self._items[item.fingerprint] = replace(item, over=over, inherited=False, changes=item.changes + 1)
            self._taken += len(left)
            self._version += 1
        return len(left)

    def settle(self, notices: Iterable[Notice], dropped: str | None = None) -> None:
        """The receiver was told, or refused for good for the reason `dropped`; it won't be told again."""
        with self._lock:
            for notice in notices:
                item = self._items[notice.alert.fingerprint]
                if dropped is None:
                    self._told += notice.changes
                else:
                    self._dropped[dropped] += notice.changes
                left = item.changes - notice.changes
                if item.over is not None and notice.alert.status == "resolved" and not left:
                    del self._items[item.fingerprint]
                else:
                    # More has changed while the message was on its way.
                    self._items[item.fingerprint] = replace(item, told=notice.alert.status, changes=left)
            self._version += 1

    def items(self) -> list[Item]:
        """Every item, the oldest first."""
        with self._lock:
            return list(self._items.values())

    @property
    def version(self) -> int:
        """Changes with every change of the items."""
        return self._version

    def counts(self) -> tuple[int, int, dict[str, int], int]:
        """Taken, told, dropped by reason, waiting; all read at one moment."""
        with self._lock:
            waiting = sum(item.changes for item in self._items.values())
            return self._taken, self._told, dict(self._dropped), waiting


def _changed(item: Item | None, alert: Alert) -> Item:
    if item is None:
        # A resolution may come alone, when there was no room for its beginning: it then tells both.
        item = Item(replace(alert, status="firing", ends_at=None))
    changes = item.changes + 1
    others = tuple(each for each in item.open if each.starts_at != alert.starts_at)
    if alert.status == "firing":
        # What still fires keeps its evidence; the receiver was told of it, or is about to be.
        firing = item.firing if others and item.over is None else alert
        return replace(item, firing=firing, over=None, changes=changes, open=(*others, alert), inherited=False)
    if others:
        return replace(item, firing=others[0], changes=changes, open=others)
    return replace(item, over=alert, changes=changes, open=(), inherited=False)
