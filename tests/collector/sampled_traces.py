"""Traces of which the Collector keeps some: what is remarkable about each, and which of their spans went on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from collector_process import Upstream
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from instrumentation import conventions

SECOND = 1_000_000_000
BEGAN = 1_700_000_000 * SECOND
Change = Callable[[Span], None]


def fails(span: Span) -> None:
    span.status.code = Status.STATUS_CODE_ERROR


def waits(span: Span) -> None:
    span.attributes.add(key=conventions.MESSAGE_QUEUE_DURATION).value.double_value = 0.3


def waits_little(span: Span) -> None:
    span.attributes.add(key=conventions.MESSAGE_QUEUE_DURATION).value.double_value = 0.05


def is_slow(span: Span) -> None:
    span.end_time_unix_nano = span.start_time_unix_nano + 6 * SECOND


def is_calm(span: Span) -> None:
    """Nothing is remarkable about it."""


KEPT: dict[str, Change] = {"fails": fails, "waits": waits, "slow": is_slow}
NOT_KEPT: dict[str, Change] = {"calm": is_calm, "waits-little": waits_little}


def trace_id(tenant: str) -> bytes:
    """Evenly spread, as real ones are: some decisions of a Collector look at the second half alone."""
    return hashlib.sha256(tenant.encode()).digest()[:16]


def trace(tenant: str, change: Change) -> ExportTraceServiceRequest:
    """Two spans of one trace; what is remarkable is in the second."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in {"service.name": "billing", "service.instance.id": "billing-1"}.items():
        resource.resource.attributes.add(key=key).value.string_value = value
    spans = resource.scope_spans.add().spans
    for number in (1, 2):
        span = spans.add(
            trace_id=trace_id(tenant), span_id=bytes([number]) * 8, name="process worker",
            start_time_unix_nano=BEGAN, end_time_unix_nano=BEGAN + SECOND // 100,
        )  # fmt: skip
        span.attributes.add(key=conventions.TENANT_ID).value.string_value = tenant
        span.attributes.add(key=conventions.AGENT_TYPE).value.string_value = "worker"
    change(spans[1])
    return request


def halves(tenant: str, change: Change) -> list[ExportTraceServiceRequest]:
    """The two spans of a trace, each in a request of its own, as two processes would send them."""
    found = [trace(tenant, change), trace(tenant, change)]
    for number, half in enumerate(found):
        del half.resource_spans[0].scope_spans[0].spans[1 - number]
    return found


def arrived(upstream: Upstream, tenant: str) -> list[int]:
    """Which spans of the tenant's trace went on."""
    return sorted(
        span.span_id[0]
        for body in upstream.received["traces"]
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if any(attribute.value.string_value == tenant for attribute in span.attributes)
    )
