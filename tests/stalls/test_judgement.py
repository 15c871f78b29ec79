"""What the watchdog concludes from a cell, step by step, by a clock of the test's own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from instrumentation import tenancy
from instrumentation.loop.cell import Cell
from sidecar.watchdog.opening import open_cell
from sidecar.watchdog.poll import Poll
from sidecar.watchdog.stacks import Answer, Asked, Found
from sidecar.watchdog.stalls import REFRESH_NS, STACK_WAIT_NS
from sidecar.watchdog.standing import Standing, System
from sidecar.watchdog.watched import Watched
from sidecar.wire import cell as layout
from sidecar.wire import process
from sidecar.wire.frames import Thread

MS = 1_000_000
WALL = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
START = 1_000_000 * 4096  # the low bits of a start are the slot's


def slot(name: str) -> int:
    return tenancy.TABLE.intern(name).slot


class Bench:
    """One loop under watch, its cell in the test's hands."""

    def __init__(self, make_cell: Callable[[int], Cell]) -> None:
        self.stands = Standing.RUNS
        self.asked: list[tuple[Asked, Answer]] = []
        self.ask: Callable[[Asked, Answer], None] = lambda *asked: self.asked.append(asked)
        self.lacked = 0
        self.now = START
        self.tracer = False
        self.poll = Poll(
            100 * MS,
            "",
            System(self, lambda: self.now),
            lambda: WALL,
            ask=lambda asked, answer: self.ask(asked, answer),
        )
        self._make_cell = make_cell
        self.cell, self.watched = self.watch(1)

    def standing(self, _pid: int, _start: int, _thread: int) -> Standing:
        return self.stands

    def traced(self, _pid: int) -> bool:
        return self.tracer

    def run_delay(self, _pid: int, _thread: int) -> int:
        return self.lacked

    def watch(self, loop_id: int) -> tuple[Cell, Watched]:
        cell = self._make_cell(loop_id)
        return cell, self.announce(cell, loop_id)

    def announce(self, cell: Cell, loop_id: int) -> Watched:
        reader = open_cell(str(cell.path), os.getpid(), loop_id)
        watched = Watched("service", "instance", reader, object())
        self.poll.add(watched)
        return watched

    def run(self, name: str, start: int = START) -> int:
        word = start & layout.START_BITS | slot(name)
        self.cell.words[layout.RUNNING] = word
        return word

    def step(self, milliseconds: float) -> list[tuple[str, str]]:
        self.now = START + round(milliseconds * MS)
        alerts = self.poll.step(self.now)
        return [(alert.status, alert.labels["tenant_id"]) for alert in alerts]

    def answer(self, *lines: str, at: int = START + 1, why_not: str = "no") -> None:
        """The last question."""
        self.asked[-1][1](Found(lines, at) if lines else Found(why_not=why_not))

    def stall(self) -> dict[str, Any]:
        return self.poll.stalls(START + 10_000 * MS)[-1]


@pytest.fixture
def bench(make_cell: Callable[[int], Cell]) -> Bench:
    return Bench(make_cell)


def test_below_the_threshold_there_is_no_stall(bench: Bench) -> None:
    """99.9 ms are no stall, 100 ms are."""
    bench.run("acme")
    assert bench.step(99.9) == []
    assert bench.asked == []
    assert bench.step(100) == []  # begun, and waiting for its stack
    assert len(bench.asked) == 1
    assert bench.stall()["tenant"] == "acme"


def test_the_alert_goes_out_with_its_stack_as_soon_as_that_comes(bench: Bench) -> None:
    """It is asked for once, of the loop's thread, and is in the alert."""
    bench.cell.words[layout.PYTHON] = 0x030B
    bench.cell.words[layout.THREAD_STATE] = 4711
    bench.run("acme")
    bench.step(100)
    ((asked, _),) = bench.asked
    assert asked.process == (os.getpid(), process.own_start())
    assert asked.thread == Thread(0x030B, 4711, threading.get_ident(), threading.get_native_id())
    assert asked.since == START
    assert bench.step(101) == []
    bench.answer("a.py:1 main", "b.py:2 block")
    alerts = bench.poll.step(START + 104 * MS)

    assert [alert.status for alert in alerts] == ["firing"]
    assert alerts[0].annotations["stack"] == "a.py:1 main\nb.py:2 block"
    assert "b.py:2 block" in alerts[0].annotations["summary"]
    assert "runbook_url" not in alerts[0].annotations
    assert alerts[0].annotations["duration_ms"] == "104"
    assert bench.stall()["detected_after_ms"] == 104
    assert bench.step(106) == []


