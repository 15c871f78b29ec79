"""The sidecar's two peers, for tests: requests as an application sends them, a real upstream over gRPC.

The upstream records everything it is sent, and answers what it is told to.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from sidecar.delivery import BatchQueue
from sidecar.delivery.outlet import Outlet
from sidecar.network.otlp import SERVICES

PATIENCE = 10.0  # seconds after which a test gives a wait up; no test measures time


def attributes(values: Mapping[str, Any]) -> list[KeyValue]:
    """Strings, ints and floats as OTLP attributes."""
    kinds = {str: "string_value", int: "int_value", float: "double_value"}
    return [KeyValue(key=key, value=AnyValue(**{kinds[type(value)]: value})) for key, value in values.items()]


def trace_request(spans: int = 1, tenant: str = "acme", instance: str = "i-1", **extra: Any) -> bytes:
    """Spans as the library makes them."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.extend(attributes({"service.name": "billing", "service.instance.id": instance}))
    scope = group.scope_spans.add()
    for number in range(1, spans + 1):
        scope.spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name="process writer",
            start_time_unix_nano=1_000,
            end_time_unix_nano=2_000,
            attributes=attributes({"tenant.id": tenant, "autogen.message.outcome": "ok", **extra}),
        )
    return request.SerializeToString()


def sum_request(
    name: str,
    value: int,
    tenant: str = "acme",
    instance: str = "i-1",
    time: int = 10,
    start: int = 1,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """One point of a cumulative counter."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(attributes({"service.name": "billing", "service.instance.id": instance}))
    metric = group.scope_metrics.add().metrics.add(name=name, unit="{message}")
    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    metric.sum.is_monotonic = True
    metric.sum.data_points.add(
        attributes=attributes({"tenant.id": tenant, **(extra or {})}),
        start_time_unix_nano=start,
        time_unix_nano=time,
        as_int=value,
    )
    return request.SerializeToString()


def histogram_request(name: str, total: float, tenant: str = "acme", instance: str = "i-1") -> bytes:
    """One point of a cumulative histogram."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(attributes({"service.name": "billing", "service.instance.id": instance}))
    metric = group.scope_metrics.add().metrics.add(name=name, unit="{token}")
    metric.histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    metric.histogram.data_points.add(
        attributes=attributes({"tenant.id": tenant}),
        start_time_unix_nano=1,
        time_unix_nano=10,
        count=2,
        sum=total,
        bucket_counts=[1, 1],
        explicit_bounds=[64.0],
    )
    return request.SerializeToString()


def log_request(records: int = 1, tenant: str = "acme") -> bytes:
    """Log records without a body."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    scope = group.scope_logs.add()
    for number in range(1, records + 1):
        scope.log_records.add(time_unix_nano=number, severity_number=9, attributes=attributes({"tenant.id": tenant}))
    return request.SerializeToString()


def export(
    target: str,
    payload: bytes,
    signal: str = "traces",
    *,
    metadata: Sequence[tuple[str, str]] = (),
    compression: grpc.Compression = grpc.Compression.NoCompression,
) -> bytes:
    """One Export call on raw bytes; the raw answer. Raises grpc.RpcError."""
    with grpc.insecure_channel(target, compression=compression) as channel:
        call = channel.unary_unary(SERVICES[signal].method, None, None)
        return bytes(call(payload, timeout=PATIENCE, metadata=metadata, wait_for_ready=True))


def outlet(queue: BatchQueue) -> Outlet:
    """The outlet of a queue that has one."""
    (only,) = queue.outlets.values()
    return only


Answer = Callable[[grpc.ServicerContext], bytes]


def refuse(code: grpc.StatusCode, retry_after: float | None = None, details: str = "") -> Answer:
    """An answer with this status, and RetryInfo where OTLP puts it."""

    def answer(context: grpc.ServicerContext) -> bytes:
        if retry_after is not None:
            status = status_pb2.Status(code=code.value[0])
            delay = Duration()
            delay.FromMilliseconds(int(retry_after * 1000))
            status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, details)
        raise AssertionError

    return answer


def take_in_part(rejected: int, signal: str = "traces") -> Answer:
    """An answer that takes all but so many records."""
    return lambda context: SERVICES[signal].partial_success(rejected, "no room")


class Upstream:
    """An OTLP receiver. `answers` are given in turn; when there are none, everything is taken."""

    def __init__(self, target: str, credentials: grpc.ServerCredentials | None = None) -> None:
        self._changed = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
        self.requests: list[tuple[str, bytes]] = []
        self.taken: list[tuple[str, bytes]] = []
        self.metadata: list[dict[str, Any]] = []
        self.answers: deque[Answer] = deque()
        self.always: Answer = lambda context: b""
        for signal, service in SERVICES.items():
            handler = grpc.unary_unary_rpc_method_handler(self._handler(signal))
            self._server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(service.name, {"Export": handler})]
            )
        if credentials is None:
            self.port = self._server.add_insecure_port(target)
            self.url = target if target.startswith("unix:") else f"http://127.0.0.1:{self.port}"
        else:
            self.port = self._server.add_secure_port(target, credentials)
            self.url = f"https://localhost:{self.port}"
        self._server.start()

    def _handler(self, signal: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            with self._changed:
                self.requests.append((signal, request))
                self.metadata.append(dict(context.invocation_metadata()))
                answer = self.answers.popleft() if self.answers else self.always
                self._changed.notify_all()
            reply = answer(context)
            with self._changed:
                self.taken.append((signal, request))  # no refusal was raised
            return reply

        return handle

    def wait_for(self, requests: int) -> None:
        """Wait until so many requests have come in."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= requests, PATIENCE), "nothing came"

    def stop(self) -> None:
        """Cut every connection."""
        self._server.stop(None).wait(PATIENCE)


@contextmanager
def running_upstream(
    target: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
) -> Iterator[Upstream]:
    """An upstream, for a while; with credentials, over TLS."""
    upstream = Upstream(target, credentials)
    try:
        yield upstream
    finally:
        upstream.stop()
