"""The table decides every field of OTLP, and what nobody decided does not leave."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai

import instrumentation.conventions
from instrumentation.activity import Kind
from sidecar.conventions import ALERT_ATTRIBUTES, POLICIES, SIGNALS, Signal
from sidecar.redaction import Policy, Redactor
from sidecar.redaction.plan import Planner
from sidecar.redaction.rules import BoolValue, DoubleValue, IntValue, StringListValue, StringValue
from sidecar.redaction.schema import ROOTS, fields, path_of
from sidecar.redaction.table import TABLE, TEXT_FIELDS, Decision
from sidecar.redaction.wire_format import LENGTH, delimited, tag_of, varint

RULES = {
    "string": StringValue, "int": IntValue, "double": DoubleValue, "bool": BoolValue, "string[]": StringListValue,
}  # fmt: skip


def test_every_field_of_the_descriptors_has_a_decision() -> None:
    """A field that a later OTLP adds fails here until somebody decides; one that is gone leaves the table."""
    assert set(TABLE) == set(fields())


def test_decisions_fit_the_types_of_their_fields() -> None:
    """Messages are entered, numbers are numbers, texts are texts."""
    for path, field in fields().items():
        is_message = field.message_type is not None
        if TABLE[path] in (Decision.INTO, Decision.RECORD, Decision.PART):
            assert is_message, path
        elif TABLE[path] in (Decision.TEXT, Decision.NAME):
            assert field.type == field.TYPE_STRING, path
        elif TABLE[path] in (Decision.TRACE_ID, Decision.SPAN_ID):
            assert field.type == field.TYPE_BYTES, path
        elif TABLE[path] is Decision.NUMBER:
            assert not is_message, path
            assert field.type not in (field.TYPE_STRING, field.TYPE_BYTES), path


def test_every_message_with_a_decision_to_enter_leads_to_records_or_is_one() -> None:
    """INTO stands on the way to records and nowhere else: what it holds is what gets counted."""
    by_path = fields()
    for path, decision in TABLE.items():
        if decision is Decision.INTO:
            inside = {TABLE[path_of(field)] for field in by_path[path].message_type.fields}
            assert inside & {Decision.INTO, Decision.RECORD}, path


def test_a_field_without_a_decision_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the table does not name is unknown, as if the descriptors did not have it either."""
    span = delimited(5, b"chat gpt-4o") + varint(tag_of(6, 0)) + varint(3)
    request = delimited(1, delimited(2, delimited(2, span)))
    assert Redactor(Policy.default()).redact("traces", request).payload == request
    monkeypatch.delitem(TABLE, "Span.kind")
    redacted = Redactor(Policy.default()).redact("traces", request)
    assert redacted.actions == {("drop", "unknown"): 1}
    assert redacted.payload == delimited(1, delimited(2, delimited(2, delimited(5, b"chat gpt-4o"))))


def test_the_default_policy_has_a_rule_for_every_text_field() -> None:
    """No text is dropped because the shipped policy forgot it."""
    assert set(Policy.default().fields) == set(TEXT_FIELDS)


def test_the_default_policy_allows_what_the_two_halves_send_and_nothing_else() -> None:
    """Every attribute of either side's conventions is listed, with its type; besides them only the SDK's overflow."""
    policy = Policy.default()
    declared = {
        attribute.name: RULES[attribute.type]
        for attribute in (*instrumentation.conventions.ATTRIBUTES, *ALERT_ATTRIBUTES)
    }
    assert {key: type(rule) for key, rule in policy.attributes.items()} == declared | {
        "otel.metric.overflow": BoolValue
    }
    assert set(policy.resource) == set(instrumentation.conventions.RESOURCE_ATTRIBUTES)
    assert set(policy.events) == {"exception.type"}