def test_without_an_answer_the_alert_goes_out_after_8_ms(bench: Bench) -> None:
    """It says that there is no stack; one that is found later is still evidence, while the slice runs."""
    bench.run("acme")
    bench.step(100)
    assert bench.step(100 + STACK_WAIT_NS / MS - 0.1) == []
    alerts = bench.poll.step(START + 100 * MS + STACK_WAIT_NS)
    assert alerts[0].annotations["stack"] == "not available: it was not read in time"
    bench.answer("late.py:1 f")
    assert bench.stall()["stack"] == ["late.py:1 f"]
    assert bench.stall()["stack_unavailable"] is None


def test_it_is_asked_for_again_until_the_alert_goes_out(bench: Bench) -> None:
    """A process may leave its stack a moment later; and the alert says why there was none to the last."""
    bench.run("acme")
    bench.step(100)
    bench.step(102)
    assert len(bench.asked) == 1  # one question at a time
    bench.answer(why_not="first")
    bench.step(104)
    assert len(bench.asked) == 2
    bench.answer(why_not="second")
    alerts = bench.poll.step(START + 100 * MS + STACK_WAIT_NS)
    assert alerts[0].annotations["stack"] == "not available: second"


def test_of_a_stall_that_lasts_a_newer_stack_is_asked_for_when_its_age_has_doubled(bench: Bench) -> None:
    """The slice may have gone on elsewhere. A question that finds nothing leaves what was found."""
    bench.run("acme")
    bench.step(100)
    bench.answer("a.py:1 f", at=START + 100 * MS)
    bench.step(102)
    bench.step(100 + REFRESH_NS / MS - 1)
    assert len(bench.asked) == 1
    bench.step(100 + REFRESH_NS / MS)
    assert bench.asked[-1][0].since == START + 100 * MS
    bench.answer("b.py:2 g")
    assert bench.stall()["stack"] == ["b.py:2 g"]
    bench.step(399)
    assert len(bench.asked) == 2
    bench.step(400)
    bench.answer()
    assert bench.stall()["stack"] == ["b.py:2 g"]
    bench.step(799)
    assert len(bench.asked) == 3


def test_the_stack_of_a_slice_that_has_ended_is_not_taken(bench: Bench) -> None:
    """It may be another slice's: what counts is what runs after it was found."""
    word = bench.run("acme")
    bench.step(100)
    bench.run("globex", START + 101 * MS)
    bench.answer("globex.py:1 f")
    assert bench.stall()["stack"] == []
    assert "ended" in bench.stall()["stack_unavailable"]
    bench.cell.words[layout.RUNNING] = word
    bench.step(103)
    bench.cell.words[layout.RUNNING] = 0
    bench.step(104)
    bench.answer("nobody.py:1 f")
    assert bench.stall()["stack"] == []


def test_a_question_outlives_its_loop(bench: Bench) -> None:
    """The kernel may keep a read waiting. When it ends, the cell may be closed, or opened anew."""
    bench.run("acme")
    bench.step(100)
    bench.poll.cut_off(bench.watched)
    bench.step(101)
    bench.announce(bench.cell, 1)
    bench.answer("a.py:1 f")
    assert bench.stall()["stack"] == ["a.py:1 f"]
    bench.step(300)
    bench.cell.close()
    bench.step(301)
    assert len(bench.poll) == 0
    bench.answer("b.py:1 f")
    assert bench.stall()["stack"] == ["a.py:1 f"]


def test_a_question_may_be_answered_at_once(make_cell: Callable[[int], Cell]) -> None:
    """When there is no thread for it, for example."""
    bench = Bench(make_cell)
    bench.ask = lambda _, answer: answer(Found(why_not="nobody"))
    bench.run("acme")
    bench.step(100)
    assert bench.step(108) == [("firing", "acme")]
    assert bench.stall()["stack_unavailable"] == "nobody"


