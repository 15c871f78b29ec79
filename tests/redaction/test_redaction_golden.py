"""Exact cases: what the library sends passes byte for byte; what else arrives leaves in exactly this form."""

from __future__ import annotations

import asyncio

import pytest
from autogen_apps import two_agent_team
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from instrumentation import tenant
from instrumentation.testing import Captured
from sidecar.redaction import Policy, Redactor

REDACTOR = Redactor(Policy.default())


def lookup() -> str:
    """A tool."""
    return "found"


def refusing() -> str:
    """A tool that fails."""
    raise PermissionError("bob@example.com may not")


@pytest.mark.parametrize("tool", [lookup, refusing])
def test_the_spans_of_a_team_run_pass_unchanged(captured: Captured, tool: object) -> None:
    """Not a byte changes, not an action is counted, not a record is dropped."""
    with tenant("tenant-00042"):
        asyncio.run(two_agent_team(tool).run(task="my card is 4111 1111 1111 1111"))
    spans = captured.spans()
    payload = encode_spans(spans).SerializeToString()
    redacted = REDACTOR.redact("traces", payload)
    assert redacted.actions == {}
    assert redacted.payload == payload
    assert redacted.records_in == redacted.records_out == len(spans) > 5


def test_the_metrics_of_a_team_run_pass_but_for_their_descriptions(captured: Captured) -> None:
    """A description is text that anybody may write; all else stays."""
    with tenant("tenant-00042"):
        asyncio.run(two_agent_team(lookup).run(task="go"))
    captured.spans()
    assert captured._metrics.last is not None
    request = encode_metrics(captured._metrics.last)
    metrics = [m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics]
    for metric in metrics:
        metric.description = "what it means"
    redacted = REDACTOR.redact("metrics", request.SerializeToString())
    assert redacted.actions == {("drop", "denied"): len(metrics)}
    for metric in metrics:
        metric.description = ""
    assert redacted.payload == request.SerializeToString()
    assert redacted.records_out == redacted.records_in > 0


ATTRIBUTES = [
    # key, value, what leaves (None: nothing), what is counted
    ("tenant.id", "acme", "acme", None),
    ("tenant.id", "Müller & Söhne 2", "Müller & Söhne 2", None),
    ("tenant.id", "тенант", "тенант", None),
    ("tenant.id", "100000000042", "100000000042", None),
    ("tenant.id", "bob@example.com", "[redacted:email]", ("mask", "email")),
    ("tenant.id", "4111 1111 1111 1111", "[redacted:card]", ("mask", "card")),
    ("tenant.id", "acme\n", None, ("drop", "shape")),
    ("tenant.id", "ac\u202eme", None, ("drop", "shape")),
    ("tenant.id", "a" * 255, "a" * 255, None),
    ("tenant.id", "ab" * 128, None, ("drop", "length")),
    ("tenant.id", "", "", None),
    ("tenant.id", 7, None, ("drop", "type")),
    ("tenant.id", b"acme", None, ("drop", "type")),
    ("autogen.agent.type", "planner", "planner", None),
    ("autogen.agent.type", "please refund my order", None, ("drop", "shape")),
    ("autogen.agent.type", "AKIAIOSFODNN7EXAMPLE", "[redacted:key]", ("mask", "key")),
    ("autogen.message.kind", "send", "send", None),
    ("autogen.message.kind", "SEND", None, ("drop", "shape")),
    ("autogen.message.queue.duration", 0.25, 0.25, None),
    ("autogen.message.queue.duration", -0.25, None, ("drop", "range")),
    ("autogen.message.queue.duration", float("nan"), None, ("drop", "range")),
    ("autogen.message.queue.duration", 1, None, ("drop", "type")),
    ("gen_ai.request.model", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06", None),
    ("gen_ai.usage.input_tokens", 10_000_000, 10_000_000, None),
    ("gen_ai.usage.input_tokens", 10_000_001, None, ("drop", "range")),
    ("gen_ai.usage.input_tokens", -1, None, ("drop", "range")),
    ("gen_ai.response.finish_reasons", ["stop", "length"], ["stop", "length"], None),
    ("gen_ai.response.finish_reasons", ["stop"] * 17, None, ("drop", "type")),
    ("gen_ai.response.finish_reasons", [], [], None),
    ("gen_ai.response.finish_reasons", ["stop", 4], None, ("drop", "type")),
    ("gen_ai.response.finish_reasons", ["AKIAIOSFODNN", "7EXAMPLE"], ["[redacted:key]"], ("mask", "key")),
    ("gen_ai.conversation.id", "0b5cf5b1-0bfb-4c2e-8b8e-3b6f2c1f4a11", "0b5cf5b1-0bfb-4c2e-8b8e-3b6f2c1f4a11", None),
    ("gen_ai.conversation.id", "bobs-conversation", None, ("drop", "shape")),
    ("error.type", "openai.RateLimitError", "openai.RateLimitError", None),
    ("error.type", "[redacted:email]", "[redacted:email]", None),
    ("otel.metric.overflow", True, True, None),
    ("otel.metric.overflow", "true", None, ("drop", "type")),
    # Whatever the value says: these keys are not on the list.
    ("message", "hi", None, ("drop", "unlisted")),
    ("user.bob@example.com", "x", None, ("drop", "unlisted")),
    ("gen_ai.input.messages", "[]", None, ("drop", "unlisted")),
    ("Tenant.id", "acme", None, ("drop", "unlisted")),
    ("tenant.id ", "acme", None, ("drop", "unlisted")),
    ("", "acme", None, ("drop", "unlisted")),
    ("redaction.masked.keys", "ssn", None, ("drop", "unlisted")),
    ("tenantscope.redactions", 7, None, ("drop", "unlisted")),
    ("exception.message", "boom", None, ("drop", "unlisted")),
    ("service.name", "billing", None, ("drop", "unlisted")),
]


@pytest.mark.parametrize(("key", "value", "leaves", "action"), ATTRIBUTES)
def test_what_becomes_of_an_attribute(key: str, value: object, leaves: object, action: tuple[str, str] | None) -> None:
    """On spans and log records alike; the second time, out of the memo, the same."""
    for _ in range(2):
        spans, logs = ExportTraceServiceRequest(), ExportLogsServiceRequest()
        span = spans.resource_spans.add().scope_spans.add().spans.add()
        record = logs.resource_logs.add().scope_logs.add().log_records.add()
        for where, request, signal in ((span, spans, "traces"), (record, logs, "logs")):
            attribute = where.attributes.add(key=key)
            fill(attribute.value, value)
            redacted = REDACTOR.redact(signal, request.SerializeToString())
            expected = type(request)()
            expected.CopyFrom(request)
            group = expected.resource_spans if signal == "traces" else expected.resource_logs
            record_out = (
                group[0].scope_spans[0].spans[0] if signal == "traces" else group[0].scope_logs[0].log_records[0]
            )
            del record_out.attributes[:]
            if leaves is not None:
                fill(record_out.attributes.add(key=key).value, leaves)
            assert redacted.payload == expected.SerializeToString()
            assert redacted.actions == ({} if action is None else {action: 1})


def fill(value: object, content: object) -> None:
    kinds = {str: "string_value", int: "int_value", float: "double_value", bool: "bool_value", bytes: "bytes_value"}
    if isinstance(content, list):
        value.array_value.SetInParent()
        for item in content:
            fill(value.array_value.values.add(), item)
    else:
        setattr(value, kinds[type(content)], content)


NAMES = [
    ("process planner", "process planner", None),
    ("chat gpt-4o-2024-08-06", "chat gpt-4o-2024-08-06", None),
    ("execute_tool web_search", "execute_tool web_search", None),
    ("GET /users/bob", "redacted", "shape"),
    ("process", "redacted", "shape"),
    ("process two words", "redacted", "shape"),
    ("process bob@example.com", "redacted", "shape"),
    ("process AKIAIOSFODNN7EXAMPLE", "[redacted:key]", "key"),
    ("xprocess planner", "redacted", "shape"),
    ("process planner\n", "redacted", "shape"),
    ("process " + "p" * 200, "redacted", "length"),
    ("redacted", "redacted", None),
    ("[redacted:key]", "[redacted:key]", None),
    ("", "", None),
]


@pytest.mark.parametrize(("name", "leaves", "reason"), NAMES)
def test_what_becomes_of_the_name_of_a_span(name: str, leaves: str, reason: str | None) -> None:
    """A span needs a name: one that does not fit is replaced."""
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name=name)
    redacted = REDACTOR.redact("traces", request.SerializeToString())
    output = ExportTraceServiceRequest.FromString(redacted.payload)
    assert output.resource_spans[0].scope_spans[0].spans[0].name == leaves
    assert redacted.actions == ({} if reason is None else {("mask", reason): 1})


