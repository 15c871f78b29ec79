"""Ended spans as OTLP: the bytes of `opentelemetry/proto/trace/v1/trace.proto`, written directly.

OpenTelemetry's encoder walks every attribute of every span as if it had never seen it and makes a message object of
each. Here what spans share (`attributes`: their labels) is encoded once; the rest of a span is ids, times and a few
figures. What a span costs outside the event loop is mostly this. Tests hold the two encoders to the same message.

Whatever OTLP cannot hold is an error here, in the export thread, and drops one span.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, SpanFlags, Status
from opentelemetry.util.types import AttributeValue

from instrumentation import conventions
from instrumentation.activity import Outcome
from instrumentation.telemetry.attributes import Labels, attributes_of_labels, figures_of, labels_of
from instrumentation.telemetry.spans import KINDS, ActivitySpan

# A field's first byte holds its number and how its value is written (protobuf's wire types).
_DELIMITED: Final = 2
_TRACE_ID: Final = bytes((Span.TRACE_ID_FIELD_NUMBER << 3 | _DELIMITED, 16))
_SPAN_ID: Final = bytes((Span.SPAN_ID_FIELD_NUMBER << 3 | _DELIMITED, 8))
_PARENT_SPAN_ID: Final = bytes((Span.PARENT_SPAN_ID_FIELD_NUMBER << 3 | _DELIMITED, 8))
_TIMES: Final = struct.Struct("<BQBQ")
_START: Final = Span.START_TIME_UNIX_NANO_FIELD_NUMBER << 3 | 1  # eight bytes, as they are
_END: Final = Span.END_TIME_UNIX_NANO_FIELD_NUMBER << 3 | 1

_DOUBLE: Final = struct.Struct("<d")

_ERROR: Final = Status(code=Status.STATUS_CODE_ERROR)
_UNSET: Final = Status()
# What every span ends with: constant, so protobuf itself has written it.
_LOCAL: Final = Span(flags=SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK).SerializeToString()
_REMOTE: Final = Span(
    flags=SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
).SerializeToString()


def request_of(spans: Sequence[ActivitySpan], about: Resource) -> bytes:
    """The OTLP message (`ExportTraceServiceRequest`) for some spans of the resource `about`.

    Raises:
        UnicodeEncodeError, ValueError: a span holds what OTLP cannot.
    """
    parts = [ScopeSpans(scope=InstrumentationScope(name=conventions.SCOPE)).SerializeToString()]
    for span in spans:
        encoded = _span(span)
        parts += (_head_of_span(len(encoded)), encoded)
    size = sum(map(len, parts))
    before = ResourceSpans(resource=about).SerializeToString() + _head(ResourceSpans.SCOPE_SPANS_FIELD_NUMBER, size)
    whole = _head(ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER, len(before) + size)
    return b"".join((whole, before, *parts))  # put together once: it is large, and each copy fetches new pages


def _span(ended: ActivitySpan) -> bytes:
    """A `Span` without the field that holds it."""
    activity, parent_id, started = ended.activity, ended.parent_id, ended.started_ns
    try:
        times = _TIMES.pack(_START, started, _END, started + ended.duration_ns)
    except struct.error as error:
        raise ValueError("OTLP holds no such time") from error
    # No trace state: it is the application's, or its caller's, and may hold anything. It travels on, but not to us.
    return b"".join(
        (
            _TRACE_ID,
            ended.trace_id.to_bytes(16, "big"),
            _SPAN_ID,
            ended.span_id.to_bytes(8, "big"),
            b"" if parent_id is None else _PARENT_SPAN_ID + parent_id.to_bytes(8, "big"),
            times,
            _labels(labels_of(activity)),
            *[
                _decimal(name) + _DOUBLE.pack(value) if type(value) is float else _figure(name, value)
                for name, value in figures_of(activity)
            ],
            _REMOTE if ended.parent_is_remote else _LOCAL,
        )
    )


@lru_cache(maxsize=4096)
def _labels(labels: Labels) -> bytes:
    """All fields of a `Span` that follow from its labels."""
    kind, _, name, outcome, *_ = labels
    return Span(
        name=f"{kind.value} {name}",
        kind=KINDS[kind].value + 1,  # type: ignore[arg-type]  # OTLP counts from `unspecified`, the API from `internal`
        attributes=[key_value(*item) for item in attributes_of_labels(labels).items()],
        status=_ERROR if outcome is Outcome.ERROR else _UNSET,
    ).SerializeToString()


@lru_cache(maxsize=4096, typed=True)  # True is 1 otherwise, as far as a dictionary is concerned
def _figure(name: str, value: str | int) -> bytes:
    return Span(attributes=[key_value(name, value)]).SerializeToString()


@lru_cache(maxsize=256)
def _decimal(name: str) -> bytes:
    """An attribute that is a float, without the eight bytes of the float: they come last."""
    return Span(attributes=[key_value(name, 0.0)]).SerializeToString()[: -_DOUBLE.size]


def key_value(name: str, value: AttributeValue) -> KeyValue:
    """An attribute as OTLP has it.

    Raises:
        UnicodeEncodeError, ValueError: OTLP cannot hold `value`.
    """
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


def _head(number: int, size: int) -> bytes:
    """What goes before a field of so many bytes: its number, and the size (base 128, lowest first)."""
    head = bytearray((number << 3 | _DELIMITED,))
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head)


@lru_cache(maxsize=4096)
def _head_of_span(size: int) -> bytes:
    return _head(ScopeSpans.SPANS_FIELD_NUMBER, size)
