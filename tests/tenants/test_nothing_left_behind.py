"""What is over is gone at once, also in an application that has switched the garbage collector off (`gc.disable`, as
some do for the sake of latency): whatever waited for it would grow without bound."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from autogen_apps import Ask, Asked, ask_runtime
from autogen_core import AgentId

import instrumentation
from instrumentation import lifecycle
from instrumentation.testing import capture


@pytest.fixture(autouse=True)
def collector_off() -> Iterator[None]:
    """Watched, with slots for ten tenants; and nobody who clears up."""
    with capture(max_tenants=10):
        gc.collect()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()


def alive() -> Counter[str]:
    """Objects of ours, by class. A flush before, for a queue holds spans, and a reading lets go of loops that ended."""
    lifecycle.flush(10)
    return Counter(
        str(type(found)) for found in gc.get_objects() if str(type(found).__module__).startswith("instrumentation.")
    )


def grown(work: Callable[[], object]) -> int:
    """How many more objects of ours there are when the same is done for the second time: the first fills tables."""
    work()
    before = alive()
    work()
    return max((alive() - before).values(), default=0)


async def fifty_tenants_ask(turn: float | None = None) -> None:
    runtime = await ask_runtime(asked=Asked)
    runtime.start()
    for n in range(50):
        with instrumentation.tenant(f"tenant-{n}"), instrumentation.budget(turn=turn):
            await runtime.send_message(Ask("x"), AgentId("asked", "default"))
    await runtime.stop_when_idle()


def test_tenants_without_a_slot() -> None:
    """Of any number of them only those are kept that are bound somewhere."""
    assert grown(lambda: asyncio.run(fifty_tenants_ask())) < 10


def test_turns_with_a_budget() -> None:
    """A turn that is over is gone, with all that it knew of its handler."""
    assert grown(lambda: asyncio.run(fifty_tenants_ask(turn=60.0))) < 10


def test_event_loops() -> None:
    """An application that makes a loop for each request leaves nothing of ours behind for any of them."""

    def requests() -> None:
        for _ in range(50):
            asyncio.run(asyncio.sleep(0))

    assert grown(requests) < 10
