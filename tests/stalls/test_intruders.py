"""Every local process can open a stream: what it cannot do to the applications that are under watch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from talker import DEADLINE, Talker, services, wait_until

from instrumentation.loop.cell import Cell
from sidecar.alerts import Alerts
from sidecar.watchdog import Watchdog
from sidecar.watchdog.room import MAX_STREAMS, SILENT_NS
from sidecar.wire import cell as layout

REFUSED = "tenantscope_cells_refused_total"
NO_ROOM = "tenantscope_streams_refused_total"

Sample = Callable[..., float | None]


@pytest.fixture
def talker(server: str) -> Iterator[Callable[[str], Talker]]:
    with ExitStack() as opened:
        yield lambda service: opened.enter_context(talking(server, service))


@contextmanager
def talking(server: str, service: str) -> Iterator[Talker]:
    with grpc.insecure_channel(server.removeprefix("http://")) as channel:
        talker = Talker(channel, service)
        yield talker
        talker.close()


# One loop, two streams ----------------------------------------------------------------------------------------------
@pytest.fixture
def cell(make_cell: Callable[[int], Cell]) -> Cell:
    return make_cell(1)


@pytest.fixture
def victim(talker: Callable[[str], Talker], cell: Cell, watchdog: Watchdog) -> Talker:
    """An application that is under watch."""
    victim = talker("victim")
    victim.announce(cell)
    wait_until(lambda: services(watchdog) == ["victim"])
    return victim


def test_a_second_stream_cannot_take_a_loop_over(
    victim: Talker, talker: Callable[[str], Talker], cell: Cell, watchdog: Watchdog, sample: Sample
) -> None:
    """It is refused and counted; and when it withdraws the loop and hangs up, the loop is watched as before."""
    intruder = talker("intruder")
    intruder.announce(cell)
    intruder.withdraw()
    intruder.finish()
    assert sample(REFUSED, reason="announced") == 1
    assert services(watchdog) == ["victim"]

    cell.words[layout.RUNNING] = time.monotonic_ns() & layout.START_BITS
    wait_until(watchdog.stalls)
    assert watchdog.stalls()[0]["service"] == "victim"


def test_wishes_go_to_the_stream_that_announced(
    victim: Talker, talker: Callable[[str], Talker], cell: Cell, sample: Sample
) -> None:
    """Who has no loop under watch is not told whose memory cannot be read, nor by whom."""
    intruder = talker("intruder")
    intruder.announce(cell)
    wait_until(lambda: sample(REFUSED, reason="announced") == 1)
    intruder.beat()
    assert intruder.finish() == []
    victim.beat()
    (told,) = victim.finish()  # said once, for as long as nothing changes
    assert (told.leave_stacks.stall_ns, told.leave_stacks.watchdog_pid) == (100_000_000, os.getpid())


def test_a_withdrawal_that_the_cell_does_not_bear_out_ends_no_watch(
    victim: Talker, cell: Cell, watchdog: Watchdog
) -> None:
    """Whoever announced a loop first could be an intruder; only the application itself can write that it was closed."""
    victim.withdraw()
    victim.finish()
    cell.words[layout.RUNNING] = time.monotonic_ns() & layout.START_BITS
    wait_until(watchdog.stalls)
    assert services(watchdog) == ["victim"]
    cell.words[layout.CLOSED] = 1
    wait_until(lambda: not services(watchdog))


def test_the_loop_of_a_stream_that_ended_may_be_announced_again(
    victim: Talker, talker: Callable[[str], Talker], cell: Cell, watchdog: Watchdog, sample: Sample
) -> None:
    """An application comes back; also one that announced so early that its old stream was not known to be over."""
    early = talker("again")
    early.announce(cell)
    wait_until(lambda: sample(REFUSED, reason="announced") == 1)
    early.beat()
    victim.finish()
    early.beat()
    wait_until(lambda: services(watchdog) == ["again"])
    assert sample(REFUSED, reason="announced") == 1  # told once, however often it was tried


def test_a_stream_may_announce_its_own_loop_again(
    victim: Talker, cell: Cell, watchdog: Watchdog, sample: Sample
) -> None:
    """An application that does not know what was heard says it twice."""
    victim.announce(cell)
    victim.finish()
    assert services(watchdog) == ["victim"]
    assert sample(REFUSED, reason="announced") is None


# Many streams -------------------------------------------------------------------------------------------------------
class Clock:
    """The real one, until the test takes it in hand."""

    def __init__(self) -> None:
        self._stopped: int | None = None

    def __call__(self) -> int:
        return time.monotonic_ns() if self._stopped is None else self._stopped

    def stop(self, ahead: int = 0) -> None:
        """Stand still, so far ahead."""
        self._stopped = self() + ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def still(clock: Clock) -> Clock:
    """However slow the machine, no stream is silent for too long."""
    clock.stop()
    return clock


@pytest.fixture
def watchdog(clock: Clock, inbox: Any, registry: CollectorRegistry) -> Iterator[Watchdog]:
    watchdog = Watchdog(100_000_000, Alerts([inbox]), registry, clock)
    watchdog.start()
    yield watchdog
    watchdog.stop()


@pytest.fixture
def server(watchdog: Watchdog) -> Iterator[str]:
    """With threads for more streams than the watchdog takes, as the sidecar's."""
    server = grpc.server(ThreadPoolExecutor(MAX_STREAMS + 20))
    watchdog.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(0).wait(DEADLINE)


