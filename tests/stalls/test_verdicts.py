"""What the watchdog says beyond stalls: each verdict when it holds, once, and not when something else explains it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from instrumentation import tenancy
from instrumentation.loop.cell import Cell
from sidecar.alerts import Alert
from sidecar.conventions import LOOP_ALERTS
from sidecar.watchdog.hearing import SILENT_NS
from sidecar.watchdog.opening import open_cell
from sidecar.watchdog.poll import Poll
from sidecar.watchdog.pressure import EASY_BEATS, GRACE_NS, LATE_BEATS
from sidecar.watchdog.standing import Proc, Standing, System
from sidecar.watchdog.verdict import DEAD_FOR_NS, DEAD_LEAST_NS
from sidecar.watchdog.watched import Watched
from sidecar.wire import cell as layout

MS = 1_000_000
SECOND = 1_000 * MS
WALL = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
START = 1_000_000 * 4096


def slot(name: str) -> int:
    return tenancy.TABLE.intern(name).slot


class Bench:
    """Loops of one process under watch, by the test's clock."""

    def __init__(self, make_cell: Callable[[int], Cell]) -> None:
        self.now = START
        self.stands = Standing.RUNS
        self.lacked = 0
        self.tracer = False
        self.frozen = False
        self._make_cell = make_cell
        self.poll = Poll(
            100 * MS,
            "https://runbooks.example",
            System(self, lambda: self.now, lambda _pid: self.frozen),
            lambda: WALL + timedelta(microseconds=(self.now - START) / 1000),
        )
        self.cell = make_cell(1)
        self.watched = self.announce(self.cell, 1)
        self.heard: list[Alert] = []

    def announce(self, cell: Cell, loop_id: int) -> Watched:
        cell.words[layout.HEARTBEAT] = self.now
        watched = Watched("service", "instance", open_cell(str(cell.path), os.getpid(), loop_id), object())
        self.poll.add(watched)
        return watched

    def another(self, loop_id: int) -> Cell:
        cell = self._make_cell(loop_id)
        self.announce(cell, loop_id)
        return cell

    def standing(self, _pid: int, _start: int, _thread: int) -> Standing:
        return self.stands

    def traced(self, _pid: int) -> bool:
        return self.tracer

    def run_delay(self, _pid: int, _thread: int) -> int:
        return self.lacked

    def pass_time(self, nanoseconds: int, step: int = 10 * MS) -> list[str]:
        """Look every so often; what was said meanwhile."""
        heard: list[Alert] = []
        end = self.now + nanoseconds
        while self.now < end:
            self.now = min(end, self.now + step)
            heard += self.poll.step(self.now)
        self.heard += heard
        return [f"{alert.name} {alert.status}" for alert in heard]

    def run(self, name: str) -> None:
        self.cell.words[layout.RUNNING] = self.now & layout.START_BITS | slot(name)

    def beats(self, count: int, lateness: int, shares: dict[str, float], starved: float = 0.0) -> list[str]:
        """So many beats of the loop's timer, each so late; meanwhile the tenants have these shares of the time."""
        heard = []
        for _ in range(count):
            period = 50 * MS + lateness
            heard += self.pass_time(period)
            self.lacked += round(period * starved)
            for name, share in shares.items():
                at = layout.slot_word(slot(name))
                self.cell.words[at + layout.LOOP_NS] += round(period * share)
                self.cell.words[at + layout.SLICES] += 100
            self.cell.words[layout.LATENESS] = lateness
            self.cell.words[layout.HEARTBEAT] = self.now
        return heard + self.pass_time(30 * MS)


@pytest.fixture
def bench(make_cell: Callable[[int], Cell]) -> Bench:
    bench = Bench(make_cell)
    for name in ("acme", "globex"):  # the table of tenants is that of the whole test run
        at = layout.slot_word(slot(name))
        bench.cell.words[at : at + 6] = memoryview(bytes(48)).cast("Q")
    return bench


