"""Accounting by a clock that moves only when a test moves it, and loops of every kind.

uvloop's timers go by the real clock, whatever ours says; the accounting of its callbacks does go by ours. So a test for
all kinds waits with `idle`, and what needs timers to be exact asks for a `virtual_loop`, which is a stock one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from virtual_time import VirtualClock, VirtualLoop

from instrumentation.loop import Loops

NOWHERE = "unix:/nonexistent/tenantscope.sock"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    folder = tmp_path / "cells"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def loops(clock: VirtualClock, cells: Path) -> Iterator[Loops]:
    """Accounting by the virtual clock; stopped afterwards."""
    loops = Loops(cells, "service", "instance", NOWHERE, clock=clock, cpu_clock=clock.cpu)
    loops.start()
    yield loops
    loops.stop()


@pytest.fixture
def virtual_loop(clock: VirtualClock) -> Iterator[VirtualLoop]:
    loop = VirtualLoop(clock)
    yield loop
    loop.close()


@pytest.fixture(params=["stock", "debug", "uvloop"])
def loop_kind(request: pytest.FixtureRequest) -> str:
    """The kinds of loops that are accounted."""
    return str(request.param)


@pytest.fixture
def new_loop(loop_kind: str) -> Callable[[], Any]:
    """Makes loops of one kind that live by the real clock; whoever calls it closes them."""

    def make() -> Any:
        loop: Any = uvloop.Loop() if loop_kind == "uvloop" else asyncio.new_event_loop()
        loop.set_debug(loop_kind == "debug")
        return loop

    return make


@pytest.fixture
def make_loop(clock: VirtualClock, loop_kind: str) -> Iterator[Callable[[], Any]]:
    """Makes loops of one kind; closes them afterwards."""
    made: list[Any] = []

    def make() -> Any:
        made.append(uvloop.Loop() if loop_kind == "uvloop" else VirtualLoop(clock))
        made[-1].set_debug(loop_kind == "debug")
        return made[-1]

    yield make
    for loop in made:
        loop.close()


@pytest.fixture
def any_loop(make_loop: Callable[[], Any]) -> Any:
    return make_loop()


@pytest.fixture
def idle(clock: VirtualClock) -> Callable[[float], Any]:
    """`await idle(milliseconds)`: the loop has nothing to do meanwhile, whatever its kind."""

    async def wait(milliseconds: float) -> None:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, uvloop.Loop):
            await asyncio.sleep(milliseconds / 1000)
            return
        woken = loop.create_future()

        def past_the_accounting() -> None:
            clock.wait(milliseconds)
            woken.set_result(None)

        super(uvloop.Loop, loop).call_soon(past_the_accounting)
        await woken

    return wait
