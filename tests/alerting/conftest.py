"""A recording receiver for each test, and couriers that are driven step by step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alert_receiver import Receiver, running_receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running