def test_what_leaves_of_a_full_request() -> None:
    """Everything that others send: messages, traces, baggage, bodies, entities. Structure, times and ids stay."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(schema_url="https://opentelemetry.io/schemas/1.37.0")
    fill(group.resource.attributes.add(key="service.name").value, "billing")
    fill(group.resource.attributes.add(key="process.command_line").value, "app --token x")
    group.resource.entity_refs.add(type="host", id_keys=["host.name"])
    scope = group.scope_spans.add(schema_url="https://example.com/schemas/1.0.0")
    scope.scope.name, scope.scope.version = "tenantscope", "0.1.0"
    fill(scope.scope.attributes.add(key="tenant.id").value, "acme")
    span = scope.spans.add(
        trace_id=b"\xaa" * 16, span_id=b"\xbb" * 8, name="process planner", kind=5, trace_state="a=b"
    )
    span.status.message, span.status.code = "failed for bob", 2
    event = span.events.add(name="exception", time_unix_nano=7)
    fill(event.attributes.add(key="exception.type").value, "ValueError")
    fill(event.attributes.add(key="exception.message").value, "no such user: bob")
    link = span.links.add(trace_id=b"\xcc" * 16, span_id=b"\xdd" * 8, trace_state="c=d")
    fill(link.attributes.add(key="tenant.id").value, "acme")

    redacted = REDACTOR.redact("traces", request.SerializeToString())

    del group.resource.attributes[1], group.resource.entity_refs[:], scope.scope.attributes[:], link.attributes[:]
    del event.attributes[1]
    scope.schema_url = span.trace_state = span.status.message = link.trace_state = ""
    assert redacted.payload == request.SerializeToString()
    assert redacted.actions == {("drop", "denied"): 6, ("drop", "unlisted"): 2, ("drop", "shape"): 1}


def test_what_leaves_of_a_log_record() -> None:
    """Severity, times, ids and the event's name; never the body."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    record = scope.log_records.add(
        time_unix_nano=1, observed_time_unix_nano=2, severity_number=9, severity_text="INFO",
        event_name="agent.started", trace_id=b"\xaa" * 16, span_id=b"\xbb" * 8, flags=1,
    )  # fmt: skip
    kept = request.SerializeToString()
    fill(record.body, "hello Bob")
    odd = scope.log_records.add(severity_text="Bob says hi", event_name="two words", trace_id=b"x")
    odd.body.kvlist_value.values.add(key="bob@example.com")
    redacted = REDACTOR.redact("logs", request.SerializeToString())
    assert redacted.payload == kept
    assert (redacted.records_in, redacted.records_out, redacted.dropped) == (2, 1, {"identity": 1})