@pytest.fixture
def crowd(still: Clock, server: str) -> Iterator[Callable[[int], list[Talker]]]:
    """Many streams over one connection."""
    with grpc.insecure_channel(server.removeprefix("http://")) as channel:
        talkers: list[Talker] = []

        def come(count: int) -> list[Talker]:
            new = [Talker(channel, "crowd") for _ in range(count)]
            talkers.extend(new)
            assert all(talker.connected() for talker in new)
            return new

        yield come
        for talker in talkers:
            talker.close()


def test_a_stream_that_announces_nothing_is_ended(
    still: Clock, victim: Talker, talker: Callable[[str], Talker], cell: Cell, watchdog: Watchdog, sample: Sample
) -> None:
    """Also one that was refused what it announced, and one that only beats; not one that has a loop under watch."""
    silent, beating, refused = talker("silent"), talker("beating"), talker("refused")
    beating.beat()
    refused.announce(cell)
    wait_until(lambda: sample(REFUSED, reason="announced") == 1)
    assert silent.connected()
    assert beating.connected()
    still.stop(SILENT_NS)
    assert [each.ended() for each in (silent, beating, refused)] == [grpc.StatusCode.FAILED_PRECONDITION] * 3
    assert sample(NO_ROOM, reason="silent") == 3
    assert services(watchdog) == ["victim"]
    victim.finish()


def test_silent_streams_leave_room_for_an_application(
    crowd: Callable[[int], list[Talker]],
    talker: Callable[[str], Talker],
    cell: Cell,
    watchdog: Watchdog,
    sample: Sample,
) -> None:
    """Not after five seconds, but at once: the oldest of them gives way."""
    (oldest,) = crowd(1)
    crowd(MAX_STREAMS - 1)
    application = talker("application")
    application.announce(cell)
    wait_until(lambda: services(watchdog) == ["application"])
    assert oldest.ended() is grpc.StatusCode.FAILED_PRECONDITION
    assert sample(NO_ROOM, reason="silent") == 1


def test_a_stream_without_room_is_refused_counted_and_told_of_seldom(
    crowd: Callable[[int], list[Talker]],
    talker: Callable[[str], Talker],
    make_cell: Callable[[int], Cell],
    watchdog: Watchdog,
    sample: Sample,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who has a loop under watch is never ended for another; and the log does not grow with those who try."""
    for loop_id, each in enumerate(crowd(MAX_STREAMS), 1):
        each.announce(make_cell(loop_id), loop_id)
    wait_until(lambda: len(watchdog.loops()) == MAX_STREAMS)
    for count in range(1, 6):
        late = talker("late")
        assert late.ended() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert sample(NO_ROOM, reason="room") == count
    written = capsys.readouterr()
    assert (written.out + written.err).count("stream refused") == 1
    assert len(watchdog.loops()) == MAX_STREAMS
