"""Who is worked for next when many ask: by what each has had, on a clock that is moved by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from otlp_peers import PATIENCE, export, trace_request

from sidecar.conventions import Signal
from sidecar.intake import Admission, Busy, Hand, Intake
from sidecar.intake.turns import Crowded, Turn, Turns
from sidecar.ledger import Ledger
from sidecar.network.address import listener
from sidecar.network.otlp import SERVICES
from sidecar.senders.clients import Client, Clients


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def granted(turns: list[Turn]) -> list[bool]:
    return [turn.granted.is_set() for turn in turns]


def test_nobody_waits_while_there_is_room() -> None:
    """As many at once as there are places, whoever they are."""
    turns = Turns(places=4)
    assert granted([turns.ask("a"), turns.ask("b"), turns.ask("c"), turns.ask("d"), turns.ask("e")]) == [
        True, True, True, True, False,
    ]  # fmt: skip


def test_one_sender_never_has_the_last_places() -> None:
    """However much it asks for: who comes next is served at once."""
    turns = Turns(places=8)
    flood = [turns.ask("flood") for _ in range(20)]
    assert sum(granted(flood)) == 6
    assert turns.ask("calm").granted.is_set()


def test_one_sender_leaves_room_to_wait_for_others() -> None:
    """The first may fill half of it, the next half of what is left, and so on."""
    turns = Turns(places=1, room=16)
    served = turns.ask("first")
    for sender, share in (("a", 8), ("b", 4), ("c", 2)):
        for _ in range(share):
            turns.ask(sender)
        with pytest.raises(Crowded):
            turns.ask(sender)
    assert served.granted.is_set()


def test_who_has_had_the_least_is_next() -> None:
    """Nine of ten requests are one sender's; of the time, it gets half while another wants some."""
    clock = Clock()
    turns = Turns(places=1, room=64, clock=clock)
    first = turns.ask("flood")
    line = [turns.ask("flood") for _ in range(18)] + [turns.ask("calm") for _ in range(4)]
    order, turn = [], first
    for _ in range(8):
        clock.now += 1
        turns.leave(turn)
        turn = next(waiting for waiting in line if waiting.granted.is_set())
        line.remove(turn)
        order.append(turn.sender)
    assert order.count("calm") == 4
    assert order[:2] != ["flood", "flood"]


def test_large_requests_wait_behind_small_ones_of_others() -> None:
    """It is time that is shared, not the number of requests."""
    clock = Clock()
    turns = Turns(places=1, clock=clock)
    turn = turns.ask("large")
    line = [turns.ask(sender) for sender in ["large", "small"] * 12]
    seconds = {"large": 0.0, "small": 0.0}
    for _ in range(13):
        cost = 5.0 if turn.sender == "large" else 1.0
        seconds[turn.sender] += cost
        clock.now += cost
        turns.leave(turn)
        turn = next(waiting for waiting in line if waiting.granted.is_set())
        line.remove(turn)
    assert abs(seconds["large"] - seconds["small"]) <= 5.0


def test_what_is_still_worked_on_has_been_had() -> None:
    """Long requests that all began at once are no reason to begin another of the same sender before somebody else's."""
    clock = Clock()
    turns = Turns(places=4, clock=clock)
    long, short = ([turns.ask(sender) for _ in range(2)] for sender in ("long", "short"))
    more = [turns.ask("long") for _ in range(3)]
    clock.now += 1
    calm = turns.ask("calm")
    turns.leave(short[0])
    assert granted([calm, *more]) == [True, False, False, False]
    turns.leave(calm)
    again = turns.ask("calm")
    assert granted([again, *more]) == [False, True, False, False]  # the place was free: nobody waits beside it
    clock.now += 1
    turns.leave(long[0])
    assert granted([again, *more[1:]]) == [True, False, False]


def test_places_that_come_free_together_go_to_each_who_waits() -> None:
    """Who had as much as another gets his after the other's first, not after all of them."""
    turns = Turns(places=4, clock=Clock())
    held = [turns.ask(sender) for sender in "aabb"]
    waiting = [turns.ask(sender) for sender in "ccd"]
    for turn in held[:2]:
        turns.leave(turn)
    assert granted(waiting) == [True, False, True]


def test_who_was_away_saves_nothing_up() -> None:
    """A sender that comes back does not get all places until it has caught up with the others."""
    clock = Clock()
    turns = Turns(places=1, clock=clock)
    turn = turns.ask("away")
    turns.leave(turn)
    turn = turns.ask("busy")
    line = [turns.ask("busy") for _ in range(30)]
    for _ in range(20):
        clock.now += 1
        turns.leave(turn)
        turn = line.pop(0)
    line += [turns.ask("away") for _ in range(10)]
    order = []
    for _ in range(6):
        clock.now += 1
        turns.leave(turn)
        turn = next(waiting for waiting in line if waiting.granted.is_set())
        line.remove(turn)
        order.append(turn.sender)
    assert order.count("busy") >= 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=60))
