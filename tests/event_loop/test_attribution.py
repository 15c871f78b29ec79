"""Who is charged for the loop's time: exact, by a virtual clock."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import Any

import pytest

from instrumentation import tenancy
from instrumentation.loop import Loops
from instrumentation.tenancy import tenant

MS = 1_000_000


def slot(name: str) -> int:
    return tenancy.TABLE.intern(name).slot


def active(loops: Loops, name: str) -> float:
    """Milliseconds of loop time that a tenant had."""
    return loops.totals().active_ns[slot(name)] / MS


def test_a_coroutine_is_charged_to_the_tenant_that_it_bound(loops: Loops, any_loop: Any, clock: Any) -> None:
    """Each piece between two awaits counts for the tenant that is bound then; unbound work counts for `unknown`."""

    async def main() -> None:
        await asyncio.sleep(0)
        clock.advance(1)
        with tenant("acme"):
            clock.advance(10)
            await asyncio.sleep(0)
            clock.advance(20)
            with tenant("globex"):
                clock.advance(100)
                await asyncio.sleep(0)
                clock.advance(200)
            clock.advance(40)
        clock.advance(2)

    any_loop.run_until_complete(main())

    assert active(loops, "acme") == 70
    assert active(loops, "globex") == 300
    assert active(loops, "unknown") == 3


def test_child_tasks_gather_and_timers_inherit_their_tenant(loops: Loops, any_loop: Any, clock: Any) -> None:
    """Whatever a tenant's code spawns is charged to that tenant, wherever it runs later."""

    async def work(milliseconds: float) -> None:
        await asyncio.sleep(0)
        clock.advance(milliseconds)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        fired = asyncio.Event()

        def timer() -> None:
            clock.advance(1000)
            fired.set()

        with tenant("acme"):
            task = asyncio.create_task(work(1))
            both = asyncio.gather(work(10), work(10))
            loop.call_later(0.02, timer)
            loop.call_soon(clock.advance, 100)
        with tenant("globex"):
            other = asyncio.create_task(work(5))
        await asyncio.gather(task, both, other, fired.wait())

    any_loop.run_until_complete(main())

    assert active(loops, "acme") == 1121
    assert active(loops, "globex") == 5
    assert active(loops, "unknown") == 0


def test_work_in_a_thread_is_not_loop_time(loops: Loops, any_loop: Any, clock: Any) -> None:
    """`to_thread` work that changes its tenant too takes nothing from the loop, and touches no running slice."""

    def blocking() -> str | None:
        with tenant("globex"):
            return tenancy.current_tenant()

    async def main() -> str | None:
        with tenant("acme"):
            return await asyncio.to_thread(blocking)

    assert any_loop.run_until_complete(main()) == "globex"
    assert active(loops, "globex") == 0


def test_a_context_of_its_own_decides(loops: Loops, any_loop: Any, clock: Any) -> None:
    """A callback that is given a context is charged to that context's tenant, not to the scheduler's."""
    context = contextvars.Context()
    context.run(tenant("acme").__enter__)

    async def main() -> None:
        with tenant("globex"):
            asyncio.get_running_loop().call_soon(clock.advance, 7, context=context)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    any_loop.run_until_complete(main())

    assert active(loops, "acme") == 7
    assert active(loops, "globex") == 0


def test_active_and_idle_time_add_up_to_wall_time(loops: Loops, any_loop: Any, clock: Any, idle: Any) -> None:
    """Nothing is lost or counted twice between tenants and idleness, and utilization is the active share."""

    async def main() -> None:
        with tenant("acme"):
            clock.advance(250)
            await idle(750)

    began = clock.now
    any_loop.run_until_complete(main())
    totals = loops.totals()

    assert sum(totals.active_ns) + totals.idle_ns == clock.now - began
    assert sum(totals.active_ns) == 250 * MS
    assert totals.utilization == pytest.approx(0.25, abs=0.02)
    assert totals.loops == 1


def test_a_reading_in_the_middle_of_a_slice_counts_the_part_that_passed(
    loops: Loops, any_loop: Any, clock: Any
) -> None:
    """A loop that hangs is busy, not idle, for whoever reads the totals meanwhile; and no total goes down after."""
    readings = []

    async def main() -> None:
        with tenant("acme"):
            clock.advance(400)
            readings.append(loops.totals())
            clock.advance(100)
        readings.append(loops.totals())

    any_loop.run_until_complete(main())
    readings.append(loops.totals())

    assert [reading.active_ns[slot("acme")] / MS for reading in readings] == [400, 500, 500]
    assert readings[0].utilization == 1.0


def test_totals_outlive_their_loop(loops: Loops, clock: Any, make_loop: Callable[[], Any]) -> None:
    """Counters are monotonic over the ends of loops, and a closed loop's clock stands still."""

    async def work() -> None:
        with tenant("acme"):
            clock.advance(30)

    for _ in range(3):
        loop = make_loop()
        loop.run_until_complete(work())
        loop.close()
    clock.advance(1000)
    totals = loops.totals()

    assert totals.active_ns[slot("acme")] == 90 * MS
    assert totals.idle_ns == 0
    assert totals.loops == 0


def test_a_nested_loop_corrupts_nothing(loops: Loops, virtual_loop: Any, clock: Any) -> None:
    """A callback that runs the loop from inside is charged up to the first inner callback; inner ones in full."""
    ran = []

    def inner() -> None:
        clock.advance(20)
        ran.append("inner")

    def outer() -> None:
        clock.advance(3)
        with tenant("globex"):
            virtual_loop.call_soon(inner)
        virtual_loop._run_once()
        ran.append("outer")

    async def main() -> None:
        with tenant("acme"):
            virtual_loop.call_soon(outer)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with tenant("acme"):
            clock.advance(1)

    virtual_loop.run_until_complete(main())

    assert ran == ["inner", "outer"]
    assert active(loops, "globex") == 20
    assert active(loops, "acme") == 4


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no task is eager before Python 3.12")
def test_the_creator_of_an_eager_task_is_charged_for_its_own_time(loops: Loops, any_loop: Any, clock: Any) -> None:
    """A task that begins at once and waits in the middle of its tenant's block gives the loop back to its creator."""

    async def work() -> None:
        clock.advance(1)
        with tenant("globex"):
            clock.advance(10)
            await asyncio.sleep(0)
            clock.advance(100)

    def eagerly(loop: Any, coro: Any, **options: Any) -> Any:  # as asyncio.eager_task_factory, but for any options
        return asyncio.Task(coro, loop=loop, **{**options, "eager_start": True})

    async def main() -> None:
        any_loop.set_task_factory(eagerly)
        with tenant("acme"):
            task = any_loop.create_task(work())
            clock.advance(1000)
            async with asyncio.TaskGroup() as group:
                group.create_task(work())
                clock.advance(2000)
            await task
            clock.advance(4000)

    any_loop.run_until_complete(main())

    assert active(loops, "globex") == 220
    assert active(loops, "acme") == 7002
    assert active(loops, "unknown") == 0
