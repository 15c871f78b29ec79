"""Requests that ask for more work than one may: refused, or dropped in part, early and with a count."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidecar.redaction import Malformed, Policy, Redactor, engine
from sidecar.redaction.bounds import MAX_FIELDS, MAX_GROUPS, MAX_PARTS, MAX_RECORDS, Spent, allowance, spend
from sidecar.redaction.detectors import detect
from sidecar.redaction.wire_format import delimited

#: Reads in two dozen forms, none of which holds anything.
DISGUISED = "x%2541%2542 &amp;&lt; " * 11


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(Policy.default())


def spans(number: int, **attributes: str) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    scope = made.resource_spans.add().scope_spans.add()
    for index in range(number):
        span = scope.spans.add(name="process planner", start_time_unix_nano=1 + index)
        for key, value in attributes.items():
            span.attributes.add(key=key).value.string_value = value.replace("#", str(index))
    return made


#: Field 1 of length 0, of a request (resources), and of a group (Resource), then field 2 (scopes, records).
EMPTY = {
    "resources": b"\x0a\x00" * 2_000_000,
    "scopes": delimited(1, b"\x12\x00" * 2_000_000),
    "records": delimited(1, delimited(2, b"\x12\x00" * 2_000_000)),
    "unknown fields": b"\xa0\x06\x00" * 1_300_000,
}


@pytest.mark.parametrize("kind", ["resources", "scopes", "records", "unknown fields"])
def test_two_million_of_nothing_are_refused(redactor: Redactor, kind: str) -> None:
    """4 MiB of empty messages: refused as soon as there are too many, whatever they are."""
    with pytest.raises(Malformed, match=r"limits|wire"):
        redactor.redact("traces", EMPTY[kind])


def test_a_refusal_comes_early(redactor: Redactor) -> None:
    """Of two million, no more is looked at than may be there: what is broken behind them is never reached."""
    with pytest.raises(Malformed, match="limits"):
        redactor.redact("traces", b"\x0a\x00" * (MAX_GROUPS + 1) + b"\xff")
    with pytest.raises(Malformed, match="wire"):
        redactor.redact("traces", b"\x0a\x00" * MAX_GROUPS + b"\xff")


def test_as_many_as_there_may_be_pass(redactor: Redactor) -> None:
    """The bounds are included, and far beyond what exporters send."""
    assert redactor.redact("traces", b"\x0a\x00" * MAX_GROUPS).records_in == 0
    within = redactor.redact("traces", delimited(1, delimited(2, b"\x12\x00" * MAX_RECORDS)))
    assert within.records_in == MAX_RECORDS
    assert MAX_GROUPS >= 2 * 8192
    assert MAX_RECORDS >= 8192
    assert MAX_PARTS >= 512 * 128


def test_a_record_with_too_many_foreign_attributes_is_dropped(redactor: Redactor) -> None:
    """200,000 attributes: that span goes, with a reason, its neighbour stays."""
    request = spans(2)
    many = request.resource_spans[0].scope_spans[0].spans[0].attributes
    for number in range(200_000):
        many.add(key=f"k{number}")
    redacted = redactor.redact("traces", request.SerializeToString())
    assert redacted.dropped == {"fields": 1}
    assert (redacted.records_in, redacted.records_out) == (2, 1)
    assert sum(redacted.actions.values()) == MAX_FIELDS + 1


def test_a_span_with_two_million_events_is_refused_with_its_request(redactor: Redactor) -> None:
    """Parts of records count as well."""
    with pytest.raises(Malformed, match="limits"):
        redactor.redact("traces", delimited(1, delimited(2, delimited(2, b"\x5a\x00" * 2_000_000))))


def test_a_request_of_disguised_texts_spends_its_budget(redactor: Redactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of them is dropped and counted; names of one form go on, and the next request begins anew."""
    monkeypatch.setattr(engine, "MAX_SCANNED", 20_000)
    request = spans(400, **{"tenant.id": f"{DISGUISED}#", "gen_ai.agent.name": "planner-#"})
    for _ in range(2):
        redacted = redactor.redact("traces", request.SerializeToString())
        out = ExportTraceServiceRequest.FromString(redacted.payload).resource_spans[0].scope_spans[0].spans
        named = [span for span in out if any(a.key == "gen_ai.agent.name" for a in span.attributes)]
        told = [span for span in out if any(a.key == "tenant.id" for a in span.attributes)]
        assert len(out) == len(named) == 400
        assert redacted.actions["drop", "budget"] == 400 - len(told)
        assert 0 < len(told) < 400


def test_the_budget_is_one_requests_own() -> None:
    """It is counted in characters, never in time; outside of a request there is none."""
    with allowance(10):
        spend(10)
        with pytest.raises(Spent):
            spend(1)
        with allowance(5):
            spend(5)
        with pytest.raises(Spent):
            spend(0)
    spend(10**9)
    with allowance(100), pytest.raises(Spent):
        detect(DISGUISED)
    assert detect(DISGUISED) is None


def test_names_cost_nothing_of_the_budget() -> None:
    """A text that has no other form, and few of the traits that detectors look for, is not charged."""
    with allowance(0):
        assert detect("agent-17.planner/v2") is None


@pytest.mark.parametrize(
    "text", ["2" * 255, "65 66 67 68 200," * 15, "1:a:" * 30, "basic:" * 20, "a.at.b-" * 18, "ж " * 99]
)
def test_what_is_dear_to_look_at_is_charged_before_it_is(text: str) -> None:
    """Whatever a sender fills a request with: what it has no budget for is refused unread, were it a secret or not."""
    with allowance(len(text) - 1), pytest.raises(Spent):
        detect(text, numbers=False)


def test_no_request_has_more_than_its_budget_read(redactor: Redactor) -> None:
    """4 MiB of numbers, each without another form: so many of them are looked at as the budget has characters."""
    number = "5" * 100
    request = spans(14_000, **{"gen_ai.agent.name": f"#-{number}", "error.type": f"#.{number}"}).SerializeToString()
    assert 3_900_000 < len(request) < 4 * 1024 * 1024
    redacted = redactor.redact("traces", request)
    looked_at = 2 * 14_000 - redacted.actions["drop", "budget"]
    assert looked_at * len(number) <= engine.MAX_SCANNED
    assert redacted.records_out == 14_000