def healthy(bench: Bench, nanoseconds: int = GRACE_NS) -> list[str]:
    return bench.beats(nanoseconds // (50 * MS), 0, {"acme": 0.5})


# Dead ---------------------------------------------------------------------------------------------------------------
def test_a_process_that_is_gone_without_a_word_is_dead(bench: Bench) -> None:
    """Told once for all of its loops, at once; nobody is named the culprit."""
    bench.another(2)
    assert bench.pass_time(50 * MS) == []
    bench.run("acme")
    bench.stands = Standing.GONE
    assert bench.pass_time(SECOND) == ["EventLoopDead firing"]
    (alert,) = bench.heard
    assert alert.labels == {
        "alertname": "EventLoopDead", "tenant_id": "unknown", "service_name": "service", "instance": "instance",
    }  # fmt: skip
    assert "Tenant acme had the loop" in alert.annotations["summary"]
    assert alert.annotations["runbook_url"] == "https://runbooks.example/EventLoopDead.md"
    assert alert.starts_at - WALL < timedelta(milliseconds=50 + 30)
    assert len(bench.poll) == 0


@pytest.mark.parametrize("order", ["closed first", "seen gone first"])
def test_a_process_that_closed_its_loops_is_not_dead(bench: Bench, order: str) -> None:
    """Whether the watchdog sees the end of the loop or that of the process first."""
    bench.pass_time(50 * MS)
    words = bench.cell.words
    if order == "closed first":
        bench.cell.close()
        bench.stands = Standing.GONE
    else:

        class Gone(Proc):
            def standing(self, pid: int, start: int, thread: int = 0) -> Standing:
                words[layout.CLOSED] = 1  # between the look at the cell and that at the process
                return Standing.GONE

        bench.poll._system = System(Gone())
    assert bench.pass_time(SECOND) == []
    assert len(bench.poll) == 0


def test_the_dead_are_forgotten_when_the_service_is_back(bench: Bench) -> None:
    """After ten seconds at least, so that a process that dies again and again is not told of each time anew."""
    bench.pass_time(50 * MS)
    bench.stands = Standing.GONE
    assert bench.pass_time(SECOND) == ["EventLoopDead firing"]
    bench.stands = Standing.RUNS
    bench.another(3)
    assert bench.pass_time(DEAD_LEAST_NS - 2 * SECOND, SECOND) == []
    assert bench.pass_time(2 * SECOND, SECOND) == ["EventLoopDead resolved"]
    firing, resolved = bench.heard
    assert resolved.fingerprint == firing.fingerprint
    assert resolved.starts_at == firing.starts_at
    assert resolved.ends_at is not None


def test_the_dead_are_forgotten_after_five_minutes(bench: Bench) -> None:
    """When nobody comes back."""
    bench.pass_time(50 * MS)
    bench.stands = Standing.GONE
    bench.pass_time(SECOND)
    assert bench.pass_time(DEAD_FOR_NS - 2 * SECOND, SECOND) == []
    assert bench.pass_time(2 * SECOND, SECOND) == ["EventLoopDead resolved"]


# Stopped ------------------------------------------------------------------------------------------------------------
def test_a_stopped_process_is_said_to_be_stopped_and_nothing_else(bench: Bench) -> None:
    """Within 20 ms of a look, once for all loops; no stall, no silence; over a second after it goes on."""
    bench.another(2)
    bench.pass_time(50 * MS)
    bench.run("acme")
    bench.stands = Standing.HELD
    assert bench.pass_time(30 * MS) == ["EventLoopStopped firing"]
    bench.poll.cut_off(bench.watched)
    assert bench.pass_time(60 * SECOND, 100 * MS) == []
    bench.stands = Standing.RUNS
    assert bench.pass_time(90 * MS) == []
    bench.cell.words[layout.RUNNING] = 0
    assert bench.pass_time(2 * SECOND) == ["EventLoopStopped resolved"]
    assert bench.poll.stalls(bench.now) == []


def test_stopping_again_and_again_is_told_once(bench: Bench) -> None:
    """It has to go on for a second before it counts as going on."""
    bench.pass_time(50 * MS)
    heard = []
    for _ in range(20):
        bench.stands = Standing.HELD
        heard += bench.pass_time(300 * MS)
        bench.stands = Standing.RUNS
        heard += bench.pass_time(300 * MS)
    assert heard == ["EventLoopStopped firing"]
    assert bench.pass_time(2 * SECOND) == ["EventLoopStopped resolved"]


def test_a_debugger_that_lets_the_process_run_is_told_of_only_when_a_slice_would_be_overdue(bench: Bench) -> None:
    """A tracer that stays attached for hours is no stop; while it is there, nothing is called a stall."""
    bench.tracer = True
    assert healthy(bench) == []
    bench.run("acme")
    assert bench.pass_time(5 * SECOND) == ["EventLoopStopped firing"]
    bench.cell.words[layout.RUNNING] = 0
    assert bench.pass_time(2 * SECOND) == ["EventLoopStopped resolved"]
    assert bench.poll.stalls(bench.now) == []


@pytest.mark.parametrize("busy", [True, False], ids=["in a slice", "idle"])
def test_a_frozen_container_is_stopped_and_nobody_stalls(bench: Bench, busy: bool) -> None:
    """Its processes look as if they slept. When it is let go, the running slice has the whole threshold again."""
    healthy(bench)
    if busy:
        bench.run("acme")
    bench.frozen = True
    assert bench.pass_time(3 * SECOND) == ["EventLoopStopped firing"]
    bench.frozen = False
    assert bench.pass_time(90 * MS) == []
    bench.cell.words[layout.RUNNING] = 0
    assert bench.beats(30, 0, {"acme": 0.5}) == ["EventLoopStopped resolved"]


def test_a_stopped_process_that_dies_is_dead_and_not_stopped(bench: Bench) -> None:
    """The one verdict ends when the other begins."""
    bench.pass_time(50 * MS)
    bench.stands = Standing.HELD
    bench.pass_time(SECOND)
    bench.stands = Standing.GONE
    assert sorted(bench.pass_time(SECOND)) == ["EventLoopDead firing", "EventLoopStopped resolved"]


# Silent -------------------------------------------------------------------------------------------------------------
def test_a_process_that_lives_and_says_nothing_is_silent(bench: Bench) -> None:
    """No stream and no beat for 15 seconds; over when it is announced again."""
    healthy(bench)
    bench.poll.cut_off(bench.watched)
    assert bench.pass_time(SILENT_NS - SECOND, 100 * MS) == []
    assert bench.pass_time(2 * SECOND, 100 * MS) == ["EventLoopSilent firing"]
    assert len(bench.poll) == 0
    bench.announce(bench.cell, 1)
    assert bench.pass_time(SECOND) == ["EventLoopSilent resolved"]


def test_a_loop_that_beats_is_not_silent(bench: Bench) -> None:
    """The stream may be gone: the cell tells enough."""
    bench.poll.cut_off(bench.watched)
    assert healthy(bench, 4 * SILENT_NS) == []
    assert len(bench.poll) == 1


def test_a_loop_that_nobody_runs_is_not_silent_while_its_process_is_linked(bench: Bench) -> None:
    """Programs run their loops when they need them."""
    assert bench.pass_time(100 * SILENT_NS, SECOND) == []


def test_a_process_that_comes_back_in_time_is_not_silent(bench: Bench) -> None:
    """A link that was lost for some seconds is nothing to tell."""
    healthy(bench)
    bench.poll.cut_off(bench.watched)
    assert bench.pass_time(SILENT_NS // 2, 100 * MS) == []
    bench.announce(bench.cell, 1)
    assert bench.pass_time(4 * SILENT_NS, 100 * MS) == []


# Saturated ----------------------------------------------------------------------------------------------------------
LATE = 150 * MS


def test_a_loop_that_is_late_again_and_again_is_saturated(bench: Bench) -> None:
    """The largest share is named, with the others'; over when it was on time for ten beats."""
    healthy(bench)
    assert bench.beats(LATE_BEATS - 1, LATE, {"acme": 0.3, "globex": 0.65}) == []
    assert bench.beats(1, LATE, {"acme": 0.3, "globex": 0.65}) == ["EventLoopSaturated firing"]
    (alert,) = bench.heard
    assert alert.labels["tenant_id"] == "globex"
    assert re.search(r"waits 0\.15 s, .* globex 6\d%, acme (28|29|30)%\.$", alert.annotations["summary"])
    assert bench.beats(3 * LATE_BEATS, LATE, {"acme": 0.9}) == []
    assert bench.beats(EASY_BEATS - 1, 0, {"acme": 0.5}) == []
    assert bench.beats(1, LATE, {"acme": 0.9}) == []
    assert bench.beats(EASY_BEATS, 0, {"acme": 0.5}) == ["EventLoopSaturated resolved"]


@pytest.mark.parametrize(
    ("lateness", "share", "starved"),
    [(90 * MS, 0.95, 0.0), (LATE, 0.7, 0.0), (LATE, 0.7, 0.4)],
    ids=["less than the threshold", "idle in between", "the host had no CPU for a part of it"],
)
def test_what_is_not_saturation(bench: Bench, lateness: int, share: float, starved: float) -> None:
    """A loop that is a little late, one that is not run all the time, one whose thread is starved here and there."""
    healthy(bench)
    assert bench.beats(10 * LATE_BEATS, lateness, {"acme": share}, starved) == []


def test_starting_up_is_not_saturation(bench: Bench) -> None:
    """The first five seconds don't count: imports, connections, first compilations."""
    assert bench.beats(GRACE_NS // (50 * MS + LATE) - 1, LATE, {"acme": 0.95}) == []


def test_stalls_one_after_the_other_are_stalls(bench: Bench) -> None:
    """Each has its culprit; the lateness that they cause is not told a second time."""
    healthy(bench)
    heard = []
    for _ in range(2 * LATE_BEATS):
        bench.run("acme")
        heard += bench.pass_time(200 * MS)
        bench.cell.words[layout.RUNNING] = 0
        heard += bench.beats(1, LATE, {"acme": 0.95})
    assert set(heard) == {"EventLoopStalled firing", "EventLoopStalled resolved"}


# Starved by the host ------------------------------------------------------------------------------------------------
def test_a_slice_whose_thread_had_no_cpu_is_not_overdue(bench: Bench) -> None:
    """The time for which the host did not run the thread is not the tenant's; what comes on top of it is."""
    bench.pass_time(200 * MS)
    bench.run("acme")
    for _ in range(30):
        bench.lacked += 8 * MS
        assert bench.pass_time(10 * MS) == []
    assert bench.pass_time(150 * MS) == ["EventLoopStalled firing"]


def test_a_loop_that_the_host_keeps_from_running_is_starved(bench: Bench) -> None:
    """Late again and again for want of a CPU: that is said, nobody is named, and it is neither stall nor saturation."""
    healthy(bench)
    assert bench.beats(LATE_BEATS - 1, LATE, {"acme": 0.95}, 0.6) == []
    assert bench.beats(1, LATE, {"acme": 0.95}, 0.6) == ["EventLoopStarved firing"]
    (alert,) = bench.heard
    assert alert.labels["tenant_id"] == "unknown"
    assert re.search(r"had none for 0\.\d\d s of \d\.\d\d s", alert.annotations["summary"])
    assert bench.beats(3 * LATE_BEATS, LATE, {"acme": 0.95}, 0.6) == []
    assert bench.beats(EASY_BEATS - 1, 0, {"acme": 0.5}) == []
    assert bench.beats(1, 0, {"acme": 0.5}) == ["EventLoopStarved resolved"]


def test_a_saturated_loop_that_comes_to_be_starved_is_starved(bench: Bench) -> None:
    """One of the two at a time."""
    healthy(bench)
    assert bench.beats(LATE_BEATS, LATE, {"acme": 0.95}) == ["EventLoopSaturated firing"]
    heard = bench.beats(LATE_BEATS, LATE, {"acme": 0.95}, 0.9)
    assert sorted(heard) == ["EventLoopSaturated resolved", "EventLoopStarved firing"]


def test_one_slice_that_gets_no_cpu_is_starved_and_no_stall(bench: Bench) -> None:
    """The loop's timer cannot tell, for it does not run meanwhile."""
    healthy(bench)
    bench.run("acme")
    heard = []
    for _ in range(100):
        bench.lacked += 9 * MS
        heard += bench.pass_time(10 * MS)
    assert heard[0] == "EventLoopStarved firing"
    assert bench.now - bench.watched.cell.heard() > SECOND
    bench.cell.words[layout.RUNNING] = 0
    assert "EventLoopStarved resolved" in bench.beats(EASY_BEATS, 0, {"acme": 0.5})


def test_a_watchdog_that_had_no_cpu_itself_accuses_nobody(bench: Bench) -> None:
    """On a crowded host, time passes between its look at the clock and that at the thread: also then, hunger counts."""
    bench.pass_time(200 * MS)
    look_began = bench.now = bench.now + 25 * MS
    bench.now += MS
    bench.run("acme")
    bench.lacked += 59 * MS
    bench.now = look_began + 60 * MS  # the slice has begun and starved, and only now the look goes on
    assert bench.poll.step(look_began) == []
    assert bench.pass_time(60 * MS) == []
    assert bench.pass_time(100 * MS) == ["EventLoopStalled firing"]


def test_earlier_hunger_excuses_no_later_slice(bench: Bench) -> None:
    """Only what the thread lacked during the slice counts."""
    bench.lacked = 10 * SECOND
    bench.pass_time(200 * MS)
    bench.lacked = 20 * SECOND
    bench.pass_time(200 * MS)
    bench.run("acme")
    assert bench.pass_time(130 * MS) == ["EventLoopStalled firing"]


# Storms -------------------------------------------------------------------------------------------------------------
def test_a_storm_of_restarts_is_no_storm_of_alerts(bench: Bench) -> None:
    """A hundred watchdogs, one after the other, look at a loop that lives, works and had long slices before."""
    bench.cell.words[layout.LONG_SLICES] = 60
    heard = []
    for _ in range(100):
        bench.poll = Poll(100 * MS, "", System(bench, lambda: bench.now), lambda: WALL)
        bench.announce(bench.cell, 1)
        heard += bench.beats(2, 0, {"acme": 0.5})
        bench.run("acme")
        heard += bench.pass_time(20 * MS)
        bench.cell.words[layout.RUNNING] = 0
    assert heard == []


def test_a_hundred_restarts_of_an_application_in_good_order_are_no_news(bench: Bench) -> None:
    """Each has its loops closed when it goes, and a cell of its own when it comes."""
    heard = []
    for number in range(2, 102):
        cell = bench.another(number)
        heard += bench.pass_time(30 * MS)
        cell.close()
        heard += bench.pass_time(30 * MS)
    assert heard == []
    assert len(bench.poll) == 1


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(days=-1)], ids=["forwards", "backwards"])
def test_a_step_of_the_wall_clock_makes_no_alert_and_ends_none(
    make_cell: Callable[[int], Cell], step: timedelta
) -> None:
    """Judged is by the monotonic clock; only the time of day in an alert is the wall's."""
    ahead = timedelta()
    bench = Bench(make_cell)
    bench.poll = Poll(100 * MS, "", System(bench, lambda: bench.now), lambda: WALL + ahead)
    bench.watched = bench.announce(bench.cell, 1)
    assert healthy(bench) == []
    ahead = step
    assert healthy(bench) == []
    bench.run("acme")
    assert bench.pass_time(130 * MS) == ["EventLoopStalled firing"]
    ahead = timedelta()
    assert bench.pass_time(500 * MS) == []
    bench.cell.words[layout.RUNNING] = 0
    assert bench.pass_time(20 * MS) == ["EventLoopStalled resolved"]
    assert bench.heard[-1].annotations["duration_ms"] in ("640", "650")


def test_every_verdict_has_a_name_in_the_table(bench: Bench) -> None:
    """What is told under any name can be looked up."""
    healthy(bench)
    bench.beats(LATE_BEATS, LATE, {"acme": 0.95})
    bench.beats(LATE_BEATS, LATE, {"acme": 0.95}, 0.9)
    bench.run("acme")
    bench.pass_time(SECOND)
    bench.stands = Standing.HELD
    bench.pass_time(SECOND)
    bench.stands = Standing.RUNS
    bench.poll.cut_off(bench.watched)
    bench.cell.words[layout.RUNNING] = 0
    bench.pass_time(2 * SILENT_NS, 100 * MS)
    bench.announce(bench.cell, 1)
    bench.stands = Standing.GONE
    bench.pass_time(SECOND)
    assert {alert.name for alert in bench.heard} == set(LOOP_ALERTS)
