"""Where no memory can be shared: what heartbeats tell, what they do not, and heartbeats that are not to be believed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.alerts import Alert
from sidecar.watchdog.hearing import GIVEN_UP_NS, LATE_NS, SILENT_NS
from sidecar.watchdog.poll import MAX_TOLD, Poll
from sidecar.watchdog.stream import MAX_DIRECTIVES, MAX_REFUSALS, ClosedError, Stream
from sidecar.watchdog.told import HEARTBEAT_REASONS
from sidecar.watchdog.told import MAX_SLOTS as MAX_TOLD_SLOTS
from sidecar.watchdog.verdict import LATE_QUIET_NS
from sidecar.wire import cell as layout
from sidecar.wire import stacks
from sidecar.wire import watchdog_pb2 as wire

MS = 1_000_000
SECOND = 1_000 * MS
WALL = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
OURS = 10**15
THEIRS = 4096 * 10**6  # the clock of a machine that was started a moment ago
BEAT = 250 * MS


class Sidecar:
    """A poll with streams, by the test's clock."""

    def __init__(self) -> None:
        self.now = OURS
        self.poll = Poll(100 * MS, wall=lambda: WALL)
        self.refused: list[str] = []
        self.disbelieved: list[str] = []
        self.heard: list[Alert] = []

    def stream(self) -> Stream:
        return Stream(self.poll, self.refused.append, self.disbelieved.append, lambda: None, clock=lambda: self.now)

    def look(self, nanoseconds: int = 0, step: int = 10 * MS) -> list[str]:
        """Let time pass, and look every so often."""
        heard: list[Alert] = []
        end = self.now + nanoseconds
        while True:
            self.now = min(end, self.now + step)
            heard += self.poll.step(self.now)
            if self.now >= end:
                break
        self.heard += heard
        return [f"{alert.name} {alert.status}" for alert in heard]


