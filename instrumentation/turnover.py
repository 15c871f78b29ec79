"""Who keeps a slot, and who gets it: slots pass from tenants who are idle, or hardly busy, to those who are busy.

How busy a tenant is, is what it did of late: how often it was bound, how many of its activities ended, and for how many
milliseconds it had a loop; all of it counts half after `HALF_LIFE_NS`. Those with a slot are counted exactly, the
others by `Frequent`, which is below the truth if anything, and of a loop their long slices only. A tenant with a slot
that was not seen for `idle_ns` gives it back. One that has had its slot for a while and is much less busy than one
without gives it up to that one: much less, so that two who are about as busy do not take turns.

A slot that a tenant has left is nobody's for a while: until no loop can count there under its old number, and until
what was counted there has arrived. Then the tenant's series end, and the next one's begin. It is looked at once for
each export of metrics, by the thread that exports, which costs those who work nothing.

What it refuses: to let go of figures that nobody has been told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .bindings import Tenant
from .loop import Loops, Totals
from .slots import FIRST_SLOT, TenantTable

HALF_LIFE_NS: Final = 60_000_000_000
TENURE_NS: Final = 60_000_000_000
#: How many times as busy a tenant has to be as the one whose slot it takes, and how much more on top of that.
MUCH_BUSIER: Final = 4.0
BUSY: Final = 8.0


@dataclass(slots=True)
class _Owner:
    """A tenant that has a slot.

    Attributes:
        since, seen: when it was first found there, and when it was last seen to do something.
        weight, active_ns: what was counted up to the last look.
        busyness: of late, as of the last look.
    """

    tenant: Tenant
    since: int
    seen: int
    weight: int
    active_ns: int
    busyness: float = 0.0

    def look(self, now: int, fading: float, active_ns: int) -> None:
        """See what was done since the last look."""
        weight = self.tenant.weight
        came = max(0, weight - self.weight) + max(0, active_ns - self.active_ns) / 1e6
        if came > 0:
            self.seen = now
        self.weight, self.active_ns = weight, active_ns
        self.busyness = self.busyness * fading + came


@dataclass(slots=True)
class _Left:
    """A slot that its tenant has left.

    Attributes:
        since: it had been left by then, on the loops' clock.
        told: the reading before has all that was counted in it.
    """

    since: int
    told: bool = False


class Turnover:
    """Hands slots over. Used by one thread at a time; `settle` before each reading of the loops, `judge` after it.

    Args:
        table: who has a slot.
        loops: whose loops count by slot.
        idle_ns: how long a tenant may do nothing and keep its slot.
        clock: nanoseconds, monotonic; the loops' own.
        half_life_ns: after which what a tenant did counts half.
        tenure_ns: how long a tenant has a slot, at least, before a busier one takes it.

    Attributes:
        freed, displaced: how many tenants gave their slots back, and how many had to give them up.
    """

    def __init__(
        self,
        table: TenantTable,
        loops: Loops,
        idle_ns: int,
        clock: Callable[[], int] = time.monotonic_ns,
        half_life_ns: int = HALF_LIFE_NS,
        tenure_ns: int = TENURE_NS,
    ) -> None:
        self._table = table
        self._loops = loops
        self._idle_ns = idle_ns
        self._clock = clock
        self._half_life_ns = half_life_ns
        self._tenure_ns = tenure_ns
        self._owners: dict[int, _Owner] = {}
        self._left: dict[int, _Left] = {}
        self._looked = clock()
        self.freed = self.displaced = 0

    def settle(self, delivered: bool) -> None:
        """Free the slots that nobody counts in any more and whose figures are known; see which may be next.

        Args:
            delivered: whether the reading before has arrived.
        """
        table, now = self._table, self._clock()
        # Some may have been left before we came, and the tenant of some may have come back.
        self._left = {slot: self._left.get(slot) or _Left(now) for slot in table.left()}
        for slot, left in list(self._left.items()):
            if left.told and delivered:
                if table.vacate(slot):
                    self._loops.hand_over(slot, table.generations[slot])
                    table.free(slot)
                del self._left[slot]
            elif not left.told:
                left.told = self._loops.are_quiet(slot, left.since)

    def judge(self, totals: Totals) -> None:
        """Count who was busy up to this reading, give what is free, let the idle leave, and those who are displaced."""
        now = self._clock()
        fading = 0.5 ** ((now - self._looked) / self._half_life_ns)
        self._looked = now
        self._look(now, fading, totals)
        for name, _ in self._table.candidates(fading):
            if not self._table.give(name):
                break
        for slot, owner in list(self._owners.items()):
            if now - owner.seen >= self._idle_ns:
                self.freed += 1
                self._leave(slot, owner, may_return=True)
        self._displace(now)

    def _look(self, now: int, fading: float, totals: Totals) -> None:
        for slot, tenant in enumerate(self._table.in_order()):
            if slot < FIRST_SLOT or tenant is self._table.other:
                continue
            active = totals.active_ns[slot] if slot < len(totals.active_ns) else 0
            owner = self._owners.get(slot)
            if owner is None or owner.tenant is not tenant:
                self._owners[slot] = _Owner(tenant, now, now, tenant.weight, active)
            else:
                owner.look(now, fading, active)

    def _displace(self, now: int) -> None:
        """The least busy make way for those who wait, as far as slots that are being left are not enough for these."""
        waiting = self._table.candidates(1.0)[len(self._left) :]
        tenured = sorted(
            ((slot, owner) for slot, owner in self._owners.items() if now - owner.since >= self._tenure_ns),
            key=lambda entry: entry[1].busyness,
        )
        for (_, busyness), (slot, owner) in zip(waiting, tenured, strict=False):
            if busyness < BUSY + MUCH_BUSIER * owner.busyness:
                break  # who follows is less busy, and up against busier ones
            self.displaced += 1
            self._leave(slot, owner, may_return=False)

    def _leave(self, slot: int, owner: _Owner, may_return: bool) -> None:
        del self._owners[slot]
        self._table.leave(slot, owner.busyness, may_return)
        self._left[slot] = _Left(self._clock())  # not before: nobody takes the old number in hand from here on