# What holds content in OpenTelemetry's registry, or a handle to where a provider keeps it.
CONTENT = {
    gen_ai.GEN_AI_AGENT_DESCRIPTION, gen_ai.GEN_AI_AGENT_ID, gen_ai.GEN_AI_COMPLETION, gen_ai.GEN_AI_DATA_SOURCE_ID,
    gen_ai.GEN_AI_EVALUATION_EXPLANATION, gen_ai.GEN_AI_INPUT_MESSAGES, gen_ai.GEN_AI_OUTPUT_MESSAGES,
    gen_ai.GEN_AI_PROMPT, gen_ai.GEN_AI_REQUEST_SEED, gen_ai.GEN_AI_REQUEST_STOP_SEQUENCES, gen_ai.GEN_AI_RESPONSE_ID,
    gen_ai.GEN_AI_RETRIEVAL_DOCUMENTS, gen_ai.GEN_AI_RETRIEVAL_QUERY_TEXT, gen_ai.GEN_AI_SYSTEM_INSTRUCTIONS,
    gen_ai.GEN_AI_TOOL_CALL_ARGUMENTS, gen_ai.GEN_AI_TOOL_CALL_ID, gen_ai.GEN_AI_TOOL_CALL_RESULT,
    gen_ai.GEN_AI_TOOL_DEFINITIONS, gen_ai.GEN_AI_TOOL_DESCRIPTION,
}  # fmt: skip
# Of one provider, under names that have been replaced.
REPLACED = {value for name, value in vars(gen_ai).items() if name.startswith("GEN_AI_OPENAI_")}
# Proposed to the GenAI conventions (pull request 447 there), and sent by the library.
DRAFT = {"gen_ai.transfer.mode", "gen_ai.transfer.target.name"}


def test_the_genai_policy_decides_on_every_genai_attribute_of_the_registry() -> None:
    """It allows what the default policy does and all of the registry but content: a new attribute fails here."""
    allowed = {key for key in Policy.load("genai").attributes if key.startswith("gen_ai.")}
    registry = {value for name, value in vars(gen_ai).items() if name.startswith("GEN_AI_")}
    assert registry - allowed == CONTENT | REPLACED
    assert allowed - registry == DRAFT
    for place, rule in Policy.default().rules.items():
        if place not in {("attributes", "gen_ai.operation.name"), ("fields", "Span.name")}:  # more words there
            assert Policy.load("genai").rules[place].written == rule.written


def test_the_strict_policy_allows_no_more_than_the_default_one() -> None:
    """No name of an agent, a tool, a model or a host; `tenantscope policy diff` compares the rules themselves."""
    strict, default = Policy.load("strict"), Policy.default()
    assert set(strict.rules) < set(default.rules)
    assert not [key for _, key in strict.rules if key.endswith((".agent.name", ".tool.name", ".model", "host.name"))]


@pytest.mark.parametrize("name", POLICIES)
def test_no_shipped_policy_lets_free_text_out(name: str) -> None:
    """The shape that only patterns guard is for policies of one's own; a tenant's id has it nearly, nothing else."""
    shapes = {place: rule.written.get("shape") for place, rule in Policy.load(name).rules.items()}
    assert "free" not in shapes.values()
    tenants = ["tenant.id", "tenantscope.victim"] if name != "strict" else []
    assert [key for (_, key), shape in shapes.items() if shape == "tenant"] == tenants


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_request_has_a_plan_for_its_fields(signal: Signal) -> None:
    """A plan has a step for every field of its message."""
    plan = Planner(Policy.default()).requests()[signal]
    assert set(plan) == {tag_of(field.number, LENGTH) for field in ROOTS[signal].fields}


@pytest.mark.parametrize("name", ["default", "genai"])
@pytest.mark.parametrize("kind", list(Kind))
def test_the_name_of_every_activity_leaves(name: str, kind: Kind) -> None:
    """A kind of activity that no policy knows would be one more `redacted` in everybody's traces."""
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(
        name=f"{kind.value} support", trace_id=b"t" * 16, span_id=b"s" * 8
    )
    left = ExportTraceServiceRequest.FromString(
        Redactor(Policy.load(name)).redact("traces", request.SerializeToString()).payload
    )
    assert left.resource_spans[0].scope_spans[0].spans[0].name == f"{kind.value} support"