class Application:
    """One process on another machine; what it sends takes no time unless the test says so."""

    def __init__(self, sidecar: Sidecar, instance: str = "instance", loops: int = 1) -> None:
        self.sidecar = sidecar
        self.instance = instance
        self.sequence = 0
        self.offset = THEIRS - OURS
        self.connect(loops)

    def connect(self, loops: int = 1) -> None:
        self.sequence = 0
        self.stream = self.sidecar.stream()
        for loop_id in range(1, loops + 1):
            self.stream.take(
                wire.Report(
                    announce=wire.Announce(
                        loop_id=loop_id, service_name="service", instance=self.instance, pid=7, host="elsewhere",
                        cell_path="/nowhere/7-1-1.cell", clock="another machine",
                    )
                ).SerializeToString()
            )  # fmt: skip

    def now(self) -> int:
        return self.sidecar.now + self.offset

    def directives(self) -> list[wire.Directive]:
        found = []
        while not self.stream.outbox.empty():
            raw = self.stream.outbox.get_nowait()
            assert isinstance(raw, bytes)
            found.append(wire.Directive.FromString(raw))
        return found

    def facts(self, running: int = 0, slot: int = 0, loop_id: int = 1, **changed: Any) -> wire.Facts:
        """`running`: since when, by the application's clock."""
        word = (running & layout.START_BITS) | slot if running else 0
        about: dict[str, Any] = {
            "loop_id": loop_id, "running": word, "beat": self.now(), "heartbeat": self.now(),
            "slots": [wire.Slot(slot=2, tenant="acme", loop_ns=SECOND, slices=3)],
        }  # fmt: skip
        return wire.Facts(**{**about, **changed})

    def heartbeat(self, *facts: wire.Facts, sent: int | None = None, sequence: int | None = None) -> bytes:
        self.sequence += 1
        beat = wire.Heartbeat(
            monotonic_ns=self.now() if sent is None else sent,
            sequence=self.sequence if sequence is None else sequence,
            loops=facts or (self.facts(),),
        )
        return wire.Report(heartbeat=beat).SerializeToString()

    def beat(self, *facts: wire.Facts) -> None:
        self.sidecar.now += 1000  # no two are sent at once
        self.stream.take(self.heartbeat(*facts))

    def live(self, nanoseconds: int) -> list[str]:
        """Beat as usual, idle."""
        heard = []
        for _ in range(nanoseconds // BEAT):
            heard += self.sidecar.look(BEAT)
            self.beat()
        return heard + self.sidecar.look()


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar()


@pytest.fixture
def application(sidecar: Sidecar) -> Application:
    return Application(sidecar)


# What is told -------------------------------------------------------------------------------------------------------
def test_a_cell_of_another_machine_is_refused_and_heartbeats_are_asked_for(
    sidecar: Sidecar, application: Application
) -> None:
    """Even if there were such a file here, its times would be of another clock. The page says how it is watched."""
    (directive,) = application.directives()
    assert directive.relay.loop_id == 1
    assert sidecar.refused == ["clock"]
    assert sidecar.poll.loops(sidecar.now) == []  # nothing was told yet
    application.beat()
    (loop,) = sidecar.poll.loops(sidecar.now)
    assert (loop["mode"], loop["host"]) == ("heartbeats", "elsewhere")
    assert any("silence" in line for line in loop["cannot"])
    assert loop["tenants"][0] == {
        "tenant": "acme", "loop_seconds": 1.0, "slices": 3, "longest_seconds": 0.0, "delay_suffered_seconds": 0.0,
        "delay_caused_seconds": 0.0, "waits": 0, "queue_seconds": 0.0, "queued": 0,
    }  # fmt: skip


def test_an_overdue_slice_that_is_told_is_a_stall(sidecar: Sidecar, application: Application) -> None:
    """With culprit, duration by our clock and the stack that came with it, at once; then it ends."""
    application.live(SECOND)
    application.directives()
    began = application.now()
    sidecar.look(100 * MS)
    text = stacks.heading(77) + '  File "a.py", line 1 in f\n  File "b\x1b.py", line 2 in main\n'
    application.beat(application.facts(running=began, slot=2, ident=77, stack=text.encode()))
    assert sidecar.look() == ["EventLoopStalled firing"]
    assert application.directives() == []  # there is nothing to ask for
    firing = sidecar.heard[-1]
    assert firing.labels["tenant_id"] == "acme"
    assert firing.annotations["stack"] == "b\\x1b.py:2 main\na.py:1 f"
    sidecar.look(10 * MS)
    sidecar.look(90 * MS)
    application.beat(application.facts(slots=[wire.Slot(slot=3, tenant="globex", suffered_ns=MS)]))
    assert sidecar.look() == ["EventLoopStalled resolved"]
    assert sidecar.heard[-1].annotations["victims"] == "globex"
    assert abs(float(sidecar.heard[-1].annotations["duration_ms"]) - 200) < 2
    assert application.live(10 * SECOND) == []


def test_a_slice_is_not_overdue_because_its_heartbeat_is_late(sidecar: Sidecar, application: Application) -> None:
    """A network that is slow says nothing about the loop: the sender's own times are judged."""
    application.live(SECOND)
    application.beat(application.facts(running=application.now() - MS, slot=2))
    assert sidecar.look(1900 * MS) == []
    late = application.heartbeat(application.facts(running=application.now() - MS, slot=2))
    sidecar.look(900 * MS)
    application.stream.take(late)
    assert sidecar.look(500 * MS) == []
    assert sidecar.poll.stalls(sidecar.now) == []


@pytest.mark.parametrize("drift", [-SECOND, SECOND])
def test_clocks_that_drift_apart_make_no_stall(sidecar: Sidecar, application: Application, drift: int) -> None:
    """A machine that slept, a quartz that runs fast: no stall comes of it, and a later one has its own duration."""
    application.live(SECOND)
    for _ in range(40):
        application.offset += drift // 10
        assert application.live(BEAT) == []
        application.beat(application.facts(running=application.now() - MS, slot=2))
        sidecar.now += MS
    began = application.now() - 150 * MS
    sidecar.now += MS
    application.beat(application.facts(running=began, slot=2))
    sidecar.look(10 * MS)
    (stall,) = sidecar.poll.stalls(sidecar.now)
    assert stall["seconds"] == pytest.approx(0.161, abs=0.26)


def test_the_word_that_a_loop_was_closed_counts_when_it_has_no_cell(sidecar: Sidecar, application: Application) -> None:
    """In good order: no alert, and it is watched no more."""
    application.live(SECOND)
    application.stream.take(wire.Report(withdraw=wire.Withdraw(loop_id=1)).SerializeToString())
    assert sidecar.look(60 * SECOND, SECOND) == []
    assert len(sidecar.poll) == 0


# Silence ------------------------------------------------------------------------------------------------------------
def test_heartbeats_that_stay_away_are_silence_and_no_stall(sidecar: Sidecar, application: Application) -> None:
    """After two seconds; the last known slice is named as what it is, a lead; over when they came for five seconds."""
    application.live(SECOND)
    application.beat(application.facts(running=application.now() - 20 * MS, slot=2))
    assert sidecar.look(LATE_NS - 10 * MS) == []
    assert sidecar.look(20 * MS) == ["EventLoopSilent firing"]
    alert = sidecar.heard[-1]
    assert alert.labels["tenant_id"] == "unknown"
    summary = alert.annotations["summary"]
    assert "tenant acme had had it for 0.0" in summary
    assert "look alike" in summary
    assert "pid 7 on elsewhere" in summary
    assert application.live(LATE_QUIET_NS - SECOND) == []
    assert application.live(2 * SECOND) == ["EventLoopSilent resolved"]


def test_an_idle_loop_that_falls_silent_names_nobody(sidecar: Sidecar, application: Application) -> None:
    """There is no slice to name."""
    application.live(SECOND)
    assert sidecar.look(3 * SECOND) == ["EventLoopSilent firing"]
    assert "It was idle when it was last heard of" in sidecar.heard[-1].annotations["summary"]


def test_heartbeats_that_come_and_go_are_told_of_once(sidecar: Sidecar, application: Application) -> None:
    """Flapping: they have to come for five seconds."""
    application.live(SECOND)
    heard = []
    for _ in range(20):
        heard += sidecar.look(3 * SECOND, 50 * MS)
        heard += application.live(2 * SECOND)
    assert heard == ["EventLoopSilent firing"]


def test_a_link_that_comes_and_goes_is_told_of_once(sidecar: Sidecar, application: Application) -> None:
    """The same with a new stream each time."""
    application.live(SECOND)
    heard = []
    for _ in range(10):
        application.stream.end()
        heard += sidecar.look(3 * SECOND, 50 * MS)
        application.connect()
        application.beat()
        heard += application.live(2 * SECOND)
    assert heard == ["EventLoopSilent firing"]


def test_a_stream_that_ends_is_given_up_after_fifteen_seconds(sidecar: Sidecar, application: Application) -> None:
    """It may come back sooner; what became of the process nobody here knows, so it is not called dead."""
    application.live(SECOND)
    application.stream.end()
    assert sidecar.look(SILENT_NS + SECOND, 100 * MS) == ["EventLoopSilent firing"]
    assert len(sidecar.poll) == 0
    application.connect()
    application.beat()
    assert application.live(LATE_QUIET_NS + SECOND) == ["EventLoopSilent resolved"]


def test_a_stream_that_stays_open_without_a_word_is_given_up_and_taken_back(
    sidecar: Sidecar, application: Application
) -> None:
    """A connection that is half open keeps no room for ever; heartbeats that come again after all are welcome."""
    application.live(SECOND)
    assert sidecar.look(GIVEN_UP_NS + SECOND, SECOND) == ["EventLoopSilent firing"]
    assert len(sidecar.poll) == 0
    application.beat()
    assert len(sidecar.poll) == 1
    assert application.live(LATE_QUIET_NS + SECOND) == ["EventLoopSilent resolved"]


def test_a_stall_goes_on_over_a_new_stream(sidecar: Sidecar, application: Application) -> None:
    """Neither resolved nor raised twice, though the new stream's heartbeats took another time to come."""
    application.live(SECOND)
    began = application.now() - 120 * MS
    application.beat(application.facts(running=began, slot=2))
    assert sidecar.look(20 * MS) == ["EventLoopStalled firing"]
    application.stream.end()
    application.connect()
    beat = application.heartbeat(application.facts(running=began, slot=2))
    sidecar.look(50 * MS)
    application.stream.take(beat)
    assert sidecar.look(50 * MS) == []
    application.beat()
    assert sidecar.look() == ["EventLoopStalled resolved"]


def test_a_restarted_sidecar_raises_no_storm() -> None:
    """Everybody comes back at once, some of them after a while: nothing is told of."""
    sidecar = Sidecar()
    applications = [Application(sidecar, f"instance-{number}") for number in range(MAX_TOLD)]
    heard = sidecar.look(SECOND)
    for application in applications:
        application.beat(application.facts(running=application.now() - 5 * MS, slot=2))
    for _ in range(40):
        heard += sidecar.look(BEAT)
        for application in applications:
            application.beat()
    assert heard == []


# Not to be believed -------------------------------------------------------------------------------------------------
def test_heartbeats_out_of_order_twice_and_replayed_change_nothing(sidecar: Sidecar, application: Application) -> None:
    """Each is counted; what was told last still holds."""
    application.live(SECOND)
    old = application.heartbeat(application.facts(running=application.now() - 500 * MS, slot=2))
    sidecar.look(BEAT)
    newer = application.heartbeat()
    application.stream.take(newer)
    for replayed in (old, newer, old):
        application.stream.take(replayed)
    application.stream.take(application.heartbeat(sent=1))
    assert sidecar.disbelieved == ["order"] * 4
    assert sidecar.look(BEAT) == []
    assert sidecar.poll.stalls(sidecar.now) == []
    assert application.live(5 * SECOND) == []


def test_a_heartbeat_from_the_future_changes_nothing(sidecar: Sidecar, application: Application) -> None:
    """Nor does it make those look old that follow it."""
    application.live(SECOND)
    ahead = application.now() + 3600 * SECOND
    application.stream.take(application.heartbeat(application.facts(running=ahead - SECOND, slot=2), sent=ahead))
    assert sidecar.disbelieved == ["future"]
    assert application.live(5 * SECOND) == []
    assert sidecar.disbelieved == ["future"]


def test_a_stream_whose_clock_ran_away_is_ended(sidecar: Sidecar, application: Application) -> None:
    """It comes again, with a beginning of its own; else it would be disbelieved for ever."""
    application.live(SECOND)
    application.offset += 3600 * SECOND
    with pytest.raises(ClosedError) as ended:
        application.live((MAX_REFUSALS + 1) * BEAT)
    assert ended.value.code is grpc.StatusCode.FAILED_PRECONDITION
    application.stream.end()
    application.connect()
    application.beat()
    application.live(10 * SECOND)
    assert len(sidecar.poll) == 1
    assert sidecar.poll.stalls(sidecar.now) == []


def test_nobody_tells_of_a_loop_that_was_not_asked_for(sidecar: Sidecar, application: Application) -> None:
    """Nor beyond the bounds of slots and names."""
    for facts in (
        application.facts(loop_id=2),
        application.facts(slots=[wire.Slot(slot=MAX_TOLD_SLOTS)]),
        application.facts(slots=[wire.Slot(slot=2, tenant="x" * 5000)]),
        application.facts(stack=b"x" * (stacks.SIZE + 1)),
    ):
        sidecar.now += MS
        application.beat(facts)
    assert sidecar.disbelieved == ["loop", "size", "size", "size"]
    assert len(sidecar.poll) == 0


def test_there_is_room_for_so_many_and_no_more(sidecar: Sidecar) -> None:
    """Whoever reaches the listener can tell stories; who shares memory finds room. Counted once, not each beat."""
    applications = [Application(sidecar, f"instance-{number}") for number in range(MAX_TOLD + 1)]
    for _ in range(3):
        sidecar.now += BEAT
        for application in applications:
            application.beat()
    assert len(sidecar.poll) == MAX_TOLD
    assert sidecar.refused.count("loops") == 1
    applications[0].stream.take(wire.Report(withdraw=wire.Withdraw(loop_id=1)).SerializeToString())
    sidecar.look(MS)
    applications[-1].beat()
    assert len(sidecar.poll) == MAX_TOLD


def test_directives_that_nobody_reads_end_the_stream(sidecar: Sidecar) -> None:
    """A client that announces and withdraws for ever does not fill our memory."""
    application = Application(sidecar)
    withdraw = wire.Report(withdraw=wire.Withdraw(loop_id=1)).SerializeToString()
    announce = wire.Report(
        announce=wire.Announce(loop_id=1, pid=7, instance="instance", clock="another machine")
    ).SerializeToString()
    application.beat()

    def flood() -> None:
        for _ in range(2 * MAX_DIRECTIVES):
            application.stream.take(withdraw)
            application.stream.take(announce)

    with pytest.raises(ClosedError):
        flood()
    assert application.stream.outbox.qsize() <= MAX_DIRECTIVES


WORD = st.one_of(
    st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 4095, 4096, 2**63, 2**64 - 1, THEIRS, THEIRS - 10**9])
)
SLOT = st.builds(
    wire.Slot,
    slot=st.integers(0, 2 * MAX_TOLD_SLOTS),
    tenant=st.text(max_size=20),
    loop_ns=WORD,
    slices=WORD,
    longest_ns=WORD,
    suffered_ns=WORD,
    caused_ns=WORD,
    waits=WORD,
)
FACTS = st.builds(
    wire.Facts,
    loop_id=st.integers(0, 2),
    running=WORD,
    beat=WORD,
    heartbeat=WORD,
    lateness=WORD,
    ident=WORD,
    stack=st.binary(max_size=50),
    slots=st.lists(SLOT, max_size=4),
)
BEATS = st.lists(st.tuples(WORD, st.integers(0, 10), st.lists(FACTS, max_size=3), st.integers(0, SECOND)), max_size=12)


@settings(max_examples=300, deadline=None)
@given(beats=BEATS)
def test_whatever_heartbeats_say_the_watch_goes_on(beats: list[tuple[int, int, list[wire.Facts], int]]) -> None:
    """They are taken, or refused for one of the known reasons; the loops of others are judged as ever."""
    sidecar = Sidecar()
    hostile, honest = Application(sidecar, "hostile"), Application(sidecar, "honest")
    for sent, sequence, facts, pause in beats:
        sidecar.look(pause, SECOND)
        try:
            hostile.stream.take(
                wire.Report(
                    heartbeat=wire.Heartbeat(monotonic_ns=sent, sequence=sequence, loops=facts)
                ).SerializeToString()
            )
        except ClosedError:
            break
        honest.beat()
        assert all(isinstance(loop["tenants"], list) for loop in sidecar.poll.loops(sidecar.now))
    sidecar.look(SECOND, 100 * MS)
    assert set(sidecar.disbelieved) <= set(HEARTBEAT_REASONS)
    began = honest.now() - 200 * MS
    honest.beat(honest.facts(running=began, slot=2))
    sidecar.look(20 * MS)
    assert [stall["instance"] for stall in sidecar.poll.stalls(sidecar.now) if stall["active"]].count("honest") == 1
