"""Is a loop saturated, or starved? Its timer is late again and again, and no single slice is to blame.

Either there are too many of them, or the host had no CPU for its thread for half of the time. Judged once a beat of the
loop's own timer. What it refuses: to call a loop saturated that was idle in between; it may not be run all the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .cell import Totals

LATE_BEATS: Final = 5  # in a row: saturated
EASY_BEATS: Final = 10  # in a row: not any more
GRACE_NS: Final = 5_000_000_000  # after it was announced: imports, warming up
_BUSY: Final = 0.8
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Saturation:
    """Who had the loop meanwhile.

    Attributes:
        shares: of the loop's time by tenant, largest first; at most three.
        lateness_ns: of the timer, on average.
    """

    shares: tuple[tuple[str, float], ...]
    lateness_ns: int


@dataclass(frozen=True, slots=True)
class Starved:
    """The host had no CPU for the loop's thread.

    Attributes:
        lacked_ns: for how long, of the last `elapsed_ns`.
    """

    lacked_ns: int
    elapsed_ns: int


class Pressure:
    """The beats of one loop.

    Args:
        late_ns: from here on a beat is late.
        totals: what the cell says of each tenant now.
        run_delay: how long the loop's thread was ready and had no CPU, so far.
    """

    def __init__(self, late_ns: int, totals: Callable[[], list[Totals]], run_delay: Callable[[], int]) -> None:
        self._late_ns = late_ns
        self._totals = totals
        self._run_delay = run_delay
        self._first: int | None = None
        self._last = 0
        self._late = 0
        self._easy = 0
        self._began = 0
        self._lateness = 0
        self._before: dict[str, int] = {}
        self._delay_before = 0

    def stalled(self) -> None:
        """A single slice is to blame: what was late until now does not count."""
        self._late = 0

    def look(self, heartbeat: int, lateness: int) -> Saturation | Starved | bool:
        """What the last beat says: saturated; starved; neither any more (False, told now and then); nothing new."""
        if self._first is None:
            self._first = self._last = heartbeat
        if heartbeat <= self._last:
            return True
        self._last = heartbeat
        if lateness < self._late_ns or heartbeat - self._first < GRACE_NS:
            self._late = 0
            self._easy += 1
            return self._easy % EASY_BEATS != 0
        self._easy = 0
        self._late += 1
        self._lateness += lateness
        if self._late == 1:
            self._began, self._lateness = heartbeat, lateness
            self._before = {total.tenant: total.loop_ns for total in self._totals()}
            self._delay_before = self._run_delay()
        if self._late < LATE_BEATS:
            return True
        return self._judged(heartbeat)

    def _judged(self, heartbeat: int) -> Saturation | Starved | bool:
        late, self._late = self._late, 0
        elapsed = heartbeat - self._began
        # Less than before: the tenant has lost its slot meanwhile, and has one again.
        had = {total.tenant: max(0, total.loop_ns - self._before.get(total.tenant, 0)) for total in self._totals()}
        starved = self._run_delay() - self._delay_before
        if starved * 2 > elapsed:
            return Starved(starved, elapsed)
        if sum(had.values()) < _BUSY * elapsed:
            return True
        largest = sorted(had.items(), key=lambda item: item[1], reverse=True)[:_NAMED]
        return Saturation(tuple((tenant, ns / elapsed) for tenant, ns in largest if ns > 0), self._lateness // late)
