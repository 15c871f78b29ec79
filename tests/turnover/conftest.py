"""A house of few slots for each test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "event_loop"))

from house import IDLE_NS, House
from virtual_time import VirtualClock, VirtualLoop

from instrumentation import tenancy
from instrumentation.slots import TenantTable

MakeHouse = Callable[..., House]


@contextmanager
def a_house(bound: int, idle_ns: int = IDLE_NS) -> Iterator[House]:
    """A house with so many slots."""
    clock, table = VirtualClock(), TenantTable(bound)
    with TemporaryDirectory() as cells, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tenancy, "TABLE", table)
        loop = VirtualLoop(clock)
        house = House(table, clock, loop, Path(cells), idle_ns)
        try:
            yield house
        finally:
            house.loops.stop()
            loop.close()


@pytest.fixture
def make_house() -> Iterator[MakeHouse]:
    with ExitStack() as stack:
        yield lambda bound, idle_ns=IDLE_NS: stack.enter_context(a_house(bound, idle_ns))
