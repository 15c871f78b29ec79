"""OTLP as protobuf describes it: which messages a request of each signal can hold, and their fields.

Read from the descriptors that are installed, never written down a second time: a field that a later OTLP adds
shows up here, has no decision in `table.py`, and is dropped until somebody decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidecar.conventions import Signal

ROOTS: Final[dict[Signal, Descriptor]] = {
    "traces": ExportTraceServiceRequest.DESCRIPTOR,
    "metrics": ExportMetricsServiceRequest.DESCRIPTOR,
    "logs": ExportLogsServiceRequest.DESCRIPTOR,
}


def name_of(message: Descriptor) -> str:
    """`Span`, `Span.Event`: a message's name within its package."""
    name: str = message.full_name
    return name.removeprefix(f"{message.file.package}.")


def path_of(field: FieldDescriptor) -> str:
    """`Span.name`: the key of a field in the table and in a policy."""
    return f"{name_of(field.containing_type)}.{field.name}"


def messages() -> Iterator[Descriptor]:
    """Every message that can occur in a request of any signal, each once."""
    found: set[str] = set()
    waiting = list(ROOTS.values())
    while waiting:
        message = waiting.pop()
        if message.full_name not in found:
            found.add(message.full_name)
            yield message
            waiting += [field.message_type for field in message.fields if field.message_type is not None]


def fields() -> dict[str, FieldDescriptor]:
    """Every field of every message, by path."""
    return {path_of(field): field for message in messages() for field in message.fields}
