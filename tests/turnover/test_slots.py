"""Slots that are left, vacated, and given again; and the sketch of who is busy without one."""

from __future__ import annotations

import gc
import linecache
import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instrumentation import slots, tenancy
from instrumentation.frequent import Frequent
from instrumentation.loop import cell as cells
from instrumentation.loop.cell import Cell
from instrumentation.slots import OTHER_SLOT, TenantTable
from sidecar.watchdog.holders import Holders
from sidecar.wire import cell as layout


def pass_on(table: TenantTable, slot: int) -> None:
    """The whole way of a slot from its tenant to nobody."""
    table.leave(slot, 0.0, may_return=False)
    assert table.vacate(slot)
    table.free(slot)


def test_a_slot_that_was_left_keeps_its_name_until_it_is_free() -> None:
    """Its tenant is `other` at once, for everybody who has it bound."""
    table = TenantTable(bound=1)
    acme = table.intern("acme")
    table.leave(2, 0.0, may_return=False)
    assert (acme.id, acme.slot, acme.name) == ("other", OTHER_SLOT, "acme")
    assert (table.labels()[2], table.in_order()[2]) == ("acme", table.other)
    assert table.intern("globex").slot == OTHER_SLOT
    assert table.vacate(2)
    table.free(2)
    assert table.labels()[2] == "other"
    globex = table.intern("globex")
    assert (globex.slot, globex.id, table.generations[2]) == (2, "globex", 1)
    assert table.intern("acme") is acme


def test_nobody_has_a_second_slot_while_the_first_has_its_name() -> None:
    """Two series of one name would be one: whoever was displaced waits until its figures have ended."""
    table = TenantTable(bound=2)
    table.intern("acme")
    table.intern("globex")
    table.leave(2, 9.0, may_return=False)
    pass_on(table, 3)
    assert table.intern("acme").slot == OTHER_SLOT
    assert not table.give("acme")
    assert [name for name, _ in table.candidates(1.0)] == []
    assert table.vacate(2)
    table.free(2)
    assert table.intern("acme").slot in (2, 3)


def test_who_came_back_is_not_vacated() -> None:
    """The slot is its tenant's again, under the same generation."""
    table = TenantTable(bound=1)
    acme = table.intern("acme")
    table.leave(2, 0.0, may_return=True)
    assert table.intern("acme") is acme
    assert acme.slot == 2
    assert not table.vacate(2)
    assert (table.left(), table.generations[2]) == ([], 0)


def test_a_slot_that_is_given_reaches_everybody_who_is_bound() -> None:
    """One object stands for a tenant as long as somebody has it, with a slot or without."""
    table = TenantTable(bound=1)
    heard: list[tuple[str, int]] = []
    table.listen(lambda who: heard.append((who.id, who.slot)))
    table.intern("acme")
    late = table.intern("late")
    assert table.intern("late") is late
    pass_on(table, 2)
    assert table.give("late")
    assert (late.slot, late.id) == (2, "late")
    assert heard[2:] == [("acme", 2), ("late", 2)]
    assert not table.give("late")


def test_a_million_tenants_without_a_slot_leave_nothing_behind() -> None:
    """But for the busiest, in as many counters as there are, and those who are bound."""
    table = TenantTable(bound=2)
    table.intern("a")
    table.intern("b")
    for n in range(100_000):
        table.intern(f"tenant-{n}")
        table.intern("busy")
    gc.collect()
    assert len(table._beyond) == 0
    assert table.beyond() <= 1024
    assert table.candidates(1.0)[0][0] == "busy"


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=300), st.integers(2, 12))
def test_an_estimate_is_never_above_the_truth_and_little_below(stream: list[tuple[int, int]], most: int) -> None:
    """By at most 2 / `most` of all that was added, in `most` counters."""
    sketch, truth = Frequent(most), Counter[str]()
    for key, weight in stream:
        sketch.add(str(key), weight)
        truth[str(key)] += weight
        assert len(sketch) <= most
    for key, weight in truth.items():
        assert weight - 2 * truth.total() / most <= sketch.estimate(key) <= weight


def test_what_is_old_fades() -> None:
    """And what has faded away is forgotten."""
    sketch = Frequent(4)
    sketch.add("a", 8)
    sketch.fade(0.5)
    sketch.add("b", 5)
    assert sketch.largest() == [("b", 5), ("a", 4)]
    sketch.fade(0.01)
    assert len(sketch) == 0


