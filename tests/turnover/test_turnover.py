"""Slots pass from who is idle or hardly busy to who is busy; no figure is lost, or told of somebody else."""

from __future__ import annotations

import asyncio

from few_slots import IDLE_NS, SECOND, MakeHouse, a_house
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from instrumentation import conventions, tenancy
from instrumentation.conventions import ABANDONED, TENANT_LOOP_TIME
from instrumentation.slots import TenantTable
from instrumentation.telemetry.accumulators import Accumulators
from instrumentation.telemetry.loop_metrics import loop_metrics
from instrumentation.turnover import TENURE_NS

INTERVAL_NS = 10 * SECOND


def test_an_idle_tenant_gives_its_slot_to_the_next(make_house: MakeHouse) -> None:
    """Its series end when its last figures have arrived; those of the next begin at 0, with a start of their own."""
    house = make_house(2)
    house.work("acme", 30)
    house.work("globex", 50)
    for _ in range(IDLE_NS // INTERVAL_NS + 4):
        house.work("globex", 1)
        house.interval()
    assert house.turnover.freed == 1
    assert ("autogen.tenant.loop.time", "acme") not in house.receiver.present
    assert ("autogen.messages", "acme") not in house.receiver.present
    house.work("initech", 7)
    assert house.shown() == {"globex", "initech"}
    house.intervals(2)
    house.check()
    assert house.receiver.of(TENANT_LOOP_TIME)["initech"] == 0.007


def test_who_comes_back_before_the_slot_is_free_goes_on(make_house: MakeHouse) -> None:
    """As if it had not left: one series, one start."""
    house = make_house(1)
    house.work("acme", 30)
    house.interval()
    while house.turnover.freed == 0:
        house.interval()
    assert house.shown() == set()
    house.work("acme", 5)
    assert house.shown() == {"acme"}
    house.intervals(5)
    assert house.table.generations[2] == 0
    house.check()


def test_who_comes_back_later_begins_anew(make_house: MakeHouse) -> None:
    """With a later start: the receiver adds both up."""
    house = make_house(1)
    house.work("acme", 30)
    for _ in range(IDLE_NS // INTERVAL_NS + 5):
        house.interval()
    assert house.table.generations[2] == 1
    house.work("acme", 5)
    house.intervals(3)
    house.check()
    assert house.receiver.of(TENANT_LOOP_TIME) == {"acme": 0.035}


def test_who_comes_back_to_a_slot_that_was_free_for_long_begins_after_its_end(make_house: MakeHouse) -> None:
    """The slot was free before its last series began, in another slot: the start is not when the slot became free."""
    house = make_house(2)
    house.work("first", 1)
    house.work("second", 1)
    for _ in range(IDLE_NS // INTERVAL_NS + 5):
        house.interval()
    assert house.table.generations[2:4] == [1, 1]
    house.work("acme", 1)
    had = house.held["acme"].slot
    for _ in range(IDLE_NS // INTERVAL_NS + 5):
        house.interval()
    house.work("globex", 1)
    house.work("acme", 1)
    assert house.held["acme"].slot != had
    house.intervals(3)
    house.check()


def test_a_busy_newcomer_takes_the_place_of_one_that_is_not(make_house: MakeHouse) -> None:
    """Who came first does not matter; from then on the displaced one is in `other`, and nothing is lost."""
    house = make_house(2)
    house.work("early", 10)
    house.work("busy", 10)
    for _ in range(TENURE_NS // INTERVAL_NS + 8):
        house.work("early", 1)
        for _ in range(10):
            house.work("busy", 3)
            house.work("late", 3)
        house.interval()
    assert house.shown() == {"busy", "late"}
    assert house.turnover.displaced == 1
    house.work("early", 2)
    house.intervals(3)
    house.check()


def test_two_who_are_about_as_busy_do_not_take_turns(make_house: MakeHouse) -> None:
    """Somebody has to be in `other`: it stays the same one."""
    house = make_house(1)
    for _ in range(60):
        for _ in range(10):
            house.work("first", 3)
            house.work("second", 3)
        house.interval()
    assert house.turnover.displaced == 0
    assert house.shown() == {"first"}


def test_who_holds_the_loop_comes_to_be_named_though_it_comes_rarely(make_house: MakeHouse) -> None:
    """A tenant without a slot whose few slices are long: that is what one wants to see."""
    house = make_house(1)
    for _ in range(TENURE_NS // INTERVAL_NS + 8):
        house.work("small", 1)
        house.work("blocker", 400)
        house.interval()
    assert house.shown() == {"blocker"}
    house.intervals(2)
    house.check()


def test_a_context_that_was_bound_long_ago_follows_its_tenant(make_house: MakeHouse) -> None:
    """Into a slot, and out of it: a task that binds once and lives for ever is counted where its tenant is."""
    house = make_house(1)
    house.work("acme", 1)
    house.work("late", 1)
    bound = house.held["late"]
    assert bound.id == "other"
    for _ in range(TENURE_NS // INTERVAL_NS + 8):
        for _ in range(10):
            house.work("late", 3)
        house.interval()
    assert (bound.id, bound.name) == ("late", "late")
    assert house.held["acme"].id == "other"
    assert house.held["acme"].name == "acme"


def test_nothing_is_let_go_of_that_has_not_arrived(make_house: MakeHouse) -> None:
    """The sidecar is away: the slot waits for it."""
    house = make_house(1)
    house.work("acme", 30)
    for _ in range(IDLE_NS // INTERVAL_NS + 20):
        house.interval(arrives=False)
    house.work("globex", 3)
    assert house.shown() == set()
    house.intervals(4)
    assert ("autogen.tenant.loop.time", "acme") not in house.receiver.present
    house.work("globex", 3)
    assert house.shown() == {"globex"}
    house.intervals(2)
    house.check()


def test_a_loop_that_stands_still_with_figures_unsettled_keeps_the_slot(make_house: MakeHouse) -> None:
    """What CPU time its last slices took is divided when it runs again: for a minute nobody else may have it."""
    house = make_house(1)
    house.work("acme", 1)
    for _ in range(IDLE_NS // INTERVAL_NS + 5):
        house.clock.wait(10_000)
        house.collect()
    assert house.table.generations[2] == 0
    house.intervals(3)
    assert house.table.generations[2] == 1


def test_a_loop_that_never_runs_again_gives_the_slot_up(make_house: MakeHouse) -> None:
    """A thread that keeps its loop and has nothing to do: each would keep a slot, until none is left. The CPU time that
    was not divided is nobody's then, also when the loop does run again."""
    house = make_house(1)
    house.work("acme", 3)
    for _ in range(IDLE_NS // INTERVAL_NS + 10):
        house.clock.wait(10_000)
        house.collect()
    assert house.table.generations[2] == 1
    house.work("globex", 4)
    assert house.shown() == {"globex"}
    house.intervals(2)
    house.check()
    totals = house.loops.totals()
    assert (totals.active_ns[2], totals.cpu_ns[2]) == (4_000_000, 4_000_000)


def test_pairs_of_who_lost_the_slot_end(make_house: MakeHouse) -> None:
    """Who made whom wait is told by tenant, and the next one who has the slot has no part in it."""
    house = make_house(3)

    def hold(culprit: str, victim: str, milliseconds: int) -> None:
        async def main() -> None:
            with tenancy.tenant(victim):
                asyncio.get_running_loop().call_soon(int)
            with tenancy.tenant(culprit):
                house.clock.advance(milliseconds)

        house.loop.run_until_complete(main())

    def pairs() -> dict[tuple[str, str], float]:
        (found,) = [m for m in loop_metrics(house.loops.totals(), 1, house.wall) if m.name.endswith("pair")]
        return {
            (str(p.attributes["tenant.id"]), str(p.attributes[conventions.VICTIM])): p.value  # type: ignore[index,union-attr]
            for p in found.data.data_points
        }

    hold("acme", "globex", 40)
    hold("globex", "acme", 20)
    house.interval()
    assert pairs()["acme", "globex"] == 0.04
    for _ in range(IDLE_NS // INTERVAL_NS + 4):
        hold("globex", "unknown-to-us", 6)
        house.interval()
    assert house.turnover.freed == 1
    hold("initech", "globex", 10)
    house.interval()
    told = pairs()
    assert told["initech", "globex"] == 0.01
    assert not [pair for pair in told if "acme" in pair]


def test_levels_of_tenants_without_a_slot_do_not_add_up_without_a_sidecar() -> None:
    """Callers of any number of tenants give up, and their handlers end: nothing is left, though nobody was told."""
    table = TenantTable(bound=1)
    table.intern("acme")
    accumulators = Accumulators(is_shown=table.is_shown)
    for reading in range(3):
        for n in range(5_000):
            with accumulators.lock:
                for change in (1, -1):
                    accumulators.of(ABANDONED).add((f"tenant-{reading}-{n}",), change)
                accumulators.of(ABANDONED).add(("acme",), 1)
        accumulators.collect(1 + reading, delivered=False)
        accumulators.collect(2 + reading, delivered=False)
    assert accumulators.of(ABANDONED)._sums == {("acme",): 15_000}


NAMES = st.sampled_from([f"t{n}" for n in range(7)])


class Comings(RuleBasedStateMachine):
    """Seven tenants and three slots: arrivals, idleness, returns, displacement, exports that fail.

    The model is one line: what a tenant does counts for it when it has a slot at that moment, and for `other` when not.
    """

    def __init__(self) -> None:
        super().__init__()
        self._house = a_house(3)
        self.house = self._house.__enter__()

    def teardown(self) -> None:
        try:
            self.house.intervals(3)
            self.house.check()
        finally:
            self._house.__exit__(None, None, None)

    @rule(who=NAMES, milliseconds=st.integers(1, 60))
    def work(self, who: str, milliseconds: int) -> None:
        self.house.work(who, milliseconds)

    @rule(who=NAMES, times=st.integers(10, 60))
    def be_busy(self, who: str, times: int) -> None:
        for _ in range(times):
            self.house.work(who, 2)

    @rule(arrives=st.booleans())
    def export(self, arrives: bool) -> None:
        self.house.interval(arrives)

    @rule()
    def some_minutes(self) -> None:
        self.house.intervals(10)

    @precondition(lambda self: len(self.house.held) > 2)
    @rule(who=NAMES)
    def only_one_goes_on(self, who: str) -> None:
        for _ in range(IDLE_NS // INTERVAL_NS + 3):
            self.house.work(who, 1)
            self.house.interval()

    @rule()
    def forget(self) -> None:
        """Nobody is bound to them any more: another object stands for them when they come back."""
        self.house.held.clear()

    @invariant()
    def nobody_has_two_slots(self) -> None:
        labels = [label for label in self.house.table.labels() if label != "other"]
        assert len(labels) == len(set(labels)) <= 4

    @invariant()
    def who_has_a_slot_is_in_it(self) -> None:
        for slot, tenant in enumerate(self.house.table.in_order()):
            if tenant is not self.house.table.other:
                assert (tenant.slot, tenant.id) == (slot, tenant.name)


TestComings = Comings.TestCase
TestComings.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
