"""Whatever is planted wherever, none of it comes out: every text and bytes leaf of OTLP, every encoding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redaction_samples import CONTENT, ENCODINGS, RARE_ENCODINGS, REQUESTS, SECRETS, leaves, plant, text_of, traces_of

from sidecar.conventions import POLICIES, SIGNALS, Signal
from sidecar.redaction import Policy, Redactor
from sidecar.redaction.rules import StringListValue, StringValue
from sidecar.redaction.schema import path_of
from sidecar.redaction.table import TABLE, Decision

SHIPPED = {name: Policy.load(name) for name in POLICIES}
REDACTORS = {name: Redactor(policy) for name, policy in SHIPPED.items()}
LEAVES = [(signal, path) for signal in SIGNALS for path in leaves(signal)]
ALL = SECRETS | CONTENT
#: A tenant's id is whatever the customer calls his customer, also in several words.
NAMES_OF_ALL_SHAPES = ("tenant.id", "tenantscope.victim")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("signal", "path"), LEAVES, ids=[f"{s}-{text_of(p)}" for s, p in LEAVES])
def test_a_secret_in_any_leaf_stays_in_whatever_its_encoding(policy: str, signal: Signal, path: tuple) -> None:
    """A canary in a text or bytes field, of any message at any place, is not in the output in any form."""
    for name, secret in ALL.items():
        key = "error.type" if name in CONTENT else "tenant.id"
        for encoding, encode in ENCODINGS.items():
            request = plant(signal, path, encode(secret), key=key)
            output = REDACTORS[policy].redact(signal, request.SerializeToString()).payload
            assert not traces_of(secret, output), (name, encoding)
            REQUESTS[signal].FromString(output)


PLACES = {"attributes": "span", "events": "event", "resource": "resource"}
TEXT_RULES = {
    (name, section, key): rule
    for name, policy in SHIPPED.items()
    for (section, key), rule in policy.rules.items()
    if section in PLACES and isinstance(rule, StringValue | StringListValue)
}


@pytest.mark.parametrize(("policy", "section", "key"), TEXT_RULES, ids="-".join)
def test_a_secret_under_an_allowed_key_stays_in(policy: str, section: str, key: str) -> None:
    """That a key is allowed does not mean that its value is: every text attribute is held to shape and patterns."""
    for name, secret in ALL.items():
        if key in NAMES_OF_ALL_SHAPES and name in CONTENT:
            continue
        for encoding, encode in (ENCODINGS | RARE_ENCODINGS).items():
            request = REQUESTS["traces"]()
            spans = request.resource_spans.add()
            span = spans.scope_spans.add().spans.add(name="chat gpt-4o")
            where = {"span": span, "event": span.events.add(), "resource": spans.resource}[PLACES[section]]
            value = where.attributes.add(key=key).value
            if isinstance(TEXT_RULES[policy, section, key], StringListValue):
                value.array_value.values.add(string_value="stop")
                value.array_value.values.add(string_value=encode(secret))
            else:
                value.string_value = encode(secret)
            output = REDACTORS[policy].redact("traces", request.SerializeToString()).payload
            assert not traces_of(secret, output), (name, encoding)
            assert encode(secret).encode() not in output, (name, encoding)


@given(
    secret=st.sampled_from(sorted(ALL.values())),
    policy=st.sampled_from(POLICIES),
    data=st.data(),
    shape=st.recursive(
        st.sampled_from(["string_value", "bytes_value"]),
        lambda inner: st.tuples(st.sampled_from(["array_value", "kvlist_value"]), inner),
        max_leaves=1,
    ),
    encoding=st.sampled_from(sorted(ENCODINGS)),
)
@settings(max_examples=300, deadline=None)
def test_nesting_hides_nothing(policy: str, secret: str, shape: object, encoding: str, data: st.DataObject) -> None:
    """Under an allowed key, a list of lists of maps, bytes or text: none carries a secret out."""
    key = data.draw(st.sampled_from(sorted(SHIPPED[policy].attributes)))
    if key in NAMES_OF_ALL_SHAPES and shape == "string_value":
        return
    request = REQUESTS["logs"]()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    for value in (record.attributes.add(key=key).value, record.body):
        here = shape
        while isinstance(here, tuple):
            field, here = here
            value = (
                value.array_value.values.add()
                if field == "array_value"
                else value.kvlist_value.values.add(key="k").value
            )
        text = ENCODINGS[encoding](secret)
        setattr(value, here, text if here == "string_value" else text.encode())
    output = REDACTORS[policy].redact("logs", request.SerializeToString()).payload
    assert not traces_of(secret, output)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_secret_cut_into_the_items_of_a_list_is_found(count: int) -> None:
    """A list is also read as one text."""
    policy = "default"
    secret = "AKIAIOSFODNN7EXAMPLE"
    step = -(-len(secret) // count)
    request = REQUESTS["traces"]()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    items = span.attributes.add(key="gen_ai.response.finish_reasons").value.array_value
    for start in range(0, len(secret), step):
        items.values.add(string_value=secret[start : start + step])
    redacted = REDACTORS[policy].redact("traces", request.SerializeToString())
    assert redacted.actions == {("mask", "key"): 1}
    assert secret[:step].encode() not in redacted.payload


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("number", [4111111111111111, 123456789, 415_555_0132, -4111111111111111, 2**63 - 1])
def test_a_card_or_account_number_does_not_fit_into_a_number(number: int, policy: str) -> None:
    """Numbers in attributes have ranges, as integers and as doubles."""
    keys = {key for section, key in SHIPPED[policy].rules if section in PLACES}
    for kind in ("int_value", "double_value"):
        request = REQUESTS["traces"]()
        spans = request.resource_spans.add()
        span = spans.scope_spans.add().spans.add()
        for where in (span, span.events.add(), spans.resource):
            for key in keys:
                setattr(where.attributes.add(key=key).value, kind, number)
        output = REQUESTS["traces"].FromString(REDACTORS[policy].redact("traces", request.SerializeToString()).payload)
        (spans,) = output.resource_spans
        assert not spans.resource.attributes
        assert not spans.scope_spans[0].spans[0].attributes
        assert not spans.scope_spans[0].spans[0].events[0].attributes


def test_every_text_leaf_has_been_planted() -> None:
    """The paths above reach every text and bytes field that the table knows of."""
    reached = {path_of(path[-1]) for _, path in LEAVES}
    no_text = {Decision.INTO, Decision.RECORD, Decision.PART, Decision.NUMBER}
    texts = {path for path, decision in TABLE.items() if decision not in no_text}
    messages = {"KeyValue.value", "LogRecord.body", "ArrayValue.values", "KeyValueList.values"}
    assert reached <= texts
    assert {path for path in texts - reached if not path.endswith(("attributes", "strindex", "refs", "metadata"))} <= (
        messages | {path for path in texts if path.startswith("AnyValue.")}
    )
