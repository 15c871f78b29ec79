"""For the tests of applications: capture what would be exported, in memory, without a sidecar.

with instrumentation.testing.capture() as captured:
    asyncio.run(my_application())
assert {span.attributes["tenant.id"] for span in captured.spans()} == {"acme"}
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span, SpanFlags
from opentelemetry.proto.trace.v1.trace_pb2 import Status as StatusMessage
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
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from . import conventions, lifecycle
from .hooks.runtime import Resolver
from .settings import Settings

_SCOPE: Final = InstrumentationScope(conventions.SCOPE)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)  # as all are that are exported
Point = NumberDataPoint | HistogramDataPoint


class _Spans:
    def __init__(self) -> None:
        self.kept: list[ReadableSpan] = []
        self.resource = Resource({})

    def export(self, spans: list[bytes]) -> SpanExportResult:
        sent = ScopeSpans.FromString(b"".join(spans)).spans
        self.kept.extend(_readable(span, self.resource) for span in sent)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        return None


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    """A span as the SDK's own types have it, from what is sent."""
    trace_id = int.from_bytes(span.trace_id, "big")
    parent = None
    if span.parent_span_id:
        is_remote = bool(span.flags & SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
        parent = SpanContext(trace_id, int.from_bytes(span.parent_span_id, "big"), is_remote, _SAMPLED)
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int.from_bytes(span.span_id, "big"), False, _SAMPLED),
        parent=parent,
        resource=resource,
        attributes={attribute.key: _value(attribute.value) for attribute in span.attributes},
        kind=SpanKind(span.kind - 1),  # OTLP counts from `unspecified`, the API from `internal`
        status=Status(StatusCode.ERROR if span.status.code == StatusMessage.STATUS_CODE_ERROR else StatusCode.UNSET),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        instrumentation_scope=_SCOPE,
    )


def _value(value: AnyValue) -> Any:
    if value.HasField("array_value"):
        return tuple(_value(item) for item in value.array_value.values)
    return getattr(value, value.WhichOneof("value") or "string_value")


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
