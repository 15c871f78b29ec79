"""The listener of `recorded_sidecar`, closed after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from recorded_sidecar import Listener


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    yield server
    server.close()
