"""`tenantscope policy explain`: what happens to a key, why, and where that is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_shell import SMALL, policy, written

from sidecar.conventions import POLICIES
from sidecar.redaction import Policy
from sidecar.redaction.schema import fields
from sidecar.redaction.table import TABLE, Decision
from tenantscope.policy.explanation import explain, try_value
from tenantscope.policy.probe import ATTRIBUTE_LISTS, PLACES, Probe, Target, resolve

SHIPPED = {name: Policy.load(name) for name in POLICIES}
PROBES = {name: Probe(loaded) for name, loaded in SHIPPED.items()}


def explained(file: Path, *arguments: str) -> list[str]:
    ran = policy("explain", *arguments, "--policy", str(file))
    assert (ran.status, ran.err) == (0, "")
    return [" ".join(line.split()) for line in ran.out.splitlines()]


def test_an_attribute_is_explained_for_every_place(tmp_path: Path) -> None:
    """Places that are treated alike share a line; each line names the rule, or why there is none, and the line."""
    file = written(tmp_path, SMALL)
    assert explained(file, "a.count") == [
        "a.count",
        f"span, metric, log allowed a whole number from 0 to 100 ({file}:4)",
        f"event dropped has no rule under `events`, and what has none is dropped ({file}:9)",
        f"resource dropped has no rule under `resource`, and what has none is dropped ({file}:10)",
        "link, scope, exemplar, metadata dropped no policy lets it out (OTLP's field Span.Link.attributes)",
    ]


def test_signal_and_place_narrow_it_down(tmp_path: Path) -> None:
    """Only what was asked for is said; what there is not is an error."""
    file = written(tmp_path, SMALL)
    assert len(explained(file, "a.count", "--where", "event")) == 2
    assert explained(file, "a.count", "--signal", "logs")[1].startswith("log allowed")
    ran = policy("explain", "a.count", "--signal", "logs", "--where", "span")
    assert (ran.status, ran.out, ran.err) == (2, "", "tenantscope policy: logs have no place called span\n")
    assert policy("explain", "Span.name", "--signal", "logs").status == 2
    assert policy("explain", "Span.name", "--where", "event").status == 2


FIELDS = [
    ("LogRecord.body", "dropped no policy lets it out (OTLP's field LogRecord.body)"),
    ("Span.Event.exception.message", "dropped has no rule under `events`, and what has none is dropped ("),
    (
        "Span.kind",
        "allowed a number of its type; an enumeration if OTLP has a name for the value (OTLP's field Span.kind)",
    ),
    ("Span.name", "allowed of shape operation (chat), at most 64 characters, masked if a secret is found in it; what "),
    (
        "Metric.name",
        "allowed of shape identifier, at most 64 characters, masked if a secret is found in it; without it ",
    ),
    ("Span.Event.name", "dropped has no rule under `fields`, and what has none is dropped ("),
    ("Span.Link.attributes", "dropped no policy lets it out (OTLP's field Span.Link.attributes)"),
    ("Span.a.word", "allowed one of a, b ("),
]


@pytest.mark.parametrize(("key", "said"), FIELDS)
def test_a_field_of_otlp_is_explained_by_its_path(tmp_path: Path, key: str, said: str) -> None:
    """Fields and attributes alike; an attribute may have the name of its message in front."""
    title, line = explained(written(tmp_path, SMALL), key)
    assert title == key
    assert line.split(" ", 1)[1].startswith(said)


TRIED = [
    ("tenant.id", "acme", "passes"),
    ("tenant.id", "bob@example.com, the long-winded", "dropped (length)"),
    ("tenant.id", "a@b.example", "dropped (length)"),
    ("tenant.id", "b@ab.co", "masked (email); '[redacted:email]' leaves"),
    ("a.count", "7", "passes"),
    ("a.count", "101", "dropped (range)"),
    ("a.count", "many", "dropped (type)"),
    ("a.share", "0.5", "passes"),
    ("a.flag", "true", "passes"),
    ("a.flag", "7", "dropped (type)"),
    ("a.list", "stop, length", "passes"),
    ("a.list", "AKIAIOSFODNN, 7EXAMPLE", "masked (key); ['[redacted:key]'] leaves"),
    ("a.word", "c", "dropped (shape)"),
    ("a.other", "x", "dropped (unlisted)"),
    ("Span.name", "refund for bob", "masked (shape); 'redacted' leaves"),
    ("Span.trace_id", "aa" * 16, "passes"),
    ("Span.trace_id", "aa", "dropped (identity)"),
    ("Span.kind", "99", "dropped (range)"),
    ("LogRecord.body", "hello", "dropped (denied)"),
    ("Status.message", "hello", "dropped (denied)"),
    ("Exemplar.filtered_attributes.x", "hello", "dropped (denied)"),
]


@pytest.mark.parametrize(("key", "value", "outcome"), TRIED)
def test_a_value_is_tried_on_the_engine(tmp_path: Path, key: str, value: str, outcome: str) -> None:
    """The outcome is the engine's, with its reason; of a masked value only the mask is shown."""
    lines = explained(written(tmp_path, SMALL), key, "--value", value)
    assert re.sub(":[a-p]{12}]", "]", lines[2]) == f"this value: {outcome}"


