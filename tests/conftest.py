"""What every test may rely on: nothing is being watched before or after it, and AutoGen's own tracing is off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import instrumentation
from instrumentation import lifecycle
from instrumentation.testing import Captured, capture


@pytest.fixture(autouse=True)
def unwatched() -> Iterator[None]:
    assert lifecycle.running() is None, "an earlier test left the library running"
    yield
    instrumentation.stop()


@pytest.fixture
def captured() -> Iterator[Captured]:
    """A watched process; everything that would be exported is kept in memory."""
    with capture() as everything:
        yield everything
