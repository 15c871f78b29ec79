"""Who computed, who only had the loop, and what the loop itself needed: the shares add up to wall time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from virtual_time import VirtualClock, VirtualLoop

from instrumentation import tenancy
from instrumentation.loop import Loops
from instrumentation.loop.cpu_time import CpuDelay, CpuTime
from instrumentation.tenancy import tenant

NOWHERE = "unix:/nonexistent/tenantscope.sock"
MS = 1_000_000


def slot(name: str) -> int:
    return tenancy.TABLE.intern(name).slot


def cpu_of(loops: Loops, name: str) -> float:
    """Milliseconds."""
    return loops.totals().cpu_ns[slot(name)] / MS


def test_who_blocks_without_computing_takes_no_cpu(loops: Loops, any_loop: Any, clock: Any) -> None:
    """A slice that sleeps, or whose thread gets no CPU, counts as loop time and not as CPU time; the next one does."""

    async def main() -> None:
        with tenant("acme"):
            clock.wait(300)
            await asyncio.sleep(0)
        with tenant("globex"):
            clock.advance(200)
            await asyncio.sleep(0)
        with tenant("initech"):
            clock.wait(60)
            clock.advance(40)
            await asyncio.sleep(0)

    any_loop.run_until_complete(main())
    totals = loops.totals()

    assert [totals.active_ns[slot(name)] / MS for name in ("acme", "globex", "initech")] == [300, 200, 100]
    assert [cpu_of(loops, name) for name in ("acme", "globex", "initech")] == [0, 200, 40]


def test_short_slices_before_a_long_one_keep_their_own(loops: Loops, any_loop: Any, clock: Any) -> None:
    """What many short slices computed is not put down to the one that blocks behind them, nor the loop's own work."""

    async def main() -> None:
        with tenant("acme"):
            for _ in range(100):
                clock.advance(0.1)
                await asyncio.sleep(0)
        with tenant("globex"):
            clock.wait(500)
            await asyncio.sleep(0)

    any_loop.run_until_complete(main())

    assert cpu_of(loops, "acme") == pytest.approx(10)
    assert cpu_of(loops, "globex") == 0


def test_a_reading_says_what_the_loop_itself_needed(loops: Loops, any_loop: Any, clock: Any) -> None:
    """CPU time outside of callbacks is the loop's own, not idleness; `utilization` counts it as busy."""

    async def main() -> None:
        with tenant("acme"):
            clock.advance(30)
            await asyncio.sleep(0)
        for _ in range(4):
            clock.advance(25)  # of `unknown`
            await asyncio.sleep(0)

    any_loop.run_until_complete(main())
    before = loops.totals()
    clock.advance(70)  # in no callback

    async def more() -> None:
        clock.advance(30)
        await asyncio.sleep(0)

    any_loop.run_until_complete(more())
    totals = loops.totals()

    assert before.framework_ns == 0
    assert totals.framework_ns == 70 * MS
    assert totals.idle_ns == before.idle_ns
    assert totals.utilization == 1.0


Step = tuple[str, str, float]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["acme", "globex", "initech", ""]),
        st.sampled_from(["compute", "block", "idle", "own", "yield", "read"]),
        st.sampled_from([0.001, 0.3, 2.0, 6.0, 21.0, 130.0]),
    ),
    max_size=40,
)


@pytest.mark.parametrize("kind", ["stock", "debug", "uvloop"])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_the_shares_add_up_to_wall_time(kind: str, steps: list[Step], cells: Path) -> None:
    """Tenants, framework and idle, at every reading, whatever happens; none ever goes down; CPU is part of active."""
    clock = VirtualClock()
    loop: Any = uvloop.Loop() if kind == "uvloop" else VirtualLoop(clock)
    loop.set_debug(kind == "debug")
    loops = Loops(cells, "service", "instance", NOWHERE, clock=clock, cpu_clock=clock.cpu)
    loops.start()
    before = [0] * 3
    adopted = 0

    def read() -> None:
        nonlocal before
        totals = loops.totals()
        shares = [sum(totals.active_ns), totals.framework_ns, totals.idle_ns]
        assert sum(shares) == clock.now - adopted
        assert all(now >= was for now, was in zip(shares, before, strict=True))
        assert all(0 <= cpu <= active for cpu, active in zip(totals.cpu_ns, totals.active_ns, strict=True))
        assert sum(totals.cpu_ns) + totals.framework_ns <= clock.cpu_now
        before = shares

    async def main() -> None:
        nonlocal adopted
        (account,) = loops._accounts.values()
        adopted = account.adopted
        for name, what, milliseconds in steps:
            if what == "read":
                read()
            elif what == "idle":
                past_the_accounting(loop, clock.wait, milliseconds)
                await asyncio.sleep(0)
            elif what == "own":
                past_the_accounting(loop, clock.advance, milliseconds)
                await asyncio.sleep(0)
            elif what == "yield":
                await asyncio.sleep(0)
            elif name:
                with tenant(name):
                    (clock.advance if what == "compute" else clock.wait)(milliseconds)
            else:
                (clock.advance if what == "compute" else clock.wait)(milliseconds)

    try:
        loop.run_until_complete(main())
        read()
        loop.close()
        read()
    finally:
        loop.close()
        loops.stop()


