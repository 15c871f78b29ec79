"""What every test may rely on: nothing is being watched before or after it, and AutoGen's own tracing is off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from autogen_core import SingleThreadedAgentRuntime

import instrumentation
from instrumentation import lifecycle
from instrumentation.testing import Captured, capture


@pytest.fixture(autouse=True)
def unwatched() -> Iterator[None]:
    assert lifecycle.running() is None, "an earlier test left the library running"
    yield
    instrumentation.stop()
    assert "_tracer_helper" not in vars(SingleThreadedAgentRuntime), "the test left the library attached"


@pytest.fixture
def captured() -> Iterator[Captured]:
    """A watched process; everything that would be exported is kept in memory."""
    with capture() as everything:
        yield everything
