"""A clock that moves only when a test, or an idle loop, moves it; and loops that live by it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instrumentation.loop import Loops

NOWHERE = "unix:/nonexistent/tenantscope.sock"


class VirtualClock:
    """Nanoseconds. Work is `advance`; waiting is what the loop's selector does with its timeout."""

    def __init__(self) -> None:
        self.now = 1_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, milliseconds: float) -> None:
        self.now += round(milliseconds * 1_000_000)


class _VirtualSelector(selectors.SelectSelector):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout:
            self._clock.advance(timeout * 1000 + 0.001)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A stock loop whose time is the virtual clock's."""

    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        super().__init__(_VirtualSelector(clock))

    def time(self) -> float:
        return self._virtual.now / 1e9


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
    loops = Loops(cells, "service", "instance", NOWHERE, clock=clock)
    loops.start()
    yield loops
    loops.stop()


@pytest.fixture
def virtual_loop(clock: VirtualClock) -> Iterator[VirtualLoop]:
    loop = VirtualLoop(clock)
    yield loop
    loop.close()


@pytest.fixture
def make_loop(clock: VirtualClock) -> Iterator[Any]:
    """Makes loops that live by the virtual clock; closes them afterwards."""
    made: list[VirtualLoop] = []

    def make() -> VirtualLoop:
        made.append(VirtualLoop(clock))
        return made[-1]

    yield make
    for loop in made:
        loop.close()