def past_the_accounting(loop: Any, callback: Callable[[float], object], milliseconds: float) -> None:
    """Call back before the next iteration's callbacks, where the loop itself works or waits."""
    if isinstance(loop, uvloop.Loop):
        super(uvloop.Loop, loop).call_soon(callback, milliseconds)
        return
    select = loop._selector.select

    def once(timeout: float | None = None) -> Any:
        loop._selector.select = select
        callback(milliseconds)
        return select(timeout)

    loop._selector.select = once


WINDOWS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 5 * MS), max_size=4),  # short slices, by slot
        st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(5 * MS, 10**9))),
        st.integers(0, 10**9),  # outside of callbacks
        st.integers(0, 2 * 10**9),  # CPU time
    ),
    max_size=20,
)


@given(windows=WINDOWS)
def test_what_is_divided_is_never_more_than_there_was(windows: list[Any]) -> None:
    """No slot gets more CPU time than it had the loop, the loop no more than was left; all of it no more than used."""
    cpu_now = now = 0
    cpu = CpuTime(4, 0, lambda: cpu_now)
    had_all = [0] * 4
    outside_all = 0
    for short, long, outside, used in windows:
        had = dict(enumerate(short))
        if long is not None:
            had[long[0]] = had.get(long[0], 0) + long[1]
        now += sum(had.values()) + outside
        cpu_now += used
        cpu.settle(now, list(had.items()), len(had), long)
        had_all = [total + had.get(index, 0) for index, total in enumerate(had_all)]
        outside_all += outside
        assert all(0 <= one <= most for one, most in zip(cpu.used, had_all, strict=True))
        assert 0 <= cpu.framework <= outside_all
        assert sum(cpu.used) + cpu.framework <= cpu_now


def test_another_threads_clock_is_not_mistaken_for_this_ones(clock: Any) -> None:
    """A loop that was run by another thread since: what that thread's clock says is no difference to anything."""
    cpu = CpuTime(2, clock(), clock.cpu)
    clock.advance(100)
    thread = threading.Thread(target=cpu.settle, args=(clock(), [(1, 100 * MS)], 1, (1, 100 * MS)))
    thread.start()
    thread.join(10)

    assert cpu.used == [0, 0]


def test_the_delay_of_threads_is_summed_over_their_lives() -> None:
    """From the first reading of each on; one that is gone keeps its share, a number that is used again adds nothing."""
    delays = {7: 1000, 8: 50}
    delay = CpuDelay(lambda _, thread: delays[thread])

    assert delay.read([7, 7]) == 0
    delays[7] = 1300
    assert delay.read([7, 8]) == 300
    delays[8] = 60
    assert delay.read([8]) == 310
    delays[7] = 20
    assert delay.read([7, 8]) == 310


@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.Loop])
def test_a_real_loop_tells_who_computed(make: Callable[[], Any], cells: Path) -> None:
    """By the real clocks: who computed has CPU time, who slept next to none, and all is part of wall time."""
    loops = Loops(cells, "service", "instance", NOWHERE)
    loops.start()
    loop = make()

    async def main() -> None:
        await asyncio.sleep(0)
        with tenant("acme"):
            end = time.thread_time() + 0.05
            while time.thread_time() < end:
                pass
            await asyncio.sleep(0)
        with tenant("globex"):
            time.sleep(0.05)
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()
    loops.stop()
    totals = loops.totals()

    assert totals.cpu_ns[slot("acme")] >= 49 * MS
    assert totals.cpu_ns[slot("globex")] < totals.active_ns[slot("globex")] / 2
