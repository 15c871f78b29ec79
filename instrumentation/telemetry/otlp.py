"""OTLP over gRPC: OpenTelemetry's exporters, with a translation of our own for spans.

Channel, credentials, headers, compression, retries and back-pressure are the exporters'. Their translation walks every
attribute of every span as if it had never seen it, 30 us a span; ours knows what an activity can hold and keeps the
attributes that repeat, which is nearly all of them, 11 us a span. A test holds the two to the same message.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

# grpc imports `_channel` with the first channel. In our threads that would be a module lock, and a child that is forked
# in that moment would wait for it for ever.
from grpc import Compression, _channel  # noqa: F401
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, SpanFlags, Status
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.util.types import AttributeValue

from instrumentation import channels, conventions
from instrumentation.activity import Outcome
from instrumentation.settings import Settings
from instrumentation.telemetry.export import SpanSink
from instrumentation.telemetry.spans import KINDS, EndedSpan, attributes_of

_UNSET: Final = Status()
_ERROR: Final = Status(code=Status.STATUS_CODE_ERROR)
_LOCAL: Final = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE: Final = _LOCAL | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


def otlp_exporters(settings: Settings, resource: Resource) -> tuple[SpanSink, MetricExporter]:
    """The real exporters; headers, certificates and compression follow the standard `OTEL_EXPORTER_OTLP_*`."""
    channels.opening()
    common: dict[str, Any] = {
        "endpoint": settings.endpoint,
        "insecure": not settings.endpoint.startswith("https:"),
        "timeout": settings.export_timeout,
        # Without a meter provider of their own they would write into the application's.
        "meter_provider": NoOpMeterProvider(),
    }
    if os.environ.get("OTEL_EXPORTER_OTLP_COMPRESSION", "").strip().lower() == "none":
        common["compression"] = Compression.NoCompression  # a legal value that the exporter does not know
    return _SpanExporter(resource, **common), OTLPMetricExporter(**common)


class _SpanExporter(OTLPSpanExporter):
    """A `SpanSink`: the SDK's exporter, fed with ended activities."""

    def __init__(self, resource: Resource, **common: Any) -> None:
        super().__init__(**common)
        self._about = ResourceMessage(attributes=[_attribute(*item) for item in resource.attributes.items()])

    def export(self, spans: Sequence[EndedSpan], /) -> SpanExportResult:  # type: ignore[override]
        return super().export(spans)  # type: ignore[arg-type]  # only `_translate_data` looks at them

    def _translate_data(self, data: Sequence[EndedSpan]) -> ExportTraceServiceRequest:  # type: ignore[override]
        return request_of(data, self._about)


def request_of(spans: Sequence[EndedSpan], about: ResourceMessage) -> ExportTraceServiceRequest:
    """The OTLP message for some spans of one resource.

    Raises:
        UnicodeEncodeError, ValueError: a span holds what OTLP cannot.
    """
    scope = ScopeSpans(scope=InstrumentationScope(name=conventions.SCOPE), spans=[_span(span) for span in spans])
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=about, scope_spans=[scope])])


def _span(ended: EndedSpan) -> Span:
    activity, context, parent = ended.activity, ended.span.context, ended.span.parent
    # No trace state: it is the application's, or its caller's, and may hold anything. It travels on, but not to us.
    return Span(
        trace_id=context.trace_id.to_bytes(16, "big"),
        span_id=context.span_id.to_bytes(8, "big"),
        parent_span_id=b"" if parent is None else parent.span_id.to_bytes(8, "big"),
        flags=_REMOTE if parent is not None and parent.is_remote else _LOCAL,
        name=f"{activity.kind.value} {activity.name}",
        # OTLP counts from `unspecified`, the API from `internal`.
        kind=KINDS[activity.kind].value + 1,  # type: ignore[arg-type]
        start_time_unix_nano=ended.span.started_ns,
        end_time_unix_nano=ended.span.started_ns + ended.duration_ns,
        attributes=[
            _string(name, value) if type(value) is str else _attribute(name, value)
            for name, value in attributes_of(activity).items()
        ],
        status=_ERROR if activity.outcome is Outcome.ERROR else _UNSET,
    )


@lru_cache(maxsize=8192)
def _string(name: str, value: str) -> KeyValue:
    return KeyValue(key=name, value=AnyValue(string_value=value))


def _attribute(name: str, value: AttributeValue) -> KeyValue:
    return KeyValue(key=name, value=_value(value))


def _value(value: Any) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))
