"""Records that are judged by the hundred come out as they do one by one: the same bytes, the same counts."""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otlp_peers import attributes
from redaction_samples import CONTENT, ENCODINGS, RARE_ENCODINGS, SECRETS, TEXTS, Composer
from row_trials import Rows, outcome

from sidecar.conventions import POLICIES, SIGNALS, Signal
from sidecar.network.otlp import SERVICES
from sidecar.redaction import MasterKey, Policy, Pseudonyms, Redactor
from sidecar.redaction.bounds import TooMuch
from sidecar.redaction.engine import Pass
from sidecar.redaction.wire_format import delimited

NAMES = Pseudonyms(MasterKey("k1", bytes(32)))
KEYS = {name: [key for section, key in Policy.load(name).rules if section != "fields"] for name in POLICIES}
ALLOWED = frozenset({"acme", "globex", "unknown", ""})
TRACE, SPAN = bytes(range(200, 216)), bytes(range(200, 208))


@functools.cache
def redactor(policy: str) -> Redactor:
    return Redactor(Policy.load(policy), NAMES)


def same(payload: bytes, policy: str = "default", signal: Signal = "traces", tenants: Any = None) -> Any:
    """The outcome, which is the same both ways, twice: with what the first time left in memos, too."""
    long_way = outcome(Pass, redactor(policy), signal, payload, tenants)
    for _ in range(2):
        assert outcome(Rows, redactor(policy), signal, payload, tenants) == long_way
    return long_way


def spans(*contents: bytes) -> bytes:
    """A request with spans of these contents."""
    return delimited(1, delimited(2, b"".join(delimited(2, content) for content in contents)))


def string(key: str, value: str) -> bytes:
    """An attribute of a span."""
    return delimited(9, attributes({key: value})[0].SerializeToString())


def head(name: str = "chat m") -> bytes:
    return delimited(1, TRACE) + delimited(2, SPAN) + delimited(5, name.encode()) + b"\x30\x01"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("signal", SIGNALS)
@given(seed=st.integers(0, 2**48), scoped=st.booleans())
@settings(max_examples=80, deadline=None)
def test_rows_come_out_as_one_by_one(policy: str, signal: Signal, seed: int, scoped: bool) -> None:
    """Random requests of all signals, several in a row as if they were one, from senders of both kinds."""
    chance = random.Random(seed)
    payload = b"".join(
        Composer(chance.randrange(2**48), KEYS[policy]).request(signal).SerializeToString() for _ in range(3)
    )
    same(payload, policy, signal, ALLOWED if scoped else None)


@st.composite
def usual(draw: st.DrawFn) -> bytes:
    """Spans in the usual form, whose values are good, bad and ugly, and come more than once."""
    chance = random.Random(draw(st.integers(0, 2**48)))
    encodings = [*(ENCODINGS | RARE_ENCODINGS).values()]
    secrets = [*(SECRETS | CONTENT).values()]
    request: Any = SERVICES["traces"].request()
    scope = request.resource_spans.add().scope_spans.add()
    pool = [chance.choice(encodings)(chance.choice(secrets))[:200] for _ in range(3)]
    pool += [*chance.sample(TEXTS, 3), "Planner17", "gpt-4o-2024-08-06", "Planner-xyzzy", "sk-short", "a" * 130]
    for _ in range(chance.randint(1, 6)):
        span = scope.spans.add(trace_id=chance.randbytes(16), span_id=chance.randbytes(8), name=chance.choice(pool))
        span.start_time_unix_nano = chance.randrange(2**63)
        for _ in range(chance.randint(0, 6)):
            value = span.attributes.add(key=chance.choice([*KEYS["default"], "message", "tenant.id"])).value
            match chance.randrange(5):
                case 0:
                    value.int_value = chance.choice((0, 5, -1, 10**7, 4111111111111111))
                case 1:
                    value.double_value = chance.choice((0.5, -1.0, float("nan"), 1e300))
                case _:
                    value.string_value = chance.choice(pool)
        for _ in range(chance.randint(0, 2)):
            event = span.events.add(name=chance.choice(("exception", chance.choice(pool))))
            event.time_unix_nano = chance.choice((0, 1, chance.randrange(2**63)))
            event.attributes.extend(attributes({"exception.type": chance.choice(pool), "x": "y"}))
        if chance.random() < 0.3:
            span.links.add(trace_id=TRACE, span_id=SPAN, trace_state="a=b")
        if chance.random() < 0.3:
            span.status.code, span.status.message = 2, chance.choice(pool)
        if chance.random() < 0.5:
            span.flags = 257
    payload: bytes = request.SerializeToString()
    return payload


@given(payload=usual(), policy=st.sampled_from(POLICIES), scoped=st.booleans())
@settings(max_examples=400, deadline=None)
def test_spans_in_the_usual_form_come_out_as_one_by_one(payload: bytes, policy: str, scoped: bool) -> None:
    """Whatever their values are, under every policy."""
    same(payload, policy, "traces", ALLOWED if scoped else None)


@given(payload=usual(), data=st.data())
@settings(max_examples=300, deadline=None)
def test_damage_comes_out_as_one_by_one(payload: bytes, data: st.DataObject) -> None:
    """A byte changed, some cut out, some put in, in the middle of records in the usual form."""
    damaged = bytearray(payload)
    at = data.draw(st.integers(0, len(damaged)))
    stop = data.draw(st.integers(at, min(len(damaged), at + 3)))
    damaged[at:stop] = data.draw(st.binary(max_size=3))
    same(bytes(damaged))


