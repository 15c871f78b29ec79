"""What adds up for a tenant: turns over their budget, and waits over their target when these last."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from instrumentation import tenancy
from instrumentation.loop.cell import Cell
from sidecar.watchdog.described import described
from sidecar.watchdog.opening import open_cell
from sidecar.watchdog.tenants import HOLD_NS, MAX_HELD, QUIET_NS, STEP_NS, STEPS, TenantWatch, above_target
from sidecar.watchdog.watched import Watched
from sidecar.wire import cell as layout
from sidecar.wire.limits import parse

MS = 1_000_000
SECOND = 1_000 * MS
WALL = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
LIMITS = parse(
    b'default = "all"\n[tiers.all]\ndelay_p99 = 0.1\n[tiers.patient]\nturn = 1\n[tenants]\ninitech = "patient"'
)


def slot(name: str) -> int:
    return tenancy.TABLE.intern(name).slot


class Bench:
    """A loop under watch, its cell in the test's hands, and a clock that the test moves."""

    def __init__(self, make_cell: Callable[[int], Cell]) -> None:
        self.now = SECOND
        self.withheld: list[str] = []
        self.watch = TenantWatch(LIMITS, lambda: WALL, "https://runbooks.example", self.withheld.append)
        self.cell = make_cell(1)
        self.slots = self.cell.words[layout.SLOTS]
        self.loops = [self.watched(self.cell, 1)]
        self.step()

    def watched(self, cell: Cell, loop_id: int) -> Watched:
        return Watched("service", "instance", open_cell(str(cell.path), os.getpid(), loop_id), lambda *_: None)

    def step(self, nanoseconds: int = SECOND) -> list[tuple[str, str, str]]:
        self.now += nanoseconds
        return [(a.name, a.status, a.labels["tenant_id"]) for a in self.watch.look(self.loops, self.now)]

    def overrun(self, tenant: str, word: int = layout.TURN_OVERRUNS) -> None:
        self.cell.words[layout.slot_word(slot(tenant)) + word] += 1

    def waits(self, tenant: str, milliseconds: float, times: int = 1) -> None:
        from instrumentation.loop.delays import Delays

        self.cell.words[layout.slot_word(slot(tenant)) + layout.WAITS] += times
        bucket = Delays().record(round(milliseconds * MS), times)
        self.cell.words[layout.delay_word(self.slots, slot(tenant)) + bucket] += times

    def while_(self, nanoseconds: int, tenant: str, *waits: tuple[float, int]) -> list[tuple[str, str, str]]:
        """All alerts while the tenant has these waits in every step."""
        heard = []
        for _ in range(nanoseconds // STEP_NS):
            for milliseconds, times in waits:
                self.waits(tenant, milliseconds, times)
            heard += self.step(STEP_NS)
        return heard


@pytest.fixture
def bench(make_cell: Callable[[int], Cell]) -> Bench:
    return Bench(make_cell)


def test_an_overrun_is_told_once_and_is_over_after_a_quiet_minute(bench: Bench) -> None:
    """However many turns are over their budget meanwhile."""
    bench.overrun("acme")
    assert bench.step() == [("TurnBudgetExceeded", "firing", "acme")]
    bench.overrun("acme", layout.LOOP_OVERRUNS)
    assert bench.step() == []
    assert bench.step(QUIET_NS - SECOND) == []
    assert bench.step(SECOND) == [("TurnBudgetExceeded", "resolved", "acme")]
    bench.overrun("acme")
    assert bench.step() == [("TurnBudgetExceeded", "firing", "acme")]


def test_the_alert_says_which_budget(bench: Bench) -> None:
    """Wall time, loop time, or both; with the runbook."""
    bench.overrun("globex", layout.LOOP_OVERRUNS)
    bench.now += SECOND
    (alert,) = bench.watch.look(bench.loops, bench.now)
    assert alert.annotations["summary"].endswith("is over its budget of event-loop time.")
    assert alert.annotations["runbook_url"] == "https://runbooks.example/TurnBudgetExceeded.md"
    assert alert.labels["service_name"] == "service"


def test_overruns_from_before_the_watch_are_no_news(make_cell: Callable[[int], Cell]) -> None:
    """A sidecar that was restarted does not tell of what its predecessor told."""
    cell = make_cell(1)
    cell.words[layout.slot_word(slot("acme")) + layout.TURN_OVERRUNS] = 7
    watch = TenantWatch(LIMITS, lambda: WALL)
    watched = Watched("service", "instance", open_cell(str(cell.path), os.getpid(), 1), lambda *_: None)
    assert watch.look([watched], SECOND) == []
    assert watch.look([watched], 2 * SECOND) == []


def test_a_tenant_that_is_new_may_overrun_at_once(bench: Bench) -> None:
    """Its slot was not there at the last look."""
    bench.overrun("brand-new-tenant")
    assert bench.step() == [("TurnBudgetExceeded", "firing", "brand-new-tenant")]


def test_waits_over_the_target_for_a_minute_are_told(bench: Bench) -> None:
    """2 of 100 waits are longer than 100 ms: not at once, after a minute, and once."""
    assert bench.while_(HOLD_NS, "acme", (1, 98), (200, 2)) == []
    assert bench.while_(STEP_NS, "acme", (1, 98), (200, 2)) == [("TenantLoopDelayHigh", "firing", "acme")]
    assert bench.while_(HOLD_NS, "acme", (1, 98), (200, 2)) == []


def test_waits_within_the_target_are_not(bench: Bench) -> None:
    """1 of 100 may be longer, and any number may be shorter."""
    assert bench.while_(5 * HOLD_NS, "acme", (99, 99), (200, 1)) == []


def test_one_bad_moment_is_not_told(bench: Bench) -> None:
    """It leaves the window before the minute is over."""
    assert bench.while_(STEP_NS, "acme", (5000, 100)) == []
    assert bench.while_(5 * HOLD_NS, "acme") == []


def test_it_is_over_after_a_minute_within_the_target(bench: Bench) -> None:
    """And not before: what comes and goes is told once."""
    bench.while_(HOLD_NS + STEP_NS, "acme", (200, 10))
    assert bench.while_(STEPS * STEP_NS, "acme", (1, 10_000)) == []
    bench.while_(STEP_NS, "acme", (200, 100_000))
    assert bench.while_(HOLD_NS - STEP_NS, "acme", (200, 10_000)) == []
    assert bench.while_(STEPS * STEP_NS + HOLD_NS, "acme", (1, 1)) == [("TenantLoopDelayHigh", "resolved", "acme")]


def test_a_tenant_without_a_target_is_not_watched(bench: Bench) -> None:
    """Its tier has none."""
    assert bench.while_(5 * HOLD_NS, "initech", (5000, 100)) == []


def test_a_loop_that_is_gone_bears_nothing_out(bench: Bench) -> None:
    """What was told of it is over, whatever its tenants waited."""
    bench.while_(HOLD_NS + STEP_NS, "acme", (200, 10))
    bench.overrun("globex")
    bench.step()
    bench.loops = []
    assert set(bench.step()) == {
        ("TenantLoopDelayHigh", "resolved", "acme"),
        ("TurnBudgetExceeded", "resolved", "globex"),
    }
    assert bench.step(STEP_NS) == []


def test_two_loops_of_a_process_are_one_verdict(bench: Bench, make_cell: Callable[[int], Cell]) -> None:
    """It holds as long as either bears it out."""
    other = make_cell(2)
    bench.loops.append(bench.watched(other, 2))
    bench.step()
    bench.overrun("acme")
    other.words[layout.slot_word(slot("acme")) + layout.TURN_OVERRUNS] += 1
    assert bench.step() == [("TurnBudgetExceeded", "firing", "acme")]
    bench.loops.pop()
    assert bench.step() == []


def test_no_more_than_a_hundred_tenants_are_named(bench: Bench) -> None:
    """The others are counted, and named when there is room again."""
    names = [f"crowd-{n}" for n in range(MAX_HELD + 5)]
    for name in names:
        bench.overrun(name)
    told = [tenant for _, _, tenant in bench.step()]
    assert len(told) == MAX_HELD
    assert bench.withheld == ["TurnBudgetExceeded"] * 5
    assert len(bench.step(QUIET_NS)) == MAX_HELD
    (late,) = set(names) - set(told) - set(names[MAX_HELD + 1 :])
    bench.overrun(late)
    assert bench.step() == [("TurnBudgetExceeded", "firing", late)]


def test_the_table_is_asked_for_the_id_and_people_are_shown_the_name(make_cell: Callable[[int], Cell]) -> None:
    """A policy that masks ids takes nobody out of a tier."""
    cell = make_cell(1)
    reader = open_cell(str(cell.path), os.getpid(), 1, lambda _: "masked")
    assert (reader.tenant_id(slot("acme")), reader.name(slot("acme"))) == ("acme", "masked")
    assert reader.tenant_id(4000) == "unknown"
    watch = TenantWatch(LIMITS, lambda: WALL)
    watched = Watched("service", "instance", reader, lambda *_: None)
    watch.look([watched], SECOND)
    cell.words[layout.slot_word(slot("acme")) + layout.TURN_OVERRUNS] += 1
    (alert,) = watch.look([watched], 2 * SECOND)
    assert alert.labels["tenant_id"] == "masked"


@pytest.mark.parametrize(
    ("target", "above"),
    [
        (0.1, 7),  # a bound: exactly what was longer
        (0.075, 7 + 5),  # half of the bucket from 50 to 100 ms
        (25.0, 3),
        (60.0, 3),
        (0.00005, 20 - 0),
    ],
)
def test_waits_above_a_target(target: float, above: float) -> None:
    """Whole buckets, and of the one that holds the target the part above it."""
    counts = [0] * layout.DELAY_WORDS
    counts[layout.DELAY_BOUNDS_NS.index(100 * MS)] = 10
    counts[layout.DELAY_BOUNDS_NS.index(500 * MS)] = 4
    counts[-1] = 3
    assert above_target(tuple(counts), target) == pytest.approx(min(above, sum(counts)))


def test_the_status_has_the_longest_pairs_and_the_rest(bench: Bench) -> None:
    """Who made whom wait; what is not named is one entry, and nothing is missing."""
    from instrumentation.loop.pairs import Pairs

    pairs = Pairs()
    for n in range(40):
        pairs.add(bench.cell.words, bench.slots, slot("acme"), slot(f"victim-{n}"), (n + 1) * SECOND)
    shown = described(bench.loops[0], SECOND)["pairs"]
    assert len(shown) == 33
    assert shown[0] == {"culprit": "acme", "victim": "victim-39", "seconds": 40.0}
    assert shown[-1]["culprit"] == shown[-1]["victim"] == "other"
    assert sum(pair["seconds"] for pair in shown) == sum(range(1, 41))