def test_a_value_that_cannot_stand_there_is_an_error() -> None:
    """Ids are bytes, kinds are numbers, and a span is no value."""
    for key in ("Span.trace_id", "Span.kind", "ScopeSpans.spans"):
        ran = policy("explain", key, "--value", "xyz")
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)


def test_an_invalid_policy_explains_nothing(tmp_path: Path) -> None:
    """Its mistakes are told instead, on standard error."""
    ran = policy("explain", "tenant.id", "--policy", written(tmp_path, SMALL.replace("tenant,", "tenent,")))
    assert (ran.status, ran.out) == (2, "")
    assert "did you mean tenant?" in ran.err


def test_every_field_of_otlp_can_be_explained() -> None:
    """By every shipped policy; there is none without a decision."""
    for loaded in SHIPPED.values():
        for path in fields():
            (line,) = explain(loaded, path)
            assert line.where == (path,)


def test_places_are_all_lists_of_attributes() -> None:
    """All but those of data points that are decided like the ones that have a name here."""
    assert set(ATTRIBUTE_LISTS) - set(PLACES.values()) == {
        f"{kind}DataPoint.attributes" for kind in ("Histogram", "ExponentialHistogram", "Summary")
    }
    assert {TABLE[path] for path in set(ATTRIBUTE_LISTS) - set(PLACES.values())} == {Decision.ATTRIBUTES}


def test_a_key_is_read_as_the_nearest_message_says() -> None:
    """An event's attribute is not one of its span, and a key in small letters is an attribute anywhere."""
    assert resolve("Span.Event.exception.message") == Target("Span.Event.attributes", "exception.message")
    assert resolve("Span.Event") == Target("Span.attributes", "Event")
    assert resolve("gen_ai.tool.name") is None
    assert resolve("Status.other") is None


TEXTS = ["acme", "7", "0.5", "true", "send", "openai", "a b", "chat x", "bob@ab.co", "4111111111111111", "1.37.0"]
KEYS = sorted({key for loaded in SHIPPED.values() for section, key in loaded.rules if section != "fields"})
TEXT_PATHS = [path for path, decision in TABLE.items() if decision in (Decision.TEXT, Decision.NAME, Decision.DROP)]
SINGLE = [path for path in TEXT_PATHS if fields()[path].message_type is None or path == "LogRecord.body"]


@given(
    name=st.sampled_from(POLICIES),
    key=st.sampled_from([*KEYS, "not.listed", *SINGLE]),
    value=st.sampled_from(TEXTS),
)
@settings(max_examples=200, deadline=None)
def test_the_explanation_and_the_engine_agree(name: str, key: str, value: str) -> None:
    """What is said to be dropped never passes, for any value; and what is said to be allowed is not unlisted."""
    for each in explain(SHIPPED[name], key):
        if fields()[each.target.path].type == fields()[each.target.path].TYPE_BYTES or "strindex" in each.target.path:
            continue
        outcome = try_value(PROBES[name], each, value)
        if each.verdict == "dropped":
            assert outcome.verdict == "dropped"
            assert outcome.leaves in (None, "")  # what a field of text reads as when it is not there
        else:
            assert outcome.reason not in ("unlisted", "denied", "unknown", "error")


TIERED = (
    SMALL
    + """\
tiers:
  quiet:
    tenants: ["bank*"]
    attributes:
      a.list: {action: pseudonymise}
      a.word: {action: mask}
"""
)


def test_a_tenant_has_the_rules_of_his_tier(tmp_path: Path) -> None:
    """With the line of the tier's rule; for others the one for everybody."""
    file = written(tmp_path, TIERED)
    mine = policy("explain", "a.word", "--where", "span", "--tenant", "bank-1", "--value", "a", "--policy", file)
    assert mine.out.splitlines()[1].split() == [
        "span", "masked", "becomes", "`[redacted:policy]`,", "whatever", "it", "is", f"({file}:19)",
    ]  # fmt: skip
    assert "this value: masked (policy); '[redacted:policy]' leaves" in mine.out
    other = policy("explain", "a.word", "--where", "span", "--tenant", "acme", "--value", "a", "--policy", file)
    assert "this value: passes" in other.out
    changed = policy("explain", "a.list", "--where", "span", "--tenant", "bank", "--value", "bob", "--policy", file)
    assert "a text becomes a keyed digest under the tenant's own key" in changed.out
