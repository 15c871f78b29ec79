"""Who has a slot: the few tenants, of any number of them, that have figures of their own at a time.

A `Tenant` has a small `slot` number that the loop accounting uses as an index, and the `id` under which telemetry
shows it. Without a slot it is `other`. Both are looked up where they are used and not where a tenant is bound, so a
tenant can lose its slot, and get one, in the middle of its work: what is bound stays bound, and counts elsewhere from
then on.

Slots go to who comes first, as long as there are any. Afterwards `turnover` takes them from who is idle or hardly busy,
in three steps, for others may still be counting under the old number: the tenant *leaves* the slot, which keeps its
name; when nobody can count there any more, and what was counted has arrived, the slot is *vacated*; then it is *given*
to somebody else, under another generation.

What it refuses: to be a place where the number of tenants adds up. Of those without a slot it remembers the ones that
are bound somewhere at this moment, and the busiest of late, in a bounded number of counters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from weakref import WeakValueDictionary

from .bindings import UNKNOWN, UNKNOWN_SLOT, Tenant
from .diagnostics import count, fault
from .frequent import Frequent
from .tenant_ids import RESERVED, InvalidTenantError, validate

OTHER_SLOT: Final = 1
FIRST_SLOT: Final = 2
OTHER: Final = RESERVED[1]
#: Tenants without a slot whose busyness is counted, at most.
MAX_CANDIDATES: Final = 1024


class TenantTable:
    """Gives slots from `FIRST_SLOT` on, at most `bound` of them at a time; thread-safe.

    Args:
        bound: how many tenants have a slot of their own; the rest share `other`.

    Attributes:
        generations: how many tenants each slot has been taken from.
    """

    def __init__(self, bound: int = 254) -> None:
        self.unknown = Tenant(UNKNOWN, UNKNOWN_SLOT)
        self.other = Tenant(OTHER, OTHER_SLOT)
        self.slots = bound + FIRST_SLOT
        self.generations = [0] * self.slots
        self._by_id: dict[str, Tenant] = {}  # those with a slot
        self._in_order: list[Tenant] = [self.unknown, self.other]  # by slot; `other`: left, or vacant
        self._labels: list[str] = [UNKNOWN, OTHER]  # whose figures a slot has; `other`: nobody's
        self._left: dict[str, int] = {}  # who left which slot, until that is free
        self._returning: set[str] = set()  # those of them who have it back when they come
        self._vacant: list[int] = []
        # Without a slot, and bound somewhere: who gets a slot has it in all contexts.
        self._beyond: WeakValueDictionary[str, Tenant] = WeakValueDictionary()
        self._busy = Frequent(MAX_CANDIDATES)
        # Re-entered by finalizers and signal handlers, which run wherever the interpreter happens to be.
        self._lock = threading.RLock()
        self._changing = False
        self._listeners: list[Callable[[Tenant], None]] = []

    # For everybody --------------------------------------------------------------------------------------------------
    def intern(self, tenant_id: object) -> Tenant:
        """The tenant of this id; `unknown` for an invalid one (counted). Without a slot it is `other`. Never raises."""
        if type(tenant_id) is str:
            known = self._by_id.get(tenant_id)
            if known is not None:
                known.weight += 1
                return known
        try:
            return self._come(validate(tenant_id))
        except InvalidTenantError:
            count("tenant.invalid")
        except Exception as error:
            fault("tenant", error)
        return self.unknown

    def weigh(self, tenant: Tenant, weight: float) -> None:
        """This tenant without a slot was busy: an activity is 1, and so is a millisecond of a loop. Never raises."""
        try:
            with self._lock:
                if self._changing:
                    return
                try:
                    self._changing = True
                    if tenant.name not in self._by_id and tenant.name not in RESERVED:
                        self._busy.add(tenant.name, weight)
                finally:
                    self._changing = False
        except Exception as error:
            fault("tenant.weigh", error)

    def _come(self, tenant_id: str) -> Tenant:
        with self._lock:
            if self._changing:  # a finalizer or signal handler in the middle of a change: two would get one slot
                count("tenant.reentered")
                return self.unknown
            try:
                self._changing = True
                known = self._by_id.get(tenant_id)
                if known is not None:
                    known.weight += 1
                    return known
                slot = self._left.get(tenant_id)
                if tenant_id in self._returning and slot is not None:  # it goes on as if it had not left
                    return self._seat(tenant_id, slot)
                if slot is None and (self._vacant or len(self._in_order) < self.slots):
                    return self._give(tenant_id)
                count("tenant.over_bound")
                self._busy.add(tenant_id, 1)
                tenant = self._beyond.get(tenant_id)
                if tenant is None:
                    tenant = self._beyond[tenant_id] = Tenant(OTHER, OTHER_SLOT, tenant_id)
                return tenant
            finally:
                self._changing = False

    def _give(self, tenant_id: str) -> Tenant:
        slot = self._vacant.pop() if self._vacant else len(self._in_order)
        try:
            self._label(slot, tenant_id)
            for listener in self._listeners:
                _tell(listener, Tenant(tenant_id, slot))
            return self._seat(tenant_id, slot)
        except BaseException:  # an interrupt, of an application that goes on: a slot that some were told of stays empty
            if tenant_id not in self._by_id:
                self._label(slot, OTHER)
            raise

    def _label(self, slot: int, label: str) -> None:
        self._labels[slot : slot + 1] = [label]
        self._in_order[slot : slot + 1] = [self.other]

    def _seat(self, tenant_id: str, slot: int) -> Tenant:
        tenant = self._beyond.pop(tenant_id, None) or Tenant(OTHER, OTHER_SLOT, tenant_id)
        self._left.pop(tenant_id, None)
        self._returning.discard(tenant_id)
        self._busy.forget(tenant_id)
        tenant.weight = 1
        tenant.id = tenant_id
        tenant.slot = slot
        # Published last: who finds the tenant in the table also finds its name wherever listeners wrote it.
        self._in_order[slot] = tenant
        self._by_id[tenant_id] = tenant
        return tenant

    # For who shows figures ------------------------------------------------------------------------------------------
    def in_order(self) -> list[Tenant]:
        """Who has each slot that was ever given; `other` where nobody has it."""
        return list(self._in_order)

    def labels(self) -> list[str]:
        """Whose the figures of each slot are; `other` where nobody's."""
        return list(self._labels)

    def is_shown(self, tenant_id: str) -> bool:
        """Whether figures under this id may still grow."""
        return tenant_id in self._by_id or tenant_id in RESERVED

    def beyond(self) -> int:
        """How many tenants without a slot were seen of late, as far as they are remembered."""
        return len(self._busy)

    def listen(self, listener: Callable[[Tenant], None]) -> None:
        """Call `listener` for every tenant with a slot, and for each later one, before its slot is first used."""
        with self._lock:
            for slot, label in enumerate(self._labels):
                if slot < FIRST_SLOT or label != OTHER:
                    _tell(listener, Tenant(label, slot))
            self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Tenant], None]) -> None:
        """Undo `listen`; unknown listeners are ignored."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    # For who takes slots away ---------------------------------------------------------------------------------------
    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Nobody gets a slot meanwhile, and nobody is told of one."""
        with self._lock:
            try:
                self._changing = True
                yield
            finally:
                self._changing = False

    def candidates(self, fading: float) -> list[tuple[str, float]]:
        """The tenants without a slot that are the busiest of late, first the busiest, by how often they were seen.

        Args:
            fading: how much counts of what was counted up to the last time, 0 to 1.
        """
        with self.exclusively():
            self._busy.fade(fading)
            return [(name, weight) for name, weight in self._busy.largest() if name not in self._left]

    def leave(self, slot: int, busyness: float, may_return: bool) -> None:
        """Its tenant is `other` from now on; the slot keeps its name and its figures.

        Args:
            busyness: how busy it was of late, by which it is compared with others that have no slot.
            may_return: whether it has its slot back when it comes before the slot is vacated.
        """
        with self.exclusively():
            tenant = self._in_order[slot]
            del self._by_id[tenant.name]
            self._in_order[slot] = self.other
            self._left[tenant.name] = slot
            if may_return:
                self._returning.add(tenant.name)
            self._beyond[tenant.name] = tenant
            if busyness > 0:
                self._busy.add(tenant.name, busyness)
            tenant.slot, tenant.id = OTHER_SLOT, OTHER

    def left(self) -> list[int]:
        """The slots that were left and are not free yet."""
        with self._lock:
            return list(self._left.values())

    def vacate(self, slot: int) -> bool:
        """Its tenant is not to have it back any more; False when it has."""
        with self._lock:
            label = self._labels[slot]
            self._returning.discard(label)
            return self._left.get(label) == slot

    def free(self, slot: int) -> None:
        """A slot that was vacated has no figures of anybody's any more: it may be given."""
        with self.exclusively():
            del self._left[self._labels[slot]]
            self.generations[slot] += 1
            self._labels[slot] = OTHER
            self._vacant.append(slot)

    def give(self, tenant_id: str) -> bool:
        """Give a tenant a slot without its coming, wherever it is bound; False when there is none, or it has one."""
        with self._lock:
            if self._changing or tenant_id in self._by_id or tenant_id in self._left or not self._vacant:
                return False
            with self.exclusively():
                self._give(tenant_id)
                return True

    def resize(self, bound: int) -> None:
        """Change the bound; for `start()`, before anybody counts by slot.

        Tenants that are known keep their slots, also beyond a smaller bound: they may be bound already.
        """
        with self._lock:
            self.slots = max(bound + FIRST_SLOT, len(self._in_order))
            self.generations += [0] * (self.slots - len(self.generations))

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()
        self._changing = False


def _tell(listener: Callable[[Tenant], None], tenant: Tenant) -> None:
    try:
        listener(tenant)
    except Exception as error:
        fault("tenant.listener", error)
