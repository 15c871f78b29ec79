"""Who waited for whom, and how late the loop is: exact, by a virtual clock."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from pathlib import Path
from typing import Any

import pytest
import uvloop

from instrumentation import tenancy
from instrumentation.conventions import LOOP_BUCKETS
from instrumentation.loop import Loops, victims
from instrumentation.loop.delays import Delays
from instrumentation.tenancy import tenant
from sidecar.wire import cell as layout

MS = 1_000_000


def context_of(handle: Any) -> contextvars.Context:
    (context,) = [held for held in gc.get_referents(handle) if isinstance(held, contextvars.Context)]
    return context


def slot(name: str) -> int:
    return tenancy.TABLE.intern(name).slot


def test_a_long_slice_is_charged_with_what_others_waited(loops: Loops, any_loop: Any, clock: Any) -> None:
    """Ready work of others waits the slice's length; one's own work and what was cancelled do not count."""
    loop = any_loop

    def hog() -> None:
        clock.advance(100)

    async def main() -> None:
        await asyncio.sleep(0)
        with tenant("acme"):
            loop.call_soon(hog)
            loop.call_soon(lambda: None)
        with tenant("globex"):
            loop.call_soon(lambda: None)
            loop.call_soon(lambda: None)
            loop.call_later(3600, lambda: None).cancel()
        with tenant("initech"):
            loop.call_soon(lambda: None).cancel()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    totals = loops.totals()

    waited = totals.suffered[slot("globex")]
    assert waited.sum_ns == 200 * MS
    assert [count for count in waited.counts if count] == [2]  # 100 ms each
    assert slot("acme") not in totals.suffered
    assert slot("initech") not in totals.suffered
    unknown = totals.suffered[slot("unknown")]  # `main` itself, which nobody bound
    assert totals.caused_ns[slot("acme")] == waited.sum_ns + unknown.sum_ns


def test_a_timer_waits_since_it_was_due(loops: Loops, virtual_loop: Any, clock: Any) -> None:
    """Of a slice that began before, it waits for the rest; a timer that is not due does not wait."""
    loop = virtual_loop

    async def main() -> None:
        await asyncio.sleep(0)
        with tenant("globex"):
            loop.call_later(0.060, lambda: None)
            loop.call_later(0.020, lambda: None).cancel()
            loop.call_later(3600, lambda: None)
        with tenant("acme"):
            loop.call_soon(clock.advance, 100)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    waited = loops.totals().suffered[slot("globex")]
    assert waited.sum_ns == pytest.approx(40 * MS, abs=1000)
    assert sum(waited.counts) == 1


def test_a_timer_of_uvloop_waits_since_it_was_due(cells: Path) -> None:
    """The same by the real clock: more than nothing, at most the slice."""
    loops = Loops(cells, "service", "instance", "unix:/nonexistent/tenantscope.sock")
    loops.start()
    loop = uvloop.Loop()

    def hog(timer: asyncio.TimerHandle) -> None:
        while loop.time() < timer.when() + 0.010:
            pass

    async def main() -> None:
        with tenant("globex"):
            timer = loop.call_later(0.005, lambda: None)
            loop.call_later(0.001, lambda: None).cancel()
            loop.call_later(3600, lambda: None)
        with tenant("acme"):
            loop.call_soon(hog, timer)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()
    loops.stop()
    totals = loops.totals()
    waited = totals.suffered[slot("globex")]
    assert sum(waited.counts) == 1
    assert 10 * MS <= waited.sum_ns <= totals.active_ns[slot("acme")]


def test_a_change_of_tenant_ends_the_slice(loops: Loops, any_loop: Any, clock: Any) -> None:
    """Two tenants within one callback answer for their own part of it only."""
    loop = any_loop

    def shared() -> None:
        with tenant("acme"):
            clock.advance(30)
        with tenant("globex"):
            clock.advance(70)

    async def main() -> None:
        await asyncio.sleep(0)
        loop.call_soon(shared)
        with tenant("initech"):
            loop.call_soon(lambda: None)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    totals = loops.totals()

    assert totals.suffered[slot("initech")].sum_ns == 100 * MS
    assert sum(totals.suffered[slot("initech")].counts) == 2
    assert totals.caused_ns[slot("acme")] == 60 * MS  # initech, and main
    assert totals.caused_ns[slot("globex")] == 140 * MS


def test_short_slices_are_not_looked_at(loops: Loops, any_loop: Any, clock: Any) -> None:
    """Below 5 ms nobody counts who waited."""
    loop = any_loop

    async def main() -> None:
        with tenant("acme"):
            loop.call_soon(clock.advance, 4.9)
        with tenant("globex"):
            loop.call_soon(lambda: None)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert loops.totals().suffered == {}


def test_a_flooded_loop_is_looked_at_within_bounds(loops: Loops, any_loop: Any, clock: Any) -> None:
    """Of a very long queue the beginning is examined, so that measuring does not become the stall."""
    loop = any_loop

    async def main() -> None:
        with tenant("acme"):
            loop.call_soon(clock.advance, 50)
        with tenant("globex"):
            for _ in range(victims.LIMIT + 500):
                loop.call_soon(int)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert sum(loops.totals().suffered[slot("globex")].counts) == victims.LIMIT


def test_the_cell_tells_the_same(loops: Loops, any_loop: Any, clock: Any) -> None:
    """Totals of a long slice are in the cell as soon as the slice is gone from RUNNING."""
    loop = any_loop

    async def main() -> list[int]:
        await asyncio.sleep(0)
        with tenant("acme"):
            loop.call_soon(clock.advance, 50)
        with tenant("globex"):
            loop.call_soon(lambda: None)
        await asyncio.sleep(0)
        (account,) = loops._accounts.values()
        acme, globex = (layout.slot_word(slot(name)) for name in ("acme", "globex"))
        words = account.words
        return [
            words[acme + layout.LOOP_NS],
            words[acme + layout.LONGEST_NS],
            words[acme + layout.CAUSED_NS],
            words[globex + layout.SUFFERED_NS],
            words[globex + layout.WAITS],
        ]

    assert loop.run_until_complete(main()) == [50 * MS, 50 * MS, 100 * MS, 50 * MS, 1]


def test_the_running_slice_is_published_with_its_tenant(loops: Loops, any_loop: Any, clock: Any) -> None:
    """One word tells start and tenant, also after a change in mid-callback; an idle loop tells zero."""
    loop = any_loop
    seen = []

    async def main() -> None:
        await asyncio.sleep(0)
        (account,) = loops._accounts.values()
        seen.append(account.words[layout.RUNNING])
        with tenant("acme"):
            clock.advance(300)
            seen.append(account.words[layout.RUNNING])
        seen.append(account.words[layout.RUNNING])
        began = clock.now
        assert [word & layout.SLOT_BITS for word in seen] == [0, slot("acme"), 0]
        assert seen[2] & layout.START_BITS == began & layout.START_BITS

    loop.run_until_complete(main())
    (account,) = loops._accounts.values()
    assert account.words[layout.RUNNING] == 0


def test_the_heartbeat_tells_how_late_the_loop_is(loops: Loops, virtual_loop: Any, clock: Any) -> None:
    """Idle it is on time; behind a slice of 130 ms that began right after a beat it is 80 ms late."""

    async def main() -> None:
        await asyncio.sleep(0.5)
        before = loops.totals().delay
        assert sum(before.counts) >= 8
        assert before.sum_ns < 1 * MS
        (account,) = loops._accounts.values()
        beats = sum(account.delay.counts)
        while sum(account.delay.counts) == beats:  # until right after the next beat
            await asyncio.sleep(0.0005)
        clock.advance(130)
        await asyncio.sleep(0.2)
        assert loops.totals().delay.since(before).sum_ns == pytest.approx(80 * MS, abs=1 * MS)
        assert account.words[layout.HEARTBEAT] > 0

    virtual_loop.run_until_complete(main())


def test_the_heartbeat_belongs_to_no_tenant_and_ends_with_its_loop(loops: Loops, make_loop: Any) -> None:
    """It is made with an empty context even when a tenant's code ran first, and nobody hears of it at close."""
    loop = make_loop()

    async def main() -> None:
        with tenant("acme"):
            await asyncio.sleep(0)

    with tenant("acme"):
        loop.run_until_complete(main())
    (timer,) = [heartbeat.timer() for heartbeat in loops._heartbeats.values()]
    assert list(context_of(timer)) == []
    loop.close()
    assert loops.totals().loops == 0


@pytest.mark.parametrize("index", range(len(LOOP_BUCKETS)))
def test_buckets_include_their_upper_bound(index: int) -> None:
    """A wait of exactly a bound counts in its bucket, a nanosecond more in the next."""
    delays = Delays()
    bound = round(LOOP_BUCKETS[index] * 1e9)
    delays.record(bound)
    delays.record(bound + 1)
    assert delays.counts[index : index + 2] == [1, 1]
    assert delays.sum_ns == 2 * bound + 1
