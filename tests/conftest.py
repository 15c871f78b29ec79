"""What every test may rely on: nothing is being watched before or after it, no tenant has a slot yet, nothing has been
logged of late, and AutoGen's own tracing is off."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from autogen_core import SingleThreadedAgentRuntime
from hypothesis import settings
from prometheus_client import CollectorRegistry

import instrumentation
from instrumentation import diagnostics, lifecycle, tenancy
from instrumentation.testing import Captured, capture

# Behaviour is asserted, never times: an example takes as long as a busy machine lets it.
settings.register_profile("behaviour", deadline=None)
settings.load_profile("behaviour")


@pytest.fixture(autouse=True)
def unwatched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    assert lifecycle.running() is None, "an earlier test left the library running"
    monkeypatch.setattr(tenancy, "TABLE", tenancy.TenantTable())
    diagnostics._rate_limit.windows.clear()
    yield
    instrumentation.stop()
    assert "_tracer_helper" not in vars(SingleThreadedAgentRuntime), "the test left the library attached"


@pytest.fixture
def captured() -> Iterator[Captured]:
    """A watched process; everything that would be exported is kept in memory."""
    with capture() as everything:
        yield everything


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def sample(registry: CollectorRegistry) -> Callable[..., float | None]:
    """Value of a metric, None when there is no such series."""

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    return value
