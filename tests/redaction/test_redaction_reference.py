"""The engine against a second redactor, on random messages of all three signals; and what holds for every output."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redaction_samples import REQUESTS, Composer, records, unknown_fields
from reference_redactor import Reference

from sidecar.conventions import POLICIES, SIGNALS, Signal
from sidecar.redaction import Malformed, Policy, Redactor

REDACTORS = {name: Redactor(Policy.load(name)) for name in POLICIES}
KEYS = {name: [key for section, key in Policy.load(name).rules if section != "fields"] for name in POLICIES}
SEEDS = st.integers(0, 2**48)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=SEEDS)
@settings(max_examples=150, deadline=None)
def test_the_engine_agrees_with_the_reference(policy: str, signal: Signal, seed: int) -> None:
    """The same message remains, the same records are dropped for the same reasons."""
    request = Composer(seed, KEYS[policy]).request(signal)
    redacted = REDACTORS[policy].redact(signal, request.SerializeToString(deterministic=True))
    reference = Reference(request, policy)
    remains = REQUESTS[signal].FromString(redacted.payload)
    assert str(remains) == str(request)
    assert redacted.dropped == +reference.dropped
    assert redacted.records_out == reference.records_out


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=SEEDS)
@settings(max_examples=100, deadline=None)
def test_nothing_vanishes_uncounted_and_nothing_changes_twice(policy: str, signal: Signal, seed: int) -> None:
    """Every record comes out or is counted as dropped, by what is really in there; redacting again does nothing."""
    request = Composer(seed, KEYS[policy]).request(signal)
    redacted = REDACTORS[policy].redact(signal, request.SerializeToString())
    output = REQUESTS[signal].FromString(redacted.payload)
    assert redacted.records_in == records(request)
    assert redacted.records_out == records(output)
    assert redacted.records_in - redacted.records_out == sum(redacted.dropped.values())
    assert unknown_fields(output) == 0

    again = REDACTORS[policy].redact(signal, redacted.payload)
    assert again.payload == redacted.payload
    assert (again.dropped, again.actions) == ({}, {})


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=SEEDS, data=st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_requests_are_malformed_or_safe(policy: str, signal: Signal, seed: int, data: st.DataObject) -> None:
    """Bytes changed, cut out and put in: what comes out is OTLP without unknown fields, or nothing does."""
    damaged = bytearray(Composer(seed, KEYS[policy]).request(signal).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        end = data.draw(st.integers(at, min(len(damaged), at + 3)))
        # Half of the time lengths stay right, so that the damage is seen further inside.
        size = end - at if data.draw(st.booleans()) else data.draw(st.integers(0, 4))
        damaged[at:end] = data.draw(st.binary(min_size=size, max_size=size))
    try:
        redacted = REDACTORS[policy].redact(signal, bytes(damaged))
    except Malformed:
        return
    output = REQUESTS[signal].FromString(redacted.payload)
    assert unknown_fields(output) == 0
    assert records(output) == redacted.records_out
    assert redacted.records_in - redacted.records_out == sum(redacted.dropped.values())
    assert REDACTORS[policy].redact(signal, redacted.payload).payload == redacted.payload
    assert "error" not in {reason for _, reason in redacted.actions} | set(redacted.dropped)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("signal", SIGNALS)
@given(garbage=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_garbage_is_malformed_or_safe(policy: str, signal: Signal, garbage: bytes) -> None:
    """Random bytes raise Malformed and nothing else, or leave something that OTLP's own classes can read."""
    try:
        redacted = REDACTORS[policy].redact(signal, garbage)
    except Malformed:
        return
    assert unknown_fields(REQUESTS[signal].FromString(redacted.payload)) == 0