def test_places_are_never_overbooked_and_never_lost(steps: list[tuple[str, int]]) -> None:
    """Whoever asks and leaves in whatever order, waiting or not: at the end everybody can be served."""
    clock = Clock()
    turns = Turns(places=3, room=6, clock=clock)
    held: list[Turn] = []
    for sender, leaver in steps:
        clock.now += 1
        try:
            held.append(turns.ask(sender))
        except Crowded:
            if held:
                turns.leave(held.pop(leaver % len(held)))
        assert sum(granted(held)) <= 3
        assert all(sum(turn.sender == who for turn in held if turn.granted.is_set()) <= 2 for who in "abc")
    for turn in held:
        turns.leave(turn)
        turns.leave(turn)
    assert granted([turns.ask("x"), turns.ask("y"), turns.ask("z")]) == [True, True, True]
    assert turns._waiters == 0


def test_a_million_senders_take_no_more_room_than_some() -> None:
    """What is remembered of them is bounded."""
    turns = Turns()
    for number in range(10_000):
        turns.leave(turns.ask(str(number)))
    assert len(turns._shares) <= 4096


@pytest.fixture
def gate() -> Iterator[tuple[Intake, threading.Event, threading.Event]]:
    """An intake whose next stage stops a request that has `stop` in it."""
    entered, release = threading.Event(), threading.Event()

    def consume(signal: Signal, payload: bytes, client: Client, hand: Hand) -> int:
        if b"stop" in payload:
            entered.set()
            assert release.wait(PATIENCE)
        return 0

    intake = Intake(listener("127.0.0.1:0"), Admission(Clients(None), consume, Turns(places=4)), Ledger())
    intake.start()
    yield intake, entered, release
    release.set()
    intake.stop(PATIENCE)


OWN = (("grpc.use_local_subchannel_pool", 1),)


def test_a_flood_over_one_connection_does_not_keep_another_out(
    gate: tuple[Intake, threading.Event, threading.Event],
) -> None:
    """Forty requests that take for ever: those beyond the room are put off at once, another sender is served."""
    intake, entered, release = gate
    with (
        grpc.insecure_channel(intake.address.target, OWN) as flood,
        grpc.insecure_channel(intake.address.target, OWN) as calm,
    ):
        call = flood.unary_unary(SERVICES["traces"].method, None, None)
        stuck = [call.future(trace_request(message="stop"), timeout=PATIENCE) for _ in range(120)]
        assert entered.wait(PATIENCE)
        calm.unary_unary(SERVICES["traces"].method, None, None)(trace_request(), timeout=PATIENCE)
        refused = [sender for sender in stuck if sender.done()]
        assert {sender.code() for sender in refused} <= {grpc.StatusCode.UNAVAILABLE}
        release.set()
        for sender in stuck:
            sender.exception()


def test_a_body_that_trickles_in_gives_its_place_up_when_somebody_waits() -> None:
    """Bodies that never end, from as many connections as there are places: the next one is served nevertheless."""
    intake = Intake(listener("127.0.0.1:0"), Admission(Clients(None), lambda *_: 0, Turns(places=2)), Ledger())
    intake.start()
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(PATIENCE * 2)
        yield from ()

    channels = [grpc.insecure_channel(intake.address.target, OWN) for _ in range(4)]
    try:
        dawdling = [
            channel.stream_unary(SERVICES["traces"].method, None, None).future(nothing()) for channel in channels
        ]
        cut = threading.Event()
        for sender in dawdling:
            sender.add_done_callback(lambda _: cut.set())
        assert export(intake.address.target, trace_request()) == b""
        assert cut.wait(PATIENCE)
        assert {sender.code() for sender in dawdling if sender.done()} == {grpc.StatusCode.CANCELLED}
    finally:
        never.set()
        intake.stop(0)
        for channel in channels:
            channel.close()


def test_what_cannot_get_a_place_is_put_off() -> None:
    """`Busy`, with a time after which to try again, and before anything of the body is read."""
    clock = Clock()
    admission = Admission(Clients(None), lambda *_: 0, Turns(places=1, room=1, clock=clock))
    client = admission.identify(())
    with admission.turn(client, "one", lambda: None):
        admission.turns.ask("peer two")
        with pytest.raises(Busy) as put_off:
            admission.turn(client, "three", lambda: None)
    assert 0 < put_off.value.retry_after <= 2
