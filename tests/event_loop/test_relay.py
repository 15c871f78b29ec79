"""What the library tells a watchdog that cannot read its cells, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from instrumentation.loop import Loops
from instrumentation.loop.relay import ALIVE_NS, FACTS_NS, Relay
from instrumentation.tenancy import tenant
from sidecar.wire import cell as layout
from sidecar.wire import stacks
from sidecar.wire import watchdog_pb2 as wire

MS = 1_000_000


@pytest.fixture
def relay(loops: Loops, clock: Any) -> Relay:
    return Relay(loops._alive, clock)


def told(relay: Relay) -> list[wire.Facts] | None:
    report = relay.heartbeat()
    return None if report is None else list(report.heartbeat.loops)


def test_unasked_it_only_says_that_the_process_lives(relay: Relay, clock: Any) -> None:
    """Every second, without facts, each with a number of its own."""
    assert relay.heartbeat() is None
    assert relay.pause() == pytest.approx(ALIVE_NS / 1e9)
    numbers = []
    for _ in range(3):
        clock.advance(1000)
        report = relay.heartbeat()
        assert report is not None
        assert list(report.heartbeat.loops) == []
        assert report.heartbeat.monotonic_ns == clock.now
        numbers.append(report.heartbeat.sequence)
    assert numbers == [1, 2, 3]


def test_asked_it_tells_at_once_and_then_what_changed(relay: Relay, clock: Any, make_loop: Callable[[], Any]) -> None:
    """Totals, names once, and only slots that say something new."""
    heard: list[Any] = []

    async def work() -> None:
        with tenant("acme"):
            clock.advance(10)
            await asyncio.sleep(0)
        relay.ask(1, 100 * MS)
        assert relay.pause() == 0
        heard.append(told(relay))
        assert relay.heartbeat() is None
        clock.advance(FACTS_NS / MS)
        await asyncio.sleep(0)
        heard.append(told(relay))

    make_loop().run_until_complete(work())
    (first,), (second,) = heard
    assert {slot.tenant: slot.loop_ns for slot in first.slots}["acme"] == 10 * MS
    assert {slot.tenant for slot in second.slots} == {""}
    assert second.heartbeat <= clock.now


def test_an_overdue_slice_is_told_at_once_and_so_is_its_end(
    relay: Relay, clock: Any, make_loop: Callable[[], Any]
) -> None:
    """The thread sleeps until the slice would be overdue, and no longer; nothing is told twice."""
    pauses: list[float] = []
    heard: list[Any] = []

    async def work() -> None:
        relay.ask(1, 100 * MS)
        told(relay)
        with tenant("globex"):
            pauses.append(relay.pause())
            clock.advance(99)
            assert relay.heartbeat() is None
            pauses.append(relay.pause())
            clock.advance(1)
            heard.append(told(relay))
            assert relay.heartbeat() is None
            assert relay.pause() == pytest.approx(0.025)
            clock.advance(30)
            assert relay.heartbeat() is None
        heard.append(told(relay))
        assert relay.heartbeat() is None

    make_loop().run_until_complete(work())
    assert pauses == [pytest.approx(0.1, abs=0.001), pytest.approx(0.005)]
    (overdue,), (over,) = heard
    slot = overdue.running & layout.SLOT_BITS
    assert {told.slot: told.tenant for told in overdue.slots}[slot] == "globex"  # though it has no totals yet
    assert any("work" in name for _, _, name in stacks.frames(overdue.stack, overdue.ident))
    assert over.running & layout.SLOT_BITS != slot
    assert over.stack == b""
    assert {told.slot: told.longest_ns for told in over.slots}[slot] == 130 * MS


def test_short_slices_are_not_told_one_by_one(relay: Relay, clock: Any, make_loop: Callable[[], Any]) -> None:
    """A busy loop costs as many heartbeats as an idle one."""
    heard: list[Any] = []

    async def work() -> None:
        relay.ask(1, 100 * MS)
        told(relay)
        for _ in range(1000):
            clock.advance(1)
            await asyncio.sleep(0)
            heard.append(relay.heartbeat())

    make_loop().run_until_complete(work())
    assert sum(report is not None for report in heard) == 1000 * MS // FACTS_NS


def test_a_loop_that_is_gone_is_told_of_no_more(relay: Relay, clock: Any, make_loop: Callable[[], Any]) -> None:
    """Nor is one that never was."""
    loop = make_loop()
    loop.run_until_complete(asyncio.sleep(0))
    relay.ask(1, 100 * MS)
    relay.ask(77, 100 * MS)
    facts = told(relay)
    assert facts is not None
    assert [fact.loop_id for fact in facts] == [1]
    loop.close()
    clock.advance(1000)
    assert told(relay) == []
    assert relay.pause() > 0
    assert relay.goodbye(77) is None


def test_the_last_that_is_told_of_a_loop_is_what_it_did_last(
    relay: Relay, clock: Any, make_loop: Callable[[], Any]
) -> None:
    """A stall that ended just before the loop was closed still has its end and its victims."""

    async def work() -> None:
        relay.ask(1, 100 * MS)
        told(relay)
        with tenant("acme"):
            clock.advance(500)
            told(relay)

    loop = make_loop()
    loop.run_until_complete(work())
    loop.close()
    report = relay.goodbye(1)
    assert report is not None
    (facts,) = report.heartbeat.loops
    assert facts.running == 0
    assert 500 * MS in [slot.longest_ns for slot in facts.slots]
    assert relay.goodbye(1) is None
