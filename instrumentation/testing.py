"""For the tests of applications: capture what would be exported, in memory, without a sidecar.

with instrumentation.testing.capture() as captured:
    asyncio.run(my_application())
assert {span.attributes["tenant.id"] for span in captured.spans()} == {"acme"}
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from . import lifecycle
from .hooks.runtime import Resolver
from .settings import Settings
from .telemetry.spans import ActivitySpan

Point = NumberDataPoint | HistogramDataPoint


class _Spans:
    def __init__(self) -> None:
        self.kept: list[ReadableSpan] = []
        self.resource = Resource({})

    def export(self, spans: list[ActivitySpan]) -> SpanExportResult:
        self.kept.extend(span.readable(self.resource) for span in spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        return None


class _Metrics(MetricExporter):
    def __init__(self) -> None:
        super().__init__()
        self.last: MetricsData | None = None

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: object) -> MetricExportResult:
        self.last = metrics_data
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: object) -> None:
        return None


class Captured:
    """What was exported so far. Every read flushes first, so that nothing is still on its way."""

    def __init__(self) -> None:
        self._spans = _Spans()
        self._metrics = _Metrics()

    def sinks(self, _: Settings, resource: Resource) -> tuple[_Spans, _Metrics]:
        """Where the export thread delivers to."""
        self._spans.resource = resource
        return self._spans, self._metrics

    def spans(self) -> list[ReadableSpan]:
        """All ended spans, in the order in which they ended."""
        lifecycle.flush(10)
        return list(self._spans.kept)

    def points(self, metric: str) -> list[Point]:
        """The newest data points of one metric; empty when it has none."""
        lifecycle.flush(10)
        data = self._metrics.last
        return [
            point
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
            if isinstance(point, NumberDataPoint | HistogramDataPoint)
        ]


@contextmanager
def capture(resolver: Resolver | None = None, **settings: object) -> Iterator[Captured]:
    """Watch this process while the block runs and keep in memory what would have been exported.

    Args:
        resolver: as in `start`.
        settings: fields of `Settings` that differ from the defaults, such as `max_tenants`.

    Raises:
        RuntimeError: the process is being watched already.
    """
    if lifecycle.running() is not None:
        raise RuntimeError("capture() needs a process that is not being watched; call stop() first")
    captured = Captured()
    chosen = Settings(**{"span_queue": 1_000_000, **settings})  # type: ignore[arg-type]  # names are the caller's
    lifecycle.start_with(chosen, resolver, captured.sinks)
    try:
        yield captured
    finally:
        lifecycle.stop()