def test_the_end_of_the_slice_resolves_the_alert_with_its_victims(bench: Bench) -> None:
    """The duration is the slice's own; victims are those whose delay grew meanwhile."""
    words = bench.cell.words
    words[layout.slot_word(slot("initech")) + layout.SUFFERED_NS] = 5 * MS  # of earlier
    bench.run("acme")
    bench.step(100)
    bench.step(130)
    words[layout.slot_word(slot("globex")) + layout.SUFFERED_NS] = 400 * MS
    words[layout.BEAT] = START + 400 * MS
    words[layout.RUNNING] = 0
    (resolved,) = bench.poll.step(START + 402 * MS)

    assert resolved.status == "resolved"
    assert resolved.annotations["victims"] == "globex"
    assert resolved.annotations["duration_ms"] == "400"
    assert resolved.ends_at is not None
    assert (resolved.ends_at - resolved.starts_at).total_seconds() == pytest.approx(0.4)
    assert bench.stall()["active"] is False
    assert bench.stall()["seconds"] == pytest.approx(0.4)
    assert bench.step(404) == []


def test_a_stall_that_ends_before_its_alert_fires_and_resolves_at_once(bench: Bench) -> None:
    """Nothing is swallowed because it was short."""
    bench.run("acme")
    bench.step(100)
    bench.cell.words[layout.RUNNING] = 0
    assert bench.step(101) == [("firing", "acme"), ("resolved", "acme")]


# Seen too late --------------------------------------------------------------------------------------------------------
def ended(bench: Bench, name: str, began: float, lasted: float, lacked: float | None = None) -> int:
    """A slice of so many milliseconds is over, and the cell says so as the library does; when it began."""
    words, count = bench.cell.words, bench.cell.words[layout.LONG_SLICES]
    start = START + round(began * MS)
    at = layout.long_word(tenancy.TABLE.slots, count % layout.MAX_LONG)
    words[at] = start & layout.START_BITS | slot(name)
    words[at + 1] = start + round(lasted * MS)
    words[at + 2] = layout.NOT_KNOWN if lacked is None else round(lacked * MS)
    words[layout.LONG_SLICES] = count + 1
    return start


def test_a_stall_that_ended_before_anybody_looked_is_told_late(bench: Bench) -> None:
    """With its tenant and its duration; it has no stack, and nobody is named who may have waited for others."""
    bench.step(1)
    ended(bench, "acme", 10, 130)
    alerts = bench.poll.step(START + 150 * MS)
    assert [(alert.status, alert.labels["tenant_id"]) for alert in alerts] == [("firing", "acme"), ("resolved", "acme")]
    resolved = alerts[1].annotations
    assert resolved["duration_ms"] == "130"
    assert resolved["stack"] == "not available: the slice had ended when the watchdog looked"
    assert resolved["victims"] == "not known"
    assert bench.stall()["active"] is False
    assert bench.stall()["seconds"] == pytest.approx(0.13, abs=1e-5)
    assert bench.step(170) == []


def test_a_stall_that_was_seen_is_not_told_again_when_it_ends(bench: Bench) -> None:
    """The cell then has it among its long slices, too."""
    bench.step(1)
    bench.run("acme", START + 10 * MS)
    assert bench.step(150) == []
    assert bench.step(160) == [("firing", "acme")]
    ended(bench, "acme", 10, 200)
    bench.cell.words[layout.RUNNING] = 0
    assert bench.step(211) == [("resolved", "acme")]
    assert bench.step(231) == []


def test_short_of_the_threshold_it_is_no_stall_however_late_it_is_seen(bench: Bench) -> None:
    """Long slices are not yet stalls."""
    bench.step(1)
    for number in range(5):
        ended(bench, "acme", 10 + 100 * number, 99.9)
    assert bench.step(600) == []


def test_of_more_than_the_cell_holds_the_last_are_told(bench: Bench) -> None:
    """As many as the table has room for, but for the one that might be written at this moment."""
    bench.step(1)
    for number in range(layout.MAX_LONG + 10):
        ended(bench, "acme", 200 * number, 120)
    told = bench.step(200 * (layout.MAX_LONG + 20))
    assert told == [("firing", "acme"), ("resolved", "acme")] * (layout.MAX_LONG - 1)


def test_what_ended_before_the_watch_began_is_no_news(bench: Bench) -> None:
    """A sidecar that was restarted does not tell of old times, one that lost its link for a moment loses nothing."""
    ended(bench, "acme", 10, 200)
    assert bench.step(250) == []
    bench.poll.cut_off(bench.watched)
    ended(bench, "globex", 260, 200)
    bench.announce(bench.cell, 1)
    assert bench.step(470) == [("firing", "globex"), ("resolved", "globex")]


