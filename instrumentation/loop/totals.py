"""The totals of all loops of a process, as the metrics read them: cumulative, and never going down.

Loops come and go, and a reading may fall into the middle of a slice; what was shown once is never taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import add
from typing import Final

from instrumentation.tenancy import FIRST_SLOT, OTHER_SLOT
from sidecar.wire import cell as layout

from .account import Account
from .delays import Delays
from .pairs import Pair, PairsReader


@dataclass(frozen=True, slots=True)
class Totals:
    """One reading. Times are nanoseconds, lists and keys are tenant slots.

    What is by slot counts from when the slot's present tenant got it.

    Attributes:
        began: when that was, nanoseconds since 1970, of slots that somebody else had before.
        pairs_began: since when pairs are counted, for those that were not from the very beginning.
        active_ns: loop time that each tenant had.
        cpu_ns: CPU time of it, up to a few milliseconds ago; the rest are blocking calls, and waits for the interpreter
            or for a CPU.
        caused_ns: time that others' ready work waited for each tenant's long slices.
        pairs_ns: time that the victim's ready work waited for the culprit's long slices, by (culprit, victim); the
            largest pairs, and one of `other` twice for all the rest.
        suffered: waits of each tenant's ready work for others' long slices; only tenants that waited.
        delay: how late the loops ran timers that were due.
        framework_ns: CPU time that the loops' threads used outside of callbacks: polling, timers, dispatching.
        ended_ns: loop time of tenants who have lost their slots, while they had them.
        idle_ns: the rest: `sum(active_ns) + ended_ns + framework_ns + idle_ns` is the time since the loops' adoption,
            summed over the loops.
        utilization: share of the time since the reading before that was not idle, 0 to 1.
        tenants: how many tenants have had a loop since the reading before; all beyond the bound are one.
        cpu_delay_ns: time for which the loops' threads were ready to run and the host had no CPU for them.
        loops: loops under account now.
    """

    began: dict[int, int]
    pairs_began: dict[Pair, int]
    ended_ns: int
    active_ns: list[int]
    cpu_ns: list[int]
    caused_ns: list[int]
    pairs_ns: dict[Pair, int]
    suffered: dict[int, Delays]
    delay: Delays
    framework_ns: int
    idle_ns: int
    utilization: float
    tenants: int
    cpu_delay_ns: int
    loops: int


class Sum:
    """Adds accounts up."""

    def __init__(self, slots: int) -> None:
        self.active = [0] * slots
        self.cpu = [0] * slots
        self.framework = 0
        self.caused = [0] * slots
        self.pairs: dict[Pair, int] = {}
        self.rest = 0  # of pairs that are not known any more
        self.suffered: dict[int, Delays] = {}
        self.delay = Delays()
        self.wall = 0

    def add(self, account: Account, now: int) -> None:
        """Add what one account says at `now`, or said when it ended."""
        cpu = account.cpu.used.copy()  # before the active time, of which it is a part
        self.framework += account.cpu.framework
        self._add_times(account.active_now(), cpu, account.caused)
        self.rest += account.pairs.rest_ns
        for key, waited in account.pairs.kept.copy().items():
            pair = layout.holders_of(key)
            self.pairs[pair] = self.pairs.get(pair, 0) + waited
        for slot, delays in list(account.suffered.items()):
            self.suffered.setdefault(slot, Delays()).add(delays)
        self.delay.add(account.delay)
        self.wall += (now if account.ended is None else account.ended) - account.adopted

    def merge(self, other: Sum) -> None:
        """Add another sum."""
        self.framework += other.framework
        self._add_times(other.active, other.cpu, other.caused)
        self.rest += other.rest
        for pair, waited in other.pairs.items():
            self.pairs[pair] = self.pairs.get(pair, 0) + waited
        for slot, delays in other.suffered.items():
            self.suffered.setdefault(slot, Delays()).add(delays)
        self.delay.add(other.delay)
        self.wall += other.wall

    def forget_small_pairs(self) -> None:
        """Keep the largest pairs, and of the others their sum: loops come and go, and each has pairs."""
        if len(self.pairs) > layout.MAX_PAIRS:
            largest = sorted(self.pairs.items(), key=lambda entry: entry[1], reverse=True)
            self.pairs = dict(largest[: layout.MAX_PAIRS])
            self.rest += sum(waited for _, waited in largest[layout.MAX_PAIRS :])

    def _add_times(self, active: list[int], cpu: list[int], caused: list[int]) -> None:
        # `strict` would be wrong: a loop may have been adopted under a tenant table of another size.
        self.active = _summed(self.active, active)
        self.cpu = _summed(self.cpu, cpu)
        self.caused = _summed(self.caused, caused)


class Reader:
    """Turns sums into readings that never go down while a tenant has its slot.

    Sums go on over all tenants that have a slot one after the other; each is shown what has come since it got it.
    """

    def __init__(self) -> None:
        self._active: list[int] = []
        self._bases: dict[int, _Base] = {}
        self._idle = 0
        self._ended = 0
        self._pairs = PairsReader()
        self._last = (0, 0)  # time that was not idle, and wall time, at the reading before

    def hand_over(self, slot: int, owner: int, total: Sum, now_ns: int) -> None:
        """All that is counted in this slot so far is its former tenant's.

        Args:
            owner: how many tenants the slot was taken from before.
            total: what all accounts say.
            now_ns: when that is, nanoseconds since 1970.
        """
        before = self._bases.get(slot, _NOTHING)
        suffered = Delays()
        suffered.add(total.suffered.get(slot, Delays()))
        # As it was shown: nothing may be counted here any more.
        active = max(total.active[slot], self._active[slot] if slot < len(self._active) else 0)
        self._ended += active - before.active
        self._bases[slot] = _Base(now_ns, active, total.cpu[slot], total.caused[slot], suffered)
        self._pairs.hand_over(layout.holder(slot, owner))

    def read(self, total: Sum, loops: int, cpu_delay: int, now_ns: int = 0) -> Totals:
        """The next reading, with what `CpuDelay` said, at `now_ns` since 1970."""
        before = _padded(self._active, len(total.active))
        self._active = [max(pair) for pair in zip(total.active, before, strict=True)]
        had = sum(now > then for now, then in zip(self._active[OTHER_SLOT:], before[OTHER_SLOT:], strict=True))
        active = sum(self._active)
        # Work of the loop's own that was not settled yet has been shown as idle before, and stays so.
        self._idle = max(self._idle, total.wall - active - total.framework)
        busy = max(active, total.wall - self._idle)
        before_busy, before_wall = self._last
        self._last = (busy, total.wall)
        wall = total.wall - before_wall
        utilization = min(1.0, max(0.0, (busy - before_busy) / wall)) if wall > 0 else 0.0
        bases = self._bases
        pairs = self._pairs.read(total.pairs, total.rest, now_ns)
        shown = list(self._active), list(total.cpu), list(total.caused)
        for slot in range(FIRST_SLOT, len(self._active)):
            base = bases.get(slot)
            if base is None:
                if not self._active[slot] and slot not in total.suffered:
                    bases[slot] = _Base(now_ns)
                continue
            for numbers, came in zip(shown, (base.active, base.cpu, base.caused), strict=True):
                numbers[slot] -= came
            delays = total.suffered.pop(slot, None)
            if delays is not None and delays.counts != base.suffered.counts:
                total.suffered[slot] = delays.since(base.suffered)
            if slot not in total.suffered and not any(numbers[slot] for numbers in shown):
                base.began_ns = now_ns
        return Totals(
            began={slot: base.began_ns for slot, base in bases.items()},
            pairs_began={_slots(pair): began for pair, began in self._pairs.began.items() if began},
            ended_ns=self._ended,
            active_ns=shown[0],
            cpu_ns=shown[1],
            caused_ns=shown[2],
            pairs_ns={_slots(pair): waited for pair, waited in pairs.items()},
            suffered=total.suffered,
            delay=total.delay,
            framework_ns=busy - active,
            idle_ns=self._idle,
            utilization=utilization,
            tenants=had,
            cpu_delay_ns=cpu_delay,
            loops=loops,
        )


@dataclass(slots=True)
class _Base:
    """What a slot had counted when its former tenant lost it; of one that nobody had, nothing.

    Attributes:
        began_ns: the last reading at which its present tenant had counted nothing. That one may have had another slot
            while this one was free: its series there began before.
    """

    began_ns: int = 0
    active: int = 0
    cpu: int = 0
    caused: int = 0
    suffered: Delays = field(default_factory=Delays)


_NOTHING: Final = _Base()


def _slots(pair: Pair) -> Pair:
    # Pairs that are shown are of tenants who have their slots.
    return pair[0] & layout.SLOT_BITS, pair[1] & layout.SLOT_BITS


def _padded(numbers: list[int], length: int) -> list[int]:
    return numbers + [0] * (length - len(numbers))


def _summed(left: list[int], right: list[int]) -> list[int]:
    length = max(len(left), len(right))
    return list(map(add, _padded(left, length), _padded(right, length)))
