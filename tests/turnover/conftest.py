"""A house of few slots for each test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "event_loop"))

from few_slots import IDLE_NS, MakeHouse, a_house


@pytest.fixture
def make_house() -> Iterator[MakeHouse]:
    with ExitStack() as stack:
        yield lambda bound, idle_ns=IDLE_NS: stack.enter_context(a_house(bound, idle_ns))
