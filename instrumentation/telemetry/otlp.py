"""OTLP over gRPC: OpenTelemetry's exporters, with an encoding of our own for spans (`encoding`), sent as it is.

Channel, credentials, headers, compression, retries and back-pressure are the exporters'.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

# grpc imports `_channel` with the first channel. In our threads that would be a module lock, and a child that is forked
# in that moment would wait for it for ever.
from grpc import Channel, Compression, _channel  # noqa: F401
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import DESCRIPTOR, ExportTraceServiceResponse
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from instrumentation import channels
from instrumentation.settings import Settings
from instrumentation.telemetry.encoding import key_value, request_of
from instrumentation.telemetry.export import SpanSink
from instrumentation.telemetry.spans import ActivitySpan


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


class _Stub:
    """OTLP's service for requests that are bytes already: the generated one wants a message, and writes it again."""

    def __init__(self, channel: Channel) -> None:
        method = DESCRIPTOR.services_by_name["TraceService"].methods_by_name["Export"]
        path = f"/{method.containing_service.full_name}/{method.name}"
        self.Export = channel.unary_unary(path, response_deserializer=ExportTraceServiceResponse.FromString)


class _SpanExporter(OTLPSpanExporter):
    """A `SpanSink`: the SDK's exporter, fed with ended activities."""

    def __init__(self, resource: Resource, **common: Any) -> None:
        super().__init__(**common)
        self._stub = _Stub  # for this channel and those that it makes in its place
        self._client = _Stub(self._channel)  # type: ignore[assignment]
        self._about = ResourceMessage(attributes=[key_value(*item) for item in resource.attributes.items()])

    def export(self, spans: Sequence[ActivitySpan], /) -> SpanExportResult:  # type: ignore[override]
        return super().export(spans)  # type: ignore[arg-type]  # only `_translate_data` looks at them

    def _translate_data(self, data: Sequence[ActivitySpan]) -> bytes:  # type: ignore[override]
        return request_of(data, self._about)
