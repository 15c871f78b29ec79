"""Requests as benchmarks send them: 512 spans of 12 attributes and an event, some of whose values must not leave.

What is in the names of a batch decides what redaction costs, so it is said by whoever makes one: one name for all,
names with numbers, names with random letters. With `prose`, what is dropped is what it is in life, a prompt in an
attribute that nobody listed, and a span has 1.2 kB.
"""

from __future__ import annotations

import random
import string
import uuid
from collections.abc import Callable
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SPANS: Final = 512
DROPPED: Final = 0.2
MASKED: Final = 0.1
_NAMES: Final = ("autogen.agent.type", "autogen.message.type", "gen_ai.agent.name", "gen_ai.tool.name", "error.type")
_PROSE_BYTES: Final = (130, 360)

Suffix = Callable[[random.Random], str]


def alike(_: random.Random) -> str:
    """One name for all."""
    return "1"


def numbered(chance: random.Random) -> str:
    """Names that differ in their number."""
    return str(chance.randrange(10**6))


def lettered(chance: random.Random) -> str:
    """Names that differ in their letters."""
    return "-" + "".join(chance.choices(string.ascii_lowercase, k=6))


def batch(
    chance: random.Random,
    dropped: float,
    masked: float,
    suffix: Suffix,
    *,
    prose: bool = False,
    spans: int = SPANS,
    tenant: str | None = None,
) -> bytes:
    """A request.

    Args:
        dropped, masked: shares of the attributes.
        suffix: says how names go on.
        prose: what is dropped is long.
        tenant: whose it is; one of fifty tenants for each span, without.
    """
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "billing"
    scope = resource.scope_spans.add()
    scope.scope.name = "tenantscope"
    for _ in range(spans):
        span = scope.spans.add()
        _fill(span, chance, tenant or f"tenant-{chance.randrange(50):05}", suffix)
        _spoil(span, chance, dropped, masked, prose)
    return request.SerializeToString()


def stated(chance: random.Random, spans: int = SPANS, tenant: str | None = None) -> bytes:
    """The workload that the targets are stated for: 1.2 kB a span, a fifth dropped, a tenth masked, all names new."""
    return batch(chance, DROPPED, MASKED, lettered, prose=True, spans=spans, tenant=tenant)


def _fill(span: Span, chance: random.Random, tenant: str, suffix: Suffix) -> None:
    span.trace_id, span.span_id, span.parent_span_id = map(chance.randbytes, (16, 8, 8))
    span.name = "process planner"
    span.kind = Span.SPAN_KIND_CONSUMER
    span.start_time_unix_nano = 1_760_000_000_000_000_000 + chance.randrange(10**12)
    span.end_time_unix_nano = span.start_time_unix_nano + chance.randrange(10**9)
    span.attributes.add(key="tenant.id").value.string_value = tenant
    span.attributes.add(key="autogen.message.kind").value.string_value = "send"
    span.attributes.add(key="autogen.message.outcome").value.string_value = "ok"
    span.attributes.add(key="autogen.message.queue.duration").value.double_value = chance.random()
    span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = chance.randrange(5000)
    span.attributes.add(key="gen_ai.request.model").value.string_value = "gpt-4o-2024-08-06"
    conversation = uuid.UUID(int=0xABCDEF << 100 if suffix is alike else chance.getrandbits(128), version=4)
    span.attributes.add(key="gen_ai.conversation.id").value.string_value = str(conversation)
    for key in _NAMES:
        span.attributes.add(key=key).value.string_value = f"Planner{suffix(chance)}"
    event = span.events.add(time_unix_nano=span.end_time_unix_nano, name="exception")
    event.attributes.add(key="exception.type").value.string_value = "TimeoutError"


def _spoil(span: Span, chance: random.Random, dropped: float, masked: float, prose: bool) -> None:
    # Of the names, and only there, values are bad: 5 of 12 must bear the share of all 12.
    for attribute in list(span.attributes)[-len(_NAMES) :]:
        dice = chance.random() * len(_NAMES) / len(span.attributes)
        if dice < dropped:
            attribute.key = "message"
            if prose:
                attribute.value.string_value = _prose(chance)
        elif dice < dropped + masked:
            attribute.value.string_value = f"planner.bob{chance.randrange(1000)}:AKIA{'A1B2C3D4' * 2}"


def _prose(chance: random.Random) -> str:
    size, words = chance.randint(*_PROSE_BYTES), [""]
    while size > 0:
        words.append("".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 9))))
        size -= len(words[-1]) + 1
    return " ".join(words[1:])