@settings(deadline=None)
@given(st.integers(0, 12), st.sampled_from(["name", "whose", "table", "delays"]), st.booleans())
def test_a_slot_that_changes_hands_between_two_reads(at: int, what: str, known: bool) -> None:
    """Wherever in a reading it happens: what is told is one tenant's, or nobody's."""
    table = TenantTable(bound=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tenancy, "TABLE", table)
        cell = Cell.create(None, 1, 1, lambda: 1_000_000)
    table.intern("acme")
    words, slot = cell.words, layout.slot_word(2)

    def has(nanoseconds: int, waits: int) -> None:
        words[slot + layout.LOOP_NS] = nanoseconds
        words[layout.delay_word(3, 2)] = waits

    has(7, 70)
    reads = 0

    def read(length: int, offset: int) -> bytes:
        nonlocal reads
        if armed and reads == at:
            table.leave(2, 0.0, may_return=False)
            table.vacate(2)
            cell.vacate(2)
            table.free(2)
            table.intern("globex")
            has(9, 90)
        reads += armed
        return words.cast("B")[offset : offset + length].tobytes()

    armed = False
    holders = Holders(read, 3, str)
    if known:
        assert holders.name(2) == "acme"
    armed = True
    acme, globex = 2, layout.holder(2, 1)
    if what == "name":
        assert holders.name(acme) in ("acme", "other")
        assert holders.name(globex) in ("globex", "other")
    elif what == "whose":
        assert holders.whose(500_000 & layout.START_BITS | 2) in ("acme", "other")
    elif what == "delays":
        delays = holders.delays(acme)
        assert delays is None or delays[0] == 70
    else:
        row = holders.table()[2 * layout.SLOT_WORDS :]
        assert (row[layout.OWNER], row[layout.LOOP_NS]) in ((0, 7), (1, 9))
    cell.release()


def test_a_newcomer_waits_while_a_cell_is_cleared() -> None:
    """A cell says whether it is being written by being odd: two who write at once would make that even again."""
    table = TenantTable(bound=3)
    table.intern("acme")
    late = threading.Event()
    newcomer = threading.Thread(target=lambda: (table.intern("globex"), late.set()))
    looks: list[bool] = []

    def clock() -> int:
        if clearing and not looks:
            assert table.intern("initech") is table.unknown  # a finalizer or a signal handler, in the middle of it
            newcomer.start()
            looks.append(late.wait(0.05))
            looks.append(bool(cell.words[layout.OWNERS] % 2))
        return 1_000_000

    clearing = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tenancy, "TABLE", table)
        cell = Cell.create(None, 1, 1, clock)
    table.leave(2, 0.0, may_return=False)
    table.vacate(2)
    clearing = True
    cell.vacate(2)
    newcomer.join(60)
    assert looks == [False, True]
    assert late.is_set()
    assert cell.words[layout.OWNERS] % 2 == 0


def test_an_interrupt_leaves_everybody_his_own_slot() -> None:
    """Ctrl-C in a notebook, whose kernel goes on, wherever it hits who gives a slot: names and slots stay together."""
    files = {slots.__file__, cells.__file__}
    line = 0
    while True:
        table = TenantTable(bound=5)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tenancy, "TABLE", table)
            cell = Cell.create(None, 1, 1, lambda: 1_000_000)
        for name in ("acme", "globex"):
            table.intern(name)
        table.leave(2, 0.0, may_return=False)
        table.vacate(2)
        cell.vacate(2)
        table.free(2)
        hit = [interrupted(table, name, files, line) for name in ("takes-vacant", "takes-new")]
        tenants = [table.intern(name) for name in ("globex", "initech", "umbrella", "takes-new", "takes-vacant")]
        assert cell.words[layout.OWNERS] % 2 == 0, line
        holders = Holders(reading(cell), 7, str)
        for tenant in tenants:
            assert tenant.id in (tenant.name, "other"), line
            if tenant.id != "other":
                assert table.labels()[tenant.slot] == tenant.id, line
                assert holders.name(layout.holder(tenant.slot, table.generations[tenant.slot])) == tenant.id, line
        with_slots = [tenant.slot for tenant in tenants if tenant.id != "other"]
        assert len(set(with_slots)) == len(with_slots) >= 3, line
        if not any(hit):
            break
        line += 1
    assert line > 20


def reading(cell: Cell) -> Callable[[int, int], bytes]:
    """As a watchdog reads a cell's file."""
    return lambda length, offset: cell.words.cast("B")[offset : offset + length].tobytes()


def interrupted(table: TenantTable, name: str, files: set[str], line: int) -> bool:
    """Whether a tenant who comes was interrupted before the line of this number."""
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal seen
        if frame.f_code.co_filename not in files:
            return None
        # Python looks for signals at calls, and not before a store that ends a `finally`.
        stores = "_changing = False" in linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not stores:
            seen += 1
            if seen == line + 1:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        table.intern(name)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False
