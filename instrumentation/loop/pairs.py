"""Who made whom wait at one loop: seconds by pair of tenants, culprit and victim, the largest pairs only.

A table of fixed size in the loop's cell. When it is full, the smallest quarter is added up in one number and makes
room: the sum over all pairs stays exact, and so does a pair that is among the largest all along. Called after long
slices only, on the loop's thread.
"""

from __future__ import annotations

from typing import Final

from instrumentation.tenancy import OTHER_SLOT
from sidecar.wire import cell as layout

Pair = tuple[int, int]  # slots of culprit and victim
SHOWN_PAIRS: Final = 32
#: No tenant waits for itself, so this pair stands for all that are not shown.
REST: Final = (OTHER_SLOT, OTHER_SLOT)


class Pairs:
    """The pairs of one loop.

    Attributes:
        kept: nanoseconds by `layout.pair_key`.
        rest_ns: all other pairs together.
    """

    __slots__ = ("_places", "kept", "rest_ns")

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}
        self.rest_ns = 0
        self._places: dict[int, int] = {}

    def add(self, words: memoryview, slots: int, culprit: int, victim: int, wait_ns: int) -> None:
        """The victim waited so long for the culprit; `words` is a cell with so many slots."""
        key = layout.pair_key(culprit, victim)
        table = layout.pairs_word(slots)
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

    def _make_room(self, words: memoryview, table: int) -> None:
        largest = sorted(self.kept.items(), key=lambda entry: entry[1], reverse=True)
        remain = largest[: layout.MAX_PAIRS * 3 // 4]
        self.rest_ns += sum(wait_ns for _, wait_ns in largest[len(remain) :])
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
    """

    def __init__(self) -> None:
        self._before: dict[Pair, int] = {}
        self._base: dict[Pair, int] = {}  # of those that are shown
        self._shown: dict[Pair, int] = {}
        self._rest = 0

    def read(self, pairs: dict[Pair, int], rest: int) -> dict[Pair, int]:
        """The next reading, of nanoseconds by pair and those of all pairs that are not known any more."""
        whole = sum(pairs.values()) + rest
        largest = sorted(pairs, key=lambda pair: pairs[pair], reverse=True)[:SHOWN_PAIRS]
        base = {pair: self._base.get(pair, self._before.get(pair, 0)) for pair in largest}
        shown = {pair: max(self._shown.get(pair, 0), pairs[pair] - base[pair]) for pair in largest}
        self._before, self._base, self._shown = dict(pairs), base, shown
        self._rest = max(self._rest, whole - sum(shown.values()))
        return {**shown, REST: self._rest} if self._rest else shown
