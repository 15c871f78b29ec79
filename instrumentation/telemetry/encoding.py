"""Ended spans as OTLP: the bytes of `opentelemetry/proto/trace/v1/trace.proto`, written directly.

OpenTelemetry's encoder walks every attribute of every span as if it had never seen it and makes a message object of
each. Here what spans share (`attributes`: their labels) is encoded once; the rest of a span is ids, times and a few
figures. Tests hold the two encoders to the same message.

A span is encoded when it ends, where it ended: that takes under two microseconds, while all that it is made of is at
hand. Kept as objects until they are sent, spans cost the application more than that: the garbage collector counts them
and looks at each, again and again, and by then the processor has to fetch them from afar.

Whatever OTLP cannot hold is an error here, and drops one span.
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
_EIGHT_BYTES: Final = 1
_DELIMITED: Final = 2
_TRACE_ID: Final = Span.TRACE_ID_FIELD_NUMBER << 3 | _DELIMITED
_SPAN_ID: Final = Span.SPAN_ID_FIELD_NUMBER << 3 | _DELIMITED
_PARENT_SPAN_ID: Final = Span.PARENT_SPAN_ID_FIELD_NUMBER << 3 | _DELIMITED
_START: Final = Span.START_TIME_UNIX_NANO_FIELD_NUMBER << 3 | _EIGHT_BYTES
_END: Final = Span.END_TIME_UNIX_NANO_FIELD_NUMBER << 3 | _EIGHT_BYTES
_IDS: Final = struct.Struct(">BBQQBBQ")  # of the trace, which has 16 bytes, and of the span, which has 8
_PARENT: Final = struct.Struct(">BBQ")
_TIMES: Final = struct.Struct("<BQBQ")
_DOUBLE: Final = struct.Struct("<d")
_LOW: Final = 2**64 - 1

_ERROR: Final = Status(code=Status.STATUS_CODE_ERROR)
_UNSET: Final = Status()
# What every span ends with: constant, so protobuf itself has written it.
_LOCAL: Final = Span(flags=SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK).SerializeToString()
_REMOTE: Final = Span(
    flags=SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
).SerializeToString()
#: What the spans' fields follow in a `ScopeSpans`.
_SCOPE: Final = ScopeSpans(scope=InstrumentationScope(name=conventions.SCOPE)).SerializeToString()


def request_of(spans: Sequence[bytes], about: Resource) -> bytes:
    """The OTLP message (`ExportTraceServiceRequest`) for some `encoded` spans of the resource `about`."""
    size = len(_SCOPE) + sum(map(len, spans))
    before = ResourceSpans(resource=about).SerializeToString() + _head(ResourceSpans.SCOPE_SPANS_FIELD_NUMBER, size)
    whole = _head(ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER, len(before) + size)
    return b"".join((whole, before, _SCOPE, *spans))  # put together once: it is large, and each copy fetches new pages


def encoded(ended: ActivitySpan) -> bytes:
    """A span as a field of a `ScopeSpans`: the fields of several, one after the other, are the spans of one scope.

    Raises:
        UnicodeEncodeError, ValueError: the span holds what OTLP cannot.
    """
    activity, trace_id, parent_id, started = ended.activity, ended.trace_id, ended.parent_id, ended.started_ns
    try:
        parts = [
            _IDS.pack(_TRACE_ID, 16, trace_id >> 64, trace_id & _LOW, _SPAN_ID, 8, ended.span_id),
            _TIMES.pack(_START, started, _END, started + ended.duration_ns),
            _REMOTE if ended.parent_is_remote else _LOCAL,
            _tenant(activity.tenant.id),
            _labels(labels_of(activity)),
        ]
        if parent_id is not None:
            parts.append(_PARENT.pack(_PARENT_SPAN_ID, 8, parent_id))
    except struct.error as error:
        raise ValueError("OTLP holds no such time") from error
    for name, value in figures_of(activity):
        if isinstance(value, float):
            parts += (_decimal(name), _DOUBLE.pack(value))
        elif isinstance(value, str):
            text = value.encode()
            parts += (_text(name, len(text)), text)
        else:
            parts.append(_figure(name, value))
    # No trace state: it is the application's, or its caller's, and may hold anything. It travels on, but not to us.
    span = b"".join(parts)
    return _head_of_span(len(span)) + span


@lru_cache(maxsize=4096)
def _tenant(tenant_id: str) -> bytes:
    """Apart from the labels, which would be as many as there are tenants times what the application does."""
    return Span(attributes=[key_value(conventions.TENANT_ID, tenant_id)]).SerializeToString()


@lru_cache(maxsize=4096)
def _labels(labels: Labels) -> bytes:
    """All fields of a `Span` that follow from its labels."""
    kind, name, outcome, *_ = labels
    return Span(
        name=f"{kind.value} {name}",
        kind=KINDS[kind].value + 1,  # type: ignore[arg-type]  # OTLP counts from `unspecified`, the API from `internal`
        attributes=[key_value(*item) for item in attributes_of_labels(labels).items()],
        status=_ERROR if outcome is Outcome.ERROR else _UNSET,
    ).SerializeToString()


@lru_cache(maxsize=4096, typed=True)  # True is 1 otherwise, as far as a dictionary is concerned
def _figure(name: str, value: int) -> bytes:
    return Span(attributes=[key_value(name, value)]).SerializeToString()


@lru_cache(maxsize=256)
def _text(name: str, size: int) -> bytes:
    """An attribute that is a text of so many bytes, without these: they come last."""
    whole = Span(attributes=[key_value(name, "x" * size)]).SerializeToString()
    return whole[: len(whole) - size]


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
