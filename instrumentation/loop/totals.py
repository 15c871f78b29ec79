"""The totals of all loops of a process, as the metrics read them: cumulative, and never going down.

Loops come and go, and a reading may fall into the middle of a slice; what was shown once is never taken back.
"""

from __future__ import annotations

from dataclasses import dataclass

from .account import Account
from .delays import Delays


@dataclass(frozen=True, slots=True)
class Totals:
    """One reading. Times are nanoseconds, lists and keys are tenant slots.

    Attributes:
        active_ns: loop time that each tenant had.
        caused_ns: time that others' ready work waited for each tenant's long slices.
        suffered: waits of each tenant's ready work for others' long slices; only tenants that waited.
        delay: how late the loops ran timers that were due.
        idle_ns: time that the loops spent in no callback; `sum(active_ns) + idle_ns` is the time since their adoption,
            summed over the loops.
        utilization: active share of the time since the reading before, 0 to 1.
        loops: loops under account now.
    """

    active_ns: list[int]
    caused_ns: list[int]
    suffered: dict[int, Delays]
    delay: Delays
    idle_ns: int
    utilization: float
    loops: int


class Sum:
    """Adds accounts up."""

    def __init__(self, slots: int) -> None:
        self.active = [0] * slots
        self.caused = [0] * slots
        self.suffered: dict[int, Delays] = {}
        self.delay = Delays()
        self.wall = 0

    def add(self, account: Account, now: int) -> None:
        """Add what one account says at `now`, or said when it ended."""
        self._add_times(account.active_now(), account.caused)
        for slot, delays in list(account.suffered.items()):
            self.suffered.setdefault(slot, Delays()).add(delays)
        self.delay.add(account.delay)
        self.wall += (now if account.ended is None else account.ended) - account.adopted

    def merge(self, other: Sum) -> None:
        """Add another sum."""
        self._add_times(other.active, other.caused)
        for slot, delays in other.suffered.items():
            self.suffered.setdefault(slot, Delays()).add(delays)
        self.delay.add(other.delay)
        self.wall += other.wall

    def _add_times(self, active: list[int], caused: list[int]) -> None:
        # `strict` would be wrong: a loop may have been adopted under a tenant table of another size.
        self.active = _summed(self.active, active)
        self.caused = _summed(self.caused, caused)


class Reader:
    """Turns sums into readings that never go down."""

    def __init__(self) -> None:
        self._active: list[int] = []
        self._idle = 0
        self._last = (0, 0)  # active and wall time at the reading before

    def read(self, total: Sum, loops: int) -> Totals:
        """The next reading."""
        self._active = [max(pair) for pair in zip(total.active, _padded(self._active, len(total.active)), strict=True)]
        active = sum(self._active)
        self._idle = max(self._idle, total.wall - active)
        before_active, before_wall = self._last
        self._last = (active, total.wall)
        wall = total.wall - before_wall
        utilization = min(1.0, max(0.0, (active - before_active) / wall)) if wall > 0 else 0.0
        return Totals(list(self._active), total.caused, total.suffered, total.delay, self._idle, utilization, loops)


def _padded(numbers: list[int], length: int) -> list[int]:
    return numbers + [0] * (length - len(numbers))


def _summed(left: list[int], right: list[int]) -> list[int]:
    length = max(len(left), len(right))
    return [a + b for a, b in zip(_padded(left, length), _padded(right, length), strict=True)]
