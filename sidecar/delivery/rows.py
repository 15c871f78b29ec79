"""OTLP messages as rows of the embedded store: what a person asks for later, nothing else.

Times are nanoseconds since 1970, ids lower-case hex, attributes JSON objects with sorted keys. SQLite's
integers are signed 64-bit, OTLP's times and counts are not: larger ones are cut to the largest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Status

TENANT: Final = "tenant.id"
SERVICE: Final = "service.name"
INSTANCE: Final = "service.instance.id"
UNKNOWN: Final = "unknown"

_LARGEST: Final = 2**63 - 1
_STATUS: Final = {
    Status.STATUS_CODE_UNSET: "unset",
    Status.STATUS_CODE_OK: "ok",
    Status.STATUS_CODE_ERROR: "error",
}
_NOT_CUMULATIVE: Final = frozenset({"gauge", "summary"})


class SpanRow(NamedTuple):
    """A span."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    tenant: str
    service: str
    instance: str
    start_ns: int
    end_ns: int
    status: str
    attributes: str


class LogRow(NamedTuple):
    """A log record; its body went the way of all content."""

    time_ns: int
    tenant: str
    service: str
    instance: str
    severity: int
    event: str
    trace_id: str
    span_id: str
    attributes: str


class PointRow(NamedTuple):
    """The latest point of one series.

    `start_ns` is part of the series' identity: a process that starts over under the same instance id begins a
    new sum. `value` is a number's value or a histogram's sum; `cumulative` says that sums may be added up
    over series.
    """

    name: str
    service: str
    instance: str
    attributes: str
    start_ns: int
    tenant: str
    unit: str
    time_ns: int
    value: float
    observations: int
    buckets: str
    bounds: str
    cumulative: int


def spans(payload: bytes) -> Iterator[SpanRow]:
    """Rows of an ExportTraceServiceRequest. Raises DecodeError."""
    request = ExportTraceServiceRequest.FromString(payload)
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                attributes = _attributes(span.attributes)
                yield SpanRow(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_span_id=span.parent_span_id.hex(),
                    name=span.name,
                    tenant=_tenant(attributes, resource),
                    service=str(resource.get(SERVICE, "")),
                    instance=str(resource.get(INSTANCE, "")),
                    start_ns=_integer(span.start_time_unix_nano),
                    end_ns=_integer(span.end_time_unix_nano),
                    status=_STATUS.get(span.status.code, "unset"),
                    attributes=_json(attributes),
                )


def logs(payload: bytes) -> Iterator[LogRow]:
    """Rows of an ExportLogsServiceRequest. Raises DecodeError."""
    request = ExportLogsServiceRequest.FromString(payload)
    for group in request.resource_logs:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_logs:
            for record in scope.log_records:
                attributes = _attributes(record.attributes)
                yield LogRow(
                    time_ns=_integer(record.time_unix_nano or record.observed_time_unix_nano),
                    tenant=_tenant(attributes, resource),
                    service=str(resource.get(SERVICE, "")),
                    instance=str(resource.get(INSTANCE, "")),
                    severity=int(record.severity_number),
                    event=record.event_name,
                    trace_id=record.trace_id.hex(),
                    span_id=record.span_id.hex(),
                    attributes=_json(attributes),
                )


def points(payload: bytes) -> Iterator[PointRow]:
    """Rows of an ExportMetricsServiceRequest. Raises DecodeError."""
    request = ExportMetricsServiceRequest.FromString(payload)
    for group in request.resource_metrics:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                yield from _points_of(metric, resource)


def _points_of(metric: metrics_pb2.Metric, resource: Mapping[str, Any]) -> Iterator[PointRow]:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data = getattr(metric, kind)
    cumulative = kind not in _NOT_CUMULATIVE and (
        data.aggregation_temporality == metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
    )
    for point in data.data_points:
        attributes = _attributes(point.attributes)
        is_number = kind in ("gauge", "sum")
        yield PointRow(
            name=metric.name,
            service=str(resource.get(SERVICE, "")),
            instance=str(resource.get(INSTANCE, "")),
            attributes=_json(attributes),
            start_ns=_integer(point.start_time_unix_nano),
            tenant=_tenant(attributes, resource),
            unit=metric.unit,
            time_ns=_integer(point.time_unix_nano),
            value=_finite(_number(point) if is_number else point.sum),
            observations=0 if is_number else _integer(point.count),
            buckets=json.dumps(list(point.bucket_counts)) if kind == "histogram" else "[]",
            bounds=json.dumps([_finite(b) for b in point.explicit_bounds]) if kind == "histogram" else "[]",
            cumulative=int(cumulative),
        )


def _number(point: metrics_pb2.NumberDataPoint) -> float:
    return float(point.as_int) if point.WhichOneof("value") == "as_int" else point.as_double


def _tenant(attributes: Mapping[str, Any], resource: Mapping[str, Any]) -> str:
    return str(attributes.get(TENANT) or resource.get(TENANT) or UNKNOWN)


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: AnyValue) -> Any:
    """The value as JSON knows it; bytes become hex, numbers that JSON lacks become their names."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    if kind == "double_value" and not math.isfinite(value.double_value):
        return str(value.double_value)
    return getattr(value, kind)


def _json(attributes: Mapping[str, Any]) -> str:
    return json.dumps(attributes, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _integer(number: int) -> int:
    return min(number, _LARGEST)


def _finite(number: float) -> float:
    return number if math.isfinite(number) else 0.0
