"""The table decides every field of OTLP, and what nobody decided does not leave."""

from __future__ import annotations

import pytest

import instrumentation.conventions
from sidecar.conventions import SIGNALS, Signal
from sidecar.redaction import Policy, Redactor
from sidecar.redaction.plan import Planner
from sidecar.redaction.rules import BoolValue, DoubleValue, IntValue, StringListValue, StringValue
from sidecar.redaction.schema import ROOTS, fields, path_of
from sidecar.redaction.table import TABLE, TEXT_FIELDS, Decision
from sidecar.redaction.wire_format import LENGTH, delimited, tag_of, varint

RULES = {"string": StringValue, "int": IntValue, "double": DoubleValue, "string[]": StringListValue}


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


def test_the_default_policy_allows_what_the_library_sends_and_nothing_else() -> None:
    """Every attribute of the library's conventions is listed, with its type; besides them only the SDK's overflow."""
    policy = Policy.default()
    declared = {attribute.name: RULES[attribute.type] for attribute in instrumentation.conventions.ATTRIBUTES}
    assert {key: type(rule) for key, rule in policy.attributes.items()} == declared | {
        "otel.metric.overflow": BoolValue
    }
    assert set(policy.resource) == set(instrumentation.conventions.RESOURCE_ATTRIBUTES)
    assert set(policy.events) == {"exception.type"}


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_request_has_a_plan_for_its_fields(signal: Signal) -> None:
    """A plan has a step for every field of its message."""
    plan = Planner(Policy.default()).requests()[signal]
    assert set(plan) == {tag_of(field.number, LENGTH) for field in ROOTS[signal].fields}
