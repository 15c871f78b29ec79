"""An application as the Collector sees it: all metrics of the conventions, spans, logs, by the SDK's exporters.

The numbers tell a story for the dashboard: `hog` holds the loop, `acme` waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from instrumentation import conventions as names

JOB, INSTANCE = "billing", "billing-1"
TENANTS = ("acme", "hog")
_VALUES = {
    names.LOOP_STATE: "active",
    names.MESSAGE_OUTCOME: "ok",
    names.AGENT_TYPE: "worker",
    names.OPERATION_NAME: "chat",
    names.PROVIDER_NAME: "openai",
    names.REQUEST_MODEL: "gpt-4o-mini",
    names.TOKEN_TYPE: "input",
    names.ERROR_TYPE: "ValueError",
    names.ACTIVITY: "process",
    names.RULE: "state.foreign_tenant",
    names.REASON: "export.full",
}
#: what a tick adds where the tenants differ; everywhere else it adds 1
_STORY = {
    (names.TENANT_LOOP_TIME.name, "acme"): 0.01,
    (names.TENANT_LOOP_TIME.name, "hog"): 0.5,
    (names.TENANT_LOOP_DELAY.name, "acme"): 0.4,
    (names.TENANT_LOOP_DELAY.name, "hog"): 0.0004,
    (names.TENANT_LOOP_DELAY_CAUSED.name, "acme"): 0.0001,
    (names.TENANT_LOOP_DELAY_CAUSED.name, "hog"): 0.4,
    (names.LOOP_UTILIZATION.name, ""): 0.9,
}


class Application:
    """Providers with the SDK's OTLP exporters; nothing is exported but by `tick` and the methods beside it."""

    def __init__(self, endpoint: str) -> None:
        resource = Resource({"service.name": JOB, "service.instance.id": INSTANCE})
        to: dict[str, Any] = {"endpoint": endpoint, "insecure": True}
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(**to), export_interval_millis=3_600_000)
        self._meters = MeterProvider([reader], resource)
        self._tracers = TracerProvider(resource=resource)
        self._tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(**to)))
        self._logs = LoggerProvider(resource)
        self._logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**to)))
        self._instruments = [(metric, self._instrument(metric)) for metric in names.METRICS]

    def _instrument(self, metric: names.Metric) -> Callable[[float, dict[str, str]], None]:
        meter = self._meters.get_meter(names.SCOPE)
        about = {"unit": metric.unit, "description": metric.description}
        if metric.kind == "counter":
            return meter.create_counter(metric.name, **about).add
        if metric.kind == "gauge":
            return meter.create_gauge(metric.name, **about).set
        return meter.create_histogram(
            metric.name, **about, explicit_bucket_boundaries_advisory=list(metric.buckets)
        ).record

    def tick(self) -> None:
        """Add to every metric, for every tenant, and export."""
        for metric, add in self._instruments:
            for tenant in TENANTS if names.TENANT_ID in metric.attributes else ("",):
                attributes = {name: tenant or _VALUES.get(name, "") for name in metric.attributes}
                attributes |= {name: _VALUES[name] for name in metric.attributes if name in _VALUES}
                add(_STORY.get((metric.name, tenant), 1.0), attributes)
        assert self._meters.force_flush()

    def span(self, name: str, attributes: dict[str, str]) -> None:
        """Export one span."""
        self._tracers.get_tracer(names.SCOPE).start_span(name, attributes=attributes).end()

    def log(self, body: str, attributes: dict[str, str]) -> None:
        """Export one log record."""
        self._logs.get_logger(names.SCOPE).emit(body=body, severity_text=body, attributes=attributes)

    def shutdown(self) -> None:
        """Close the exporters' channels."""
        for provider in (self._meters, self._tracers, self._logs):
            provider.shutdown()


@contextmanager
def application(endpoint: str) -> Iterator[Application]:
    """An application that exports to `endpoint`."""
    app = Application(endpoint)
    try:
        yield app
    finally:
        app.shutdown()