def test_every_truncation_of_a_span_comes_out_as_one_by_one() -> None:
    """Whole to its parent or not: a record that ends anywhere."""
    content = (
        head() + b"\x39" + bytes(8) + string("tenant.id", "acme") + string("message", "x" * 200)
        + delimited(11, b"\x09" + bytes(8) + delimited(2, b"exception")) + b"\x50\x01" + b"\x85\x01\x01\x00\x00\x00"
    )  # fmt: skip
    for size in range(len(content) + 1):
        same(spans(head() + string("tenant.id", "acme"), content[:size], head()))
    payload = spans(content, content)
    for size in range(len(payload)):
        same(payload[:size])


def test_what_two_names_say_together_is_said_by_neither() -> None:
    """Names are looked at side by side: a secret that only their neighbourhood makes is none."""
    halves = ["AKIA", "IOSFODNN7", "EXAMPLE99", "4111", "1111", "11111", "bob_at_x", "com", "ey", "Jhbg"]
    payload = spans(*(head() + string("gen_ai.agent.name", half) for half in halves))
    left, *_ = same(payload)
    assert left == payload


def test_a_name_next_to_a_secret_is_not_taken_for_one_and_the_other_way() -> None:
    """Among hundreds of names, those with a secret are masked, and no other."""
    names = [f"planner-{number}" for number in range(300)]
    for at, secret in ((0, "AKIAIOSFODNN7EXAMPLE"), (150, "bob.at.corp.com"), (299, "ghp_abcdefghij0123456789")):
        names[at] = secret
    left, _, count, dropped, actions, *_ = same(spans(*(head() + string("gen_ai.agent.name", name) for name in names)))
    assert count == 300
    assert not dropped
    assert sum(actions.values()) == 3
    assert left.count(b"planner-") == 297


@pytest.mark.parametrize(
    "said",
    [
        string("tenant.id", "acme") + string("tenant.id", "globex"),
        string("tenant.id", "acme") * 2,
        b"\x50\x01\x50\x02",
        delimited(15, b"\x18\x02") * 2,
        delimited(5, b"chat again"),
        delimited(1, TRACE),
        delimited(9, b""),
        b"\x4a\x80\x00",
        delimited(9, delimited(1, b"tenant.id") + delimited(2, delimited(1, b"a")) * 2),
        delimited(9, b"\x0a\x89\x00tenant.id" + delimited(2, delimited(1, b"a"))),
        delimited(9, delimited(2, delimited(1, b"a")) + delimited(1, b"tenant.id")),
        delimited(16, b"later"),
    ],
)
def test_what_is_out_of_the_ordinary_comes_out_as_one_by_one(said: bytes) -> None:
    """Two of what there may be one of, odd lengths, another order, fields that nobody knows."""
    same(spans(head(), head() + said, head() + string("tenant.id", "acme"), said))


def test_an_event_is_not_known_by_another_with_more_times() -> None:
    """What was allowed behind a time says nothing of the same behind two."""
    time = b"\x09" + bytes(8)
    rest = delimited(2, b"exception")
    for content in (rest, time + rest, time + time + rest, time + rest + time, rest + time, time, time[:5], b""):
        same(spans(head() + delimited(11, content), head() + delimited(11, time + content)))


def test_one_of_two_kinds_of_number_is_enough() -> None:
    """A point that says both is no point in the usual form."""
    request: Any = SERVICES["metrics"].request()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="autogen.messages")
    for _ in range(3):
        metric.sum.data_points.add(time_unix_nano=1, as_int=5, attributes=attributes({"tenant.id": "acme"}))
    payload = request.SerializeToString()
    left, *_ = same(payload, signal="metrics")
    assert left == payload
    both = delimited(7, b"\x19" + bytes(8) + b"\x21" + bytes(8) + b"\x31" + bytes(8)) * 3  # not the metric's field
    for number in (1, 7):
        points = delimited(number, b"\x19" + bytes(8) + b"\x21" + bytes(8) + b"\x31" + bytes(8)) * 3
        named = delimited(1, b"autogen.messages") + delimited(7, points)
        same(delimited(1, delimited(2, delimited(2, named) + both)), signal="metrics")


def test_records_beyond_the_bounds_are_refused_both_ways() -> None:
    """Fifty thousand and one; a hundred thousand parts and one."""
    assert same(spans(*[b"\x30\x01"] * 50_001)) is TooMuch
    assert same(spans(*[delimited(11, b"\x09" + bytes(8) + b"\x12\x01x") * 100] * 1_001)) is TooMuch


def test_the_second_of_a_key_is_a_second_whatever_is_wrong_with_it() -> None:
    """And more attributes than a record may have are too many, also where each is told by its key."""
    fine, misfit = string("gen_ai.tool.name", "web"), string("gen_ai.tool.name", "two words")
    *_, actions, _, _ = same(spans(*[head() + fine + misfit] * 9))
    assert actions == {("drop", "duplicate"): 9}
    *_, actions, _, _ = same(spans(*[head() + misfit + fine] * 9))
    assert actions == {("drop", "shape"): 9}
    _, _, records_out, dropped, *_ = same(spans(*[head() + string("x", "y") * 1_001] * 9))
    assert (records_out, dropped) == (0, {"fields": 9})