@pytest.mark.parametrize("excuse", ["stopped", "debugged", "starved"])
def test_a_slice_seen_late_has_the_excuses_of_one_that_runs(bench: Bench, excuse: str) -> None:
    """Its process was stopped, is under a debugger, or its thread had no CPU, which the cell does not say here."""
    bench.run("acme", START + 10 * MS)
    for milliseconds in range(0, 60, 10):
        bench.step(milliseconds)
    if excuse == "stopped":
        bench.stands = Standing.HELD
        bench.step(90)
        bench.stands = Standing.RUNS
    bench.tracer = excuse == "debugged"
    bench.lacked = 60 * MS if excuse == "starved" else 0
    ended(bench, "acme", 10, 130)
    bench.cell.words[layout.RUNNING] = 0
    assert ("firing", "acme") not in bench.step(170)


@pytest.mark.parametrize(("lacked", "told"), [(0, True), (19.9, True), (20.1, False), (10**9, False)])
def test_what_a_slice_lacked_by_its_cell_is_what_excuses_it(bench: Bench, lacked: float, told: bool) -> None:
    """Not what its thread lacked before it began and after it ended, which is all that can be looked up."""
    for milliseconds in range(0, 60, 10):
        bench.step(milliseconds)
    bench.lacked = 90 * MS
    ended(bench, "acme", 55, 120, lacked)
    assert bench.step(250) == [("firing", "acme"), ("resolved", "acme")] * told


def test_a_cell_that_lies_claims_no_more_stalls_than_there_was_time_for(bench: Bench) -> None:
    """Slices of one loop follow each other, and none ends in the future or before it began."""
    bench.step(1)
    for _ in range(20):
        ended(bench, "acme", 10, 200)
    ended(bench, "acme", 150, 200)
    ended(bench, "acme", 400, -300)
    ended(bench, "acme", 400, 10_000)
    assert bench.step(500) == [("firing", "acme"), ("resolved", "acme")]
    bench.cell.words[layout.LONG_SLICES] = 2**64 - 1
    assert bench.step(520) == []
    bench.cell.words[layout.LONG_SLICES] = 0
    assert bench.step(540) == []


def test_the_same_tenant_stalling_again_is_a_new_stall(bench: Bench) -> None:
    """One alert a slice, however long it lasts, and however many follow."""
    bench.run("acme")
    assert [bench.step(at) for at in (100, 130, 1000, 5000)] == [[], [("firing", "acme")], [], []]
    bench.run("acme", START + 6000 * MS)
    assert bench.step(6050) == [("resolved", "acme")]
    assert bench.step(6101) == []
    assert bench.step(6130) == [("firing", "acme")]
    assert len(bench.poll.stalls(0)) == 2


def test_a_change_of_tenant_in_mid_callback_ends_the_stall_of_the_first(bench: Bench) -> None:
    """The second tenant starts with a threshold of its own."""
    bench.run("acme")
    bench.step(100)
    bench.step(130)
    bench.run("globex", START + 150 * MS)
    assert bench.step(151) == [("resolved", "acme")]
    assert bench.step(249) == []
    bench.step(251)
    assert bench.step(280) == [("firing", "globex")]


@pytest.mark.parametrize("milliseconds", [100, 1000, 60_000])
def test_a_process_that_is_stopped_or_debugged_does_not_stall(bench: Bench, milliseconds: int) -> None:
    """While it is held there is no stall; let go, the slice gets the whole threshold again."""
    bench.stands = Standing.HELD
    bench.run("acme")
    assert ("firing", "acme") not in bench.step(milliseconds)
    bench.stands = Standing.RUNS
    assert bench.step(milliseconds + 99) == []
    assert bench.asked == []
    bench.step(milliseconds + 101)
    assert len(bench.asked) == 1


def test_one_loops_stack_keeps_nobody_waiting(bench: Bench) -> None:
    """A second loop's stall is found while the first one's stack is still awaited."""
    other, _ = bench.watch(2)
    bench.run("acme")
    bench.step(100)
    other.words[layout.RUNNING] = (START + MS) & layout.START_BITS | slot("globex")
    bench.step(121)
    assert len(bench.asked) == 2


