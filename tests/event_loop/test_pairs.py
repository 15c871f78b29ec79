"""Who made whom wait: exact for the pairs that matter, none lost, bounded for any number of tenants."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from instrumentation import tenancy, tenant
from instrumentation.loop import Loops
from instrumentation.loop.pairs import REST, SHOWN_PAIRS, Pairs, PairsReader
from sidecar.wire import cell as layout

SLOTS = 16


def words() -> memoryview:
    return memoryview(bytearray(layout.size(SLOTS))).cast("Q")


def in_the_cell(cell: memoryview) -> tuple[dict[tuple[int, int], int], int]:
    """What a reader finds: nanoseconds by pair, and those of all others."""
    table = layout.pairs_word(SLOTS)
    assert cell[table + layout.PAIRS_CHANGE] % 2 == 0
    found = {}
    for place in range(layout.MAX_PAIRS):
        at = table + layout.PAIRS_HEADER + place * layout.PAIR_WORDS
        if cell[at + layout.PAIR_KEY]:
            found[layout.holders_of(cell[at + layout.PAIR_KEY])] = cell[at + layout.PAIR_NS]
    return found, cell[table + layout.PAIRS_REST_NS]


WAITS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 10**12)), max_size=600)


@given(WAITS)
def test_the_sum_over_all_pairs_is_exact(waits: list[tuple[int, int, int]]) -> None:
    """Also when the table overflows; and the cell says what the account says."""
    cell, pairs = words(), Pairs()
    for culprit, victim, wait in waits:
        pairs.add(cell, SLOTS, culprit, victim, wait)
    assert sum(pairs.kept.values()) + pairs.rest_ns == sum(wait for *_, wait in waits)
    assert len(pairs.kept) <= layout.MAX_PAIRS
    assert in_the_cell(cell) == ({layout.holders_of(key): wait for key, wait in pairs.kept.items()}, pairs.rest_ns)


def test_the_largest_pairs_stay_exact_whatever_passes_by() -> None:
    """A hundred thousand pairs that occur once do not touch the one that occurs often."""
    cell, pairs = words(), Pairs()
    for n in range(100_000):
        pairs.add(cell, SLOTS, n % 4096, n // 4096 + 1, 10)
        if n % 100 == 0:
            pairs.add(cell, SLOTS, 1, 4095, 1000)
    assert pairs.kept[layout.pair_key(1, 4095)] == 1_000_000
    assert len(pairs.kept) <= layout.MAX_PAIRS


def test_keys_tell_all_slots_apart() -> None:
    """Up to the largest cell, and none of them is 0."""
    for culprit, victim in [(0, 0), (0, 4095), (4095, 0), (4095, 4095), (17, 4)]:
        key = layout.pair_key(culprit, victim)
        assert key
        assert layout.holders_of(key) == (culprit, victim)


def test_a_slice_is_charged_to_culprit_and_victims(loops: Loops, clock: Any, virtual_loop: Any) -> None:
    """To the nanosecond, by the virtual clock: two culprits, two victims."""

    async def main() -> None:
        ready = asyncio.get_running_loop().call_soon

        def hold(culprit: str, milliseconds: float, *victims: str) -> None:
            with tenant(culprit):
                ready(clock.advance, milliseconds)
            for victim in victims:
                with tenant(victim):
                    ready(int)

        hold("pair-a", 10, "pair-b", "pair-c", "pair-c")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        hold("pair-b", 20, "pair-a")
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    virtual_loop.run_until_complete(main())
    slot = {name: tenancy.TABLE.intern(name).slot for name in ("pair-a", "pair-b", "pair-c")}
    found = {pair: ns for pair, ns in loops.totals().pairs_ns.items() if set(pair) <= set(slot.values())}
    assert found == {
        (slot["pair-a"], slot["pair-b"]): 10_000_000,
        (slot["pair-a"], slot["pair-c"]): 20_000_000,
        (slot["pair-b"], slot["pair-a"]): 20_000_000,
    }


READINGS = st.lists(
    st.dictionaries(st.tuples(st.integers(2, 12), st.integers(2, 12)), st.integers(1, 10**9), max_size=60), max_size=12
)


@given(READINGS)
def test_what_was_shown_is_never_taken_back(growths: list[dict[tuple[int, int], int]]) -> None:
    """However pairs overtake one another: every series that goes on grows, and together they are the sum of all."""
    reader = PairsReader()
    pairs: Counter[tuple[int, int]] = Counter()
    before: dict[Any, int] = {}
    for growth in growths:
        pairs.update(growth)
        shown = reader.read(dict(pairs), 0)
        assert len(shown) <= SHOWN_PAIRS + 1
        assert sum(shown.values()) == sum(pairs.values())
        for pair in shown.keys() & before.keys():
            assert shown[pair] >= before[pair]
        if REST in before:
            assert REST in shown
        before = shown


def test_the_largest_pairs_are_shown_whole() -> None:
    """A pair that is among the largest from its first reading on has all that it waited."""
    reader = PairsReader()
    small = {(2, n): 1 for n in range(100, 200)}
    shown = reader.read({(3, 4): 1000, **small}, 5)
    assert shown[3, 4] == 1000
    shown = reader.read({(3, 4): 3000, **small}, 5)
    assert shown[3, 4] == 3000
    assert sum(shown.values()) == 3105
