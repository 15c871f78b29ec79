"""The three OTLP services, as both ends of the sidecar speak them: names on the wire and message classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from sidecar.conventions import Signal

MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024  # what gRPC servers take by default, so every exporter stays below it


#: OTLP/HTTP's path for each signal, and the type of what is posted to it.
HTTP_PATHS: Final[dict[Signal, str]] = {"traces": "/v1/traces", "metrics": "/v1/metrics", "logs": "/v1/logs"}
PROTOBUF: Final = "application/x-protobuf"


@dataclass(frozen=True, slots=True)
class Service:
    """One OTLP collector service: its full name, its messages, and the count of refused records in its response."""

    signal: Signal
    name: str
    request: type[
        trace_service_pb2.ExportTraceServiceRequest
        | metrics_service_pb2.ExportMetricsServiceRequest
        | logs_service_pb2.ExportLogsServiceRequest
    ]
    response: type[
        trace_service_pb2.ExportTraceServiceResponse
        | metrics_service_pb2.ExportMetricsServiceResponse
        | logs_service_pb2.ExportLogsServiceResponse
    ]
    rejected_field: str

    @property
    def method(self) -> str:
        """Path of the one method."""
        return f"/{self.name}/Export"

    def partial_success(self, rejected: int, message: str) -> bytes:
        """A response that says how many records were not taken; empty when all were."""
        if not rejected:
            return b""
        response = self.response()
        setattr(response.partial_success, self.rejected_field, rejected)
        response.partial_success.error_message = message
        return response.SerializeToString()

    def rejected(self, reply: bytes) -> int:
        """How many records the reply says were not taken.

        Raises:
            google.protobuf.message.DecodeError: the reply is not a response of this service.
        """
        if not reply:
            return 0
        response = self.response()
        response.ParseFromString(reply)
        return max(0, int(getattr(response.partial_success, self.rejected_field)))


SERVICES: Final[dict[Signal, Service]] = {
    "traces": Service(
        "traces",
        "opentelemetry.proto.collector.trace.v1.TraceService",
        trace_service_pb2.ExportTraceServiceRequest,
        trace_service_pb2.ExportTraceServiceResponse,
        "rejected_spans",
    ),
    "metrics": Service(
        "metrics",
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        metrics_service_pb2.ExportMetricsServiceRequest,
        metrics_service_pb2.ExportMetricsServiceResponse,
        "rejected_data_points",
    ),
    "logs": Service(
        "logs",
        "opentelemetry.proto.collector.logs.v1.LogsService",
        logs_service_pb2.ExportLogsServiceRequest,
        logs_service_pb2.ExportLogsServiceResponse,
        "rejected_log_records",
    ),
}