def test_a_dead_process_ends_a_stall_with_the_reason(bench: Bench) -> None:
    """The loop is watched no more, its stall is over, and the alert says why."""
    bench.run("acme")
    bench.step(100)
    bench.step(130)
    bench.stands = Standing.GONE
    resolved, dead = bench.poll.step(START + 500 * MS)
    assert resolved.status == "resolved"
    assert "the process died" in resolved.annotations["summary"]
    assert dead.name == "EventLoopDead"
    assert len(bench.poll) == 0


def test_a_lost_link_does_not_end_a_stall(bench: Bench) -> None:
    """The cell goes on telling, and so does the watch."""
    bench.run("acme")
    bench.step(100)
    bench.step(130)
    bench.poll.cut_off(bench.watched)
    assert bench.step(60_000) == []
    bench.cell.words[layout.RUNNING] = 0
    assert bench.step(60_001) == [("resolved", "acme")]


def test_a_loop_that_closes_in_good_order_is_forgotten(bench: Bench) -> None:
    """CLOSED in the cell is enough; no alert."""
    bench.run("acme")
    bench.cell.close()
    assert bench.step(1000) == []
    assert len(bench.poll) == 0


def test_announced_again_a_stall_goes_on(bench: Bench) -> None:
    """A link that reconnects in the middle neither resolves the stall nor raises it twice."""
    bench.run("acme")
    bench.step(100)
    bench.step(130)
    bench.poll.cut_off(bench.watched)
    assert bench.step(150) == []
    bench.announce(bench.cell, 1)
    assert bench.step(200) == []
    assert len(bench.poll) == 1
    bench.cell.words[layout.RUNNING] = 0
    assert bench.step(300) == [("resolved", "acme")]


def test_a_cell_that_shrinks_under_watch_is_let_go(bench: Bench) -> None:
    """No crash, no effect on other loops; a stall that it told of is over."""
    other, _ = bench.watch(2)
    bench.run("acme")
    assert bench.cell.path is not None
    # A copy: the original is mapped by this very process, as its writer.
    copy = bench.cell.path.with_name("copy.cell")
    copy.write_bytes(bench.cell.path.read_bytes())
    copy.chmod(0o600)
    reader = open_cell(str(copy), os.getpid(), 1)
    bench.poll.add(Watched("service", "instance", reader, bench.watched.stream))
    bench.step(100)
    bench.step(130)
    os.truncate(copy, 64)
    resolved, silent = bench.poll.step(START + 200 * MS)
    assert silent.name == "EventLoopSilent"
    assert "unreadable" in resolved.annotations["summary"]
    other.words[layout.RUNNING] = START & layout.START_BITS | slot("globex")
    bench.step(230)
    assert bench.step(260) == [("firing", "globex")]


@pytest.mark.parametrize("word", [2**64 - 1, START + 10**15, 4095, START | 4000])
def test_impossible_words_are_survived(bench: Bench, word: int) -> None:
    """A start in the future is no stall; a slot without a name is `unknown`."""
    bench.cell.words[layout.RUNNING] = word
    bench.step(100)
    alerts = bench.step(130)
    assert alerts in ([], [("firing", "unknown")])
    assert bench.poll.loops(START) != []


def test_the_status_tells_every_tenants_share(bench: Bench) -> None:
    """As in the contract of `/status`: seconds, and only tenants that had the loop or waited."""
    at = layout.slot_word(slot("acme"))
    bench.cell.words[at : at + 6] = memoryview(bytes(48)).cast("Q")
    for offset, value in enumerate((2 * 10**9, 3, 10**9, 5 * 10**8, 25 * 10**7, 7)):
        bench.cell.words[at + offset] = value
    bench.cell.words[at + layout.QUEUED_NS] = 25 * 10**7
    bench.cell.words[at + layout.QUEUED] = 4
    bench.cell.words[layout.HEARTBEAT] = START
    bench.run("globex")
    (loop,) = bench.poll.loops(START + 1500 * MS)

    assert loop == {
        "service": "service",
        "instance": "instance",
        "host": "",
        "pid": os.getpid(),
        "loop_id": 1,
        "mode": "cell",
        "cannot": [],
        "tenants": [
            {
                "tenant": "acme",
                "loop_seconds": 2.0,
                "slices": 3,
                "longest_seconds": 1.0,
                "delay_suffered_seconds": 0.5,
                "delay_caused_seconds": 0.25,
                "waits": 7,
                "queue_seconds": 0.25,
                "queued": 4,
            }
        ],
        "pairs": [],
        "running": {"tenant": "globex", "seconds": 1.5},
        "heartbeat_age_seconds": 1.5,
    }
