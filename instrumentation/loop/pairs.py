"""Who made whom wait at one loop: seconds by pair of tenants, culprit and victim, the largest pairs only.

A table of fixed size in the loop's cell. When it is full, the smallest quarter is added up in one number and makes
room: the sum over all pairs stays exact, and so does a pair that is among the largest all along. Tenants are told apart
by slot and generation (`layout.holder`), so that a pair is never another's who has the slot later. Called after long
slices only, on the loop's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from instrumentation.tenancy import OTHER_SLOT
from sidecar.wire import cell as layout

Pair = tuple[int, int]  # holders of slots: culprit and victim
SHOWN_PAIRS: Final = 32
#: No tenant waits for itself, so this pair stands for all that are not shown.
REST: Final = (OTHER_SLOT, OTHER_SLOT)


class Pairs:
    """The pairs of one loop.

    Args:
        generations: by slot, see `TenantTable`; without, nobody ever loses a slot.

    Attributes:
        outdated: whether there are pairs of somebody who has lost a slot; set by any thread.
        kept: nanoseconds by `layout.pair_key`.
        rest_ns: all other pairs together.
    """

    __slots__ = ("_generations", "_places", "kept", "outdated", "rest_ns")

    def __init__(self, generations: Sequence[int] = ()) -> None:
        self.kept: dict[int, int] = {}
        self.rest_ns = 0
        self.outdated = False
        self._generations = generations
        self._places: dict[int, int] = {}

    def add(self, words: memoryview, slots: int, culprit: int, victim: int, wait_ns: int) -> None:
        """Slot `victim` waited so long for slot `culprit`; `words` is a cell with so many slots."""
        key = layout.pair_key(self._holder(culprit), self._holder(victim))
        table = layout.pairs_word(slots)
        if self.outdated:
            self.outdated = False
            self._make_room(words, table)
        place = self._places.get(key)
        if place is None:
            if len(self.kept) >= layout.MAX_PAIRS:
                self._make_room(words, table)
            place = self._places[key] = len(self.kept)
            self.kept[key] = 0
        self.kept[key] += wait_ns
        at = table + layout.PAIRS_HEADER + place * layout.PAIR_WORDS
        words[at + layout.PAIR_NS] = self.kept[key]
        words[at + layout.PAIR_KEY] = key  # last: an entry with a key is complete

    def _holder(self, slot: int) -> int:
        return layout.holder(slot, self._generations[slot]) if slot < len(self._generations) else slot

    def _is_current(self, key: int) -> bool:
        return all(self._holder(holder & layout.SLOT_BITS) == holder for holder in layout.holders_of(key))

    def _make_room(self, words: memoryview, table: int) -> None:
        current = [entry for entry in self.kept.items() if self._is_current(entry[0])]
        remain = sorted(current, key=lambda entry: entry[1], reverse=True)[: layout.MAX_PAIRS * 3 // 4]
        self.rest_ns += sum(self.kept.values()) - sum(wait_ns for _, wait_ns in remain)
        self.kept = dict(remain)
        self._places = {key: place for place, (key, _) in enumerate(remain)}
        words[table + layout.PAIRS_CHANGE] += 1  # odd: keys move
        words[table + layout.PAIRS_REST_NS] = self.rest_ns
        for place in range(layout.MAX_PAIRS):
            at = table + layout.PAIRS_HEADER + place * layout.PAIR_WORDS
            words[at + layout.PAIR_KEY], words[at + layout.PAIR_NS] = remain[place] if place < len(remain) else (0, 0)
        words[table + layout.PAIRS_CHANGE] += 1


class PairsReader:
    """Which pairs are shown, and how much of each: few, monotonic, and with the rest the sum of all.

    A pair that comes to be shown begins with what it has grown by since the reading before: what it had until then has
    been shown as part of the rest, and is never taken out of that. One that others outgrow becomes part of the rest.
    One of a tenant who loses its slot ends where it is.

    Attributes:
        began: since when the pairs of the last reading are counted, nanoseconds since 1970; 0: from the very beginning.
    """

    def __init__(self) -> None:
        self._before: dict[Pair, int] = {}
        self._base: dict[Pair, int] = {}  # of those that are shown
        self._shown: dict[Pair, int] = {}
        self._rest = 0
        self.began: dict[Pair, int] = {}
        self._read_at = 0
        self._ended = 0  # shown of pairs that have ended
        self._over: set[int] = set()  # holders who have lost their slot

    def hand_over(self, holder: int) -> None:
        """The holder's slot is taken away."""
        self._over.add(holder)
        for pair in [pair for pair in self._shown if holder in pair]:
            self._ended += self._shown.pop(pair)
            self._base.pop(pair, None)

    def read(self, pairs: dict[Pair, int], rest: int, now_ns: int = 0) -> dict[Pair, int]:
        """The next reading, of nanoseconds by pair and those of all pairs that are not known any more.

        Args:
            now_ns: when that is, in nanoseconds since 1970.
        """
        whole = sum(pairs.values()) + rest
        self._over &= {holder for pair in pairs for holder in pair}
        present = (pair for pair in pairs if self._over.isdisjoint(pair))
        largest = sorted(present, key=lambda pair: pairs[pair], reverse=True)[:SHOWN_PAIRS]
        base = {pair: self._base.get(pair, self._before.get(pair, 0)) for pair in largest}
        shown = {pair: max(self._shown.get(pair, 0), pairs[pair] - base[pair]) for pair in largest}
        began = self._read_at
        self.began = {pair: self.began.get(pair, began) if pair in self._shown else began for pair in largest}
        self._read_at = now_ns
        self._before, self._base, self._shown = dict(pairs), base, shown
        self._rest = max(self._rest, whole - self._ended - sum(shown.values()))
        return {**shown, REST: self._rest} if self._rest else shown
