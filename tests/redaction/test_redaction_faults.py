"""When redaction itself fails: the value goes, or the record, or the request; never the raw one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from garbage import uncollected
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from structlog.testing import capture_logs

from sidecar.redaction import Malformed, Policy, Redactor, questions, walk
from sidecar.redaction.memo import GENERATION, MAX_ENTRY, Memo
from sidecar.redaction.plan import TenantPlans
from sidecar.redaction.rules import StringValue
from sidecar.redaction.texts import Masked
from sidecar.redaction.wire_format import delimited

SECRET = "bob@example.com"


class Failing:
    """A rule with a bug: it raises, and puts what it was given into the message."""

    repeats = True
    told_apart = False
    leads, lead = StringValue.leads, StringValue.lead

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def judge(self, value: bytes) -> Masked | None:
        raise self._error(value.decode("latin-1"))

    def sift(self, values: list[bytes]) -> list[str | None]:
        raise self._error(b"".join(values).decode("latin-1"))


def request(**attributes: str) -> bytes:
    made = ExportTraceServiceRequest()
    span = made.resource_spans.add().scope_spans.add().spans.add(name="process planner")
    for key, value in attributes.items():
        span.attributes.add(key=key).value.string_value = value
    return made.SerializeToString()


@pytest.mark.parametrize("error", [ValueError, KeyError, RecursionError, MemoryError, UnicodeError, AssertionError])
def test_a_rule_that_fails_costs_its_value(error: type[Exception]) -> None:
    """The value is dropped and counted; the log has the type of the exception, once, and nothing else of it."""
    policy = Policy.default()
    redactor = Redactor(replace(policy, attributes={**policy.attributes, "note": Failing(error)}))
    with capture_logs() as logs:
        redacted = [redactor.redact("traces", request(note=SECRET)) for _ in range(3)]
    assert [r.actions for r in redacted] == [{("drop", "error"): 1}] * 3
    assert {r.payload for r in redacted} == {request()}
    assert [line["error"] for line in logs] == [error.__name__]
    assert SECRET not in str(logs)


def test_a_rule_of_a_field_that_fails_costs_the_field() -> None:
    """The same for OTLP's own texts."""
    policy = Policy.default()
    redactor = Redactor(replace(policy, fields={**policy.fields, "Span.name": Failing(ValueError)}))
    redacted = redactor.redact("traces", request())
    assert redacted.actions == {("drop", "error"): 1}
    assert redacted.records_out == 1
    assert b"planner" not in redacted.payload


def test_a_fault_inside_a_record_costs_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody expected one: the detectors, asked about an id."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr(questions, "detect", fail)
    good, bad = delimited(5, b"chat gpt-4o"), delimited(1, b"t" * 16)
    payload = delimited(1, delimited(2, delimited(2, good) + delimited(2, bad) + delimited(2, good)))
    with capture_logs() as logs:
        redacted = Redactor(Policy.default()).redact("traces", payload)
    assert redacted.payload == delimited(1, delimited(2, delimited(2, good) * 2))
    assert redacted.dropped == {"error": 1}
    assert redacted.records_in - redacted.records_out == 1
    assert SECRET not in str(logs)


def test_a_fault_outside_of_records_costs_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves, and the error says nothing."""

    def fail(*_: object) -> None:
        raise OSError(SECRET)

    monkeypatch.setattr(walk, "read_length", fail)
    with pytest.raises(Malformed, match=r"\Aerror\Z") as caught:
        Redactor(Policy.default()).redact("traces", request(note="x" * 200))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_log_cannot_be_flooded_by_types() -> None:
    """Exceptions of ever new types are counted, and after a while no longer logged."""
    policy = Policy.default()
    failing = Failing(ValueError)
    redactor = Redactor(replace(policy, attributes={"note": failing}))
    with capture_logs() as logs:
        for number in range(100):
            failing._error = type(f"Error{number}", (Exception,), {})
            assert redactor.redact("traces", request(note="x")).actions == {("drop", "error"): 1}
    assert len(logs) == 32


def test_the_memo_holds_only_what_left_as_it_stood() -> None:
    """No dropped or masked plaintext is kept: it would be a collection of secrets."""
    redactor = Redactor(Policy.default())
    redactor.redact("traces", request(**{"tenant.id": SECRET, "message": "dear bob", "gen_ai.tool.name": "search"}))
    held = remembered(redactor)
    assert any(b"search" in entry for entry in held)
    assert not any(b"bob" in entry for entry in held)


def test_the_memo_holds_no_numbers() -> None:
    """Durations hardly ever come twice: they would only push out what does."""
    redactor = Redactor(Policy.default())
    made = ExportTraceServiceRequest()
    span = made.resource_spans.add().scope_spans.add().spans.add()
    span.attributes.add(key="autogen.message.queue.duration").value.double_value = 0.25
    span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 5
    assert redactor.redact("traces", made.SerializeToString()).actions == {}
    assert remembered(redactor) == []


def remembered(redactor: Redactor) -> list[bytes]:
    plans = list(redactor._plans.values())
    gates = []
    while plans:
        for _, _, operand in plans.pop().values():
            if isinstance(operand, dict):
                plans.append(operand)
            elif isinstance(operand, TenantPlans):
                for record in (operand.everybody, *operand.tiers.values()):
                    plans.append(record.plan)
                    gates += [record.form, *record.form.parts.values()]
            elif hasattr(operand, "memo"):
                gates.append(operand)
    return [entry for gate in gates for entry in (*gate.memo.recent, *gate.memo._older)]


def test_the_memo_is_bounded_and_keeps_what_is_used() -> None:
    """However many entries come by; one that is asked for stays."""
    memo = Memo()
    memo.remember(b"used", 8)
    for number in range(10 * GENERATION):
        memo.remember(b"%d" % number)
        if number % 1000 == 0:
            assert memo.recall(b"used") == 8
    assert len(memo) <= 2 * GENERATION
    assert memo.recall(b"0") is None
    memo.remember(b"x" * (MAX_ENTRY + 1))
    assert memo.recall(b"x" * (MAX_ENTRY + 1)) is None


def test_a_redactor_is_shared_by_threads() -> None:
    """Many threads, many tenants, a memo that turns over: everybody gets what one thread alone would get."""
    shared, alone = Redactor(Policy.default()), Redactor(Policy.default())
    start = threading.Barrier(8)

    def work(thread: int) -> list[bytes]:
        start.wait(timeout=10)
        return [shared.redact("traces", made).payload for made in requests(thread)]

    def requests(thread: int) -> list[bytes]:
        return [request(**{"tenant.id": f"t{thread}-{n}", "message": "x", "error.type": SECRET}) for n in range(700)]

    with ThreadPoolExecutor(8) as threads:
        outputs = list(threads.map(work, range(8)))
    assert outputs == [[alone.redact("traces", made).payload for made in requests(thread)] for thread in range(8)]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (request(note=SECRET), None),
        (delimited(1, delimited(2, b"".join([*map(delimited, [2] * 200, [delimited(5, b"x")] * 200)]))), None),
        (request(note=SECRET)[:-1], "wire"),
        (b"\x0a\x00" * 100_000, "limits"),
    ],
    ids=["one", "many", "broken", "too much"],
)
def test_nothing_of_a_request_is_held_when_it_is_done(payload: bytes, reason: str | None) -> None:
    """Not until the collector comes by, either: what is redacted is gone with its request."""
    redactor = Redactor(Policy.default())
    with uncollected() as holders:
        if reason is None:
            redactor.redact("traces", payload)
        else:
            with pytest.raises(Malformed, match=reason):
                redactor.redact("traces", payload)
        assert holders(payload) == []
