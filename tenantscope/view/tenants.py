"""From statuses to tenants and loops: totals of the newest one, and how fast they grew since an older one.

Everything in a status is a total since some process began, and processes restart. So growth is told only of what
was seen before, and a total that went down has grown by nothing: no rate is ever negative, and none counts a whole
past as if it had happened just now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .status import Loop, LoopKey, Pair, Status

_SHORTEST: Final = 0.001  # seconds between two looks that tell a rate


@dataclass(slots=True)
class Row:
    """One tenant. Times are seconds; totals are of the loops that are under watch and of the store.

    Attributes:
        loop_share: the part of the time in which the tenant had a loop; 1 is one loop, wholly.
        loop_seconds: time that it had loops, the slice that runs at this moment included.
        suffered_rate: seconds that its work waited for others', per second.
        caused_rate: seconds that others' work waited for its own, per second.
        queue_mean: seconds from the sending of a message to its handler, on average of those of the last while; of all
            of them, when there were none.
    """

    tenant: str
    loop_share: float = 0.0
    loop_seconds: float = 0.0
    longest_seconds: float = 0.0
    delay_suffered_seconds: float = 0.0
    delay_caused_seconds: float = 0.0
    suffered_rate: float = 0.0
    caused_rate: float = 0.0
    waits: int = 0
    queue_mean: float = 0.0
    messages: int = 0
    messages_per_second: float = 0.0
    tokens: int = 0
    errors: int = 0
    spans: int = 0
    findings: int = 0


#: Seconds that messages waited in all, and how many they were; by tenant.
Queued = dict[str, tuple[float, int]]


class History:
    """The statuses of the last `over` seconds, and at least the last two.

    Args:
        over: seconds that a rate looks back; 0 for the time between two statuses.
    """

    def __init__(self, over: float = 0.0) -> None:
        self._over = over
        self._taken: deque[tuple[float, Status]] = deque()

    def take(self, status: Status, now: float) -> None:
        """The newest status, read at `now` (seconds of a monotonic clock)."""
        self._taken.append((now, status))
        while len(self._taken) > 2 and now - self._taken[1][0] >= self._over:
            self._taken.popleft()

    def rows(self) -> dict[str, Row]:
        """A row for each tenant that a loop or the store knows."""
        if not self._taken:
            return {}
        now, newest = self._taken[-1]
        rows = _totals(newest)
        recent: Queued = {}
        for before, after, seconds in self._loops():
            _add_loop(rows, before, after, seconds)
            handled: Queued = {}
            _add_queued(handled, after, before)
            for tenant, (waited, messages) in handled.items():
                waited_before, messages_before = recent.get(tenant, (0.0, 0))
                recent[tenant] = waited_before + waited, messages_before + messages
                rows[tenant].messages_per_second += messages / seconds
        ever = _ever_queued(newest)
        for tenant, (waited, messages) in ever.items():
            waited, messages = recent.get(tenant, (waited, messages))
            rows[tenant].queue_mean = waited / messages
        first_seen: dict[str, tuple[float, int]] = {}
        for moment, status in self._taken:
            for stored in status.tenants:
                first_seen.setdefault(stored.tenant, (moment, stored.messages))
        for stored in newest.tenants:
            since, messages = first_seen[stored.tenant]
            if stored.tenant not in ever and now - since >= _SHORTEST:  # the store knows it a metric interval later
                rows[stored.tenant].messages_per_second = _grown(stored.messages, messages) / (now - since)
        return rows

    def utilization(self) -> dict[LoopKey, float]:
        """By loop, the part of the time in which it was not idle, 0 to 1; without those that are new."""
        return {
            after.key: min(1.0, sum(_had(before, after).values()) / seconds) for before, after, seconds in self._loops()
        }

    def _loops(self) -> Iterator[tuple[Loop, Loop, float]]:
        """The loops that are seen not for the first time: as they first were, as they are, and seconds between."""
        if not self._taken:
            return
        first_seen: dict[LoopKey, tuple[float, Loop]] = {}
        for moment, status in self._taken:
            for loop in status.loops:
                first_seen.setdefault(loop.key, (moment, loop))
        now, newest = self._taken[-1]
        for loop in newest.loops:
            since, before = first_seen[loop.key]
            if now - since >= _SHORTEST:
                yield before, loop, now - since


def longest_waits(status: Status) -> list[Pair]:
    """Who made whom wait, over all loops and since they began, the longest first; without the sum of the rest."""
    waited: dict[tuple[str, str], float] = {}
    for loop in status.loops:
        for pair in loop.pairs:
            if pair.culprit != pair.victim:
                waited[pair.culprit, pair.victim] = waited.get((pair.culprit, pair.victim), 0.0) + pair.seconds
    longest = sorted(waited.items(), key=lambda entry: (-entry[1], entry[0]))
    return [Pair(culprit, victim, seconds) for (culprit, victim), seconds in longest]


def _add_queued(sums: Queued, after: Loop, before: Loop | None) -> None:
    """Add the messages that were handled on a loop between the two; all of them without a `before`."""
    earlier = {} if before is None else {share.tenant: (share.queue_seconds, share.queued) for share in before.tenants}
    for share in after.tenants:
        old_seconds, old_count = earlier.get(share.tenant, (0.0, 0))
        count = share.queued - old_count
        if count > 0:
            seconds, others = sums.get(share.tenant, (0.0, 0))
            sums[share.tenant] = seconds + _grown(share.queue_seconds, old_seconds), others + count


def _ever_queued(status: Status) -> Queued:
    sums: Queued = {}
    for loop in status.loops:
        _add_queued(sums, loop, None)
    return sums


def _totals(status: Status) -> dict[str, Row]:
    rows: dict[str, Row] = {}

    def row(tenant: str) -> Row:
        return rows.setdefault(tenant, Row(tenant))

    for loop in status.loops:
        for share in loop.tenants:
            of = row(share.tenant)
            of.loop_seconds += share.loop_seconds
            of.longest_seconds = max(of.longest_seconds, share.longest_seconds)
            of.delay_suffered_seconds += share.delay_suffered_seconds
            of.delay_caused_seconds += share.delay_caused_seconds
            of.waits += share.waits
        if loop.running is not None:
            row(loop.running.tenant).loop_seconds += loop.running.seconds
    for stored in status.tenants:
        of = row(stored.tenant)
        of.messages += stored.messages
        of.tokens += stored.tokens
        of.errors += stored.errors
        of.spans += stored.spans
        of.findings += stored.findings
    return rows


def _add_loop(rows: dict[str, Row], before: Loop, after: Loop, seconds: float) -> None:
    for tenant, had in _had(before, after).items():
        # Two clocks are involved, so a loop that was never idle can seem to have had a little more than all.
        rows[tenant].loop_share += min(1.0, had / seconds)
    earlier = {share.tenant: share for share in before.tenants}
    for share in after.tenants:
        row, old = rows[share.tenant], earlier.get(share.tenant)
        suffered, caused = (old.delay_suffered_seconds, old.delay_caused_seconds) if old else (0.0, 0.0)
        row.suffered_rate += _grown(share.delay_suffered_seconds, suffered) / seconds
        row.caused_rate += _grown(share.delay_caused_seconds, caused) / seconds


def _had(before: Loop, after: Loop) -> dict[str, float]:
    """Seconds that each tenant had the loop between the two.

    A slice counts in a loop's totals when it ends. What a tenant has had of the one that runs is added here, or a loop
    that hangs would look idle, and then busier than time allows.
    """
    earlier = {share.tenant: share.loop_seconds for share in before.tenants}
    had = {share.tenant: _grown(share.loop_seconds, earlier.get(share.tenant, 0.0)) for share in after.tenants}
    if after.running is not None:
        had[after.running.tenant] = had.get(after.running.tenant, 0.0) + after.running.seconds
    if before.running is not None and before.running.tenant in had:
        had[before.running.tenant] = max(0.0, had[before.running.tenant] - before.running.seconds)
    return had


def _grown(total: float, before: float) -> float:
    return max(0.0, total - before)
