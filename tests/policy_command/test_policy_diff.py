"""`tenantscope policy diff`: never calls a change harmless that lets more out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_shell import SMALL, policy, written

from sidecar.redaction import Policy
from sidecar.redaction.shapes import SHAPES
from tenantscope.policy.difference import WIDER, changes
from tenantscope.policy.probe import Probe, Target

CHANGES = [
    ("max_length: 10}", "max_length: 11}", "+ attributes.tenant.id: max_length: 10 -> 11", 1),
    ("max_length: 10}", "max_length: 9}", "- attributes.tenant.id: max_length: 10 -> 9", 0),
    ("min: 0, max: 100", "min: 1, max: 100", "- attributes.a.count: min: 0 -> 1", 0),
    ("min: 0, max: 100", "min: -1, max: 100", "+ attributes.a.count: min: 0 -> -1", 1),
    ("max_items: 4", "max_items: 5", "+ attributes.a.list: max_items: 4 -> 5", 1),
    ("[b, a]", "[b, a, c]", "+ attributes.a.word: values: c added", 1),
    ("[b, a]", "[b]", "- attributes.a.word: values: a taken out", 0),
    ("verbs: [chat]", "verbs: [chat, embeddings]", "+ fields.Span.name: verbs: embeddings added", 1),
    (", misfit: mask", "", "- fields.Span.name: misfit: mask -> drop", 0),
    ("64}\n", "64, misfit: mask}\n", "+ fields.Metric.name: misfit: drop -> mask", 1),
    ("  a.flag: {type: bool}\n", "", "- attributes.a.flag: no longer allowed", 0),
    ("events: {}", "events: {b: {type: bool}}", "+ events.b: allowed now: true or false", 1),
    ("{type: bool}", "{type: int, min: 0, max: 1}", "+ attributes.a.flag: another type: bool -> int", 1),
    ("shape: tenant", "shape: identifier", "- attributes.tenant.id: another shape: of shape tenant", 0),
    ("shape: tenant", "shape: free", "- attributes.tenant.id: another shape: of shape tenant", 0),
    (
        "{shape: identifier, max_length: 64}",
        "{shape: version, max_length: 64}",
        "+ fields.Metric.name: another shape",
        1,
    ),
    ("shape: enum, values: [b, a]", "shape: identifier, max_length: 1", "+ attributes.a.word: another shape", 1),
    ("shape: tenant, max_length: 10", "shape: enum, values: [acme]", "- attributes.tenant.id: another shape", 0),
    ("shape: tenant, max_length: 10", "shape: enum, values: [b@ab.co]", "+ attributes.tenant.id: another shape", 1),
]


@pytest.mark.parametrize(("old", "new", "line", "status"), CHANGES)
def test_a_change_is_a_line_with_its_direction(tmp_path: Path, old: str, new: str, line: str, status: int) -> None:
    """Plus is more permissive, minus is less; status 1 when anything is more."""
    before = written(tmp_path, SMALL, "old.yaml")
    after = written(tmp_path, SMALL.replace(old, new, 1), "new.yaml")
    ran = policy("diff", before, after)
    assert (ran.status, ran.err) == (status, "")
    change, verdict = ran.out.splitlines()
    assert change.startswith(line)
    assert verdict.startswith("1 more permissive, 0 less" if status else "0 more permissive, 1 less")


def test_layout_is_no_difference(tmp_path: Path) -> None:
    """Comments and order change nothing, and the digests agree."""
    after = written(tmp_path, "# a comment\n" + SMALL.replace("[b, a]", "[a, b]"), "new.yaml")
    ran = policy("diff", written(tmp_path, SMALL), after)
    digest = Policy.load(after).digest
    assert (ran.status, ran.out) == (0, f"0 more permissive, 0 less; digest {digest} -> {digest}\n")


def test_a_change_names_the_line_where_it_is_written(tmp_path: Path) -> None:
    """In the new file; of what is gone, in the old one."""
    before = written(tmp_path, SMALL, "old.yaml")
    after = written(tmp_path, SMALL.replace("tenant.id", "tenant.name"), "new.yaml")
    added, gone, _ = policy("diff", before, after).out.splitlines()
    assert added.endswith(f"({after}:3)")
    assert gone == f"- attributes.tenant.id: no longer allowed  ({before}:3)"


def test_the_strict_policy_is_stricter_and_the_genai_one_is_not() -> None:
    """In everything; and the way back from strict is more permissive in everything."""
    assert policy("diff", "default", "strict").status == 0
    assert policy("diff", "default", "genai").status == 1
    assert policy("diff", "genai", "default").status == 0
    assert {change.more for change in changes(Policy.load("strict"), Policy.default())} == {True}


def test_a_policy_that_cannot_be_used_is_no_answer(tmp_path: Path) -> None:
    """Status 2: CI must not take it for one that is not more permissive, nor for one that is."""
    assert policy("diff", "default", written(tmp_path, "version: 2")).status == 2


def with_rule(rule: dict[str, Any], section: str) -> Policy:
    document: dict[str, Any] = {"version": 1, "attributes": {}, "events": {}, "resource": {}, "fields": {}}
    document[section]["Span.name"] = rule
    return Policy.parse(yaml.safe_dump(document).encode())


TEXTS = [
    "", "a", "b", "abc", "chat", "chat a", "chat b-c", "process a", "INFO", "warn2", "1.37.0", "a+b", "a_b.c", "a/b",
    "%", "two words", "Müller", "bob@ab.co", "123456789", "AKIAIOSFODNN7EXAMPLE", "redacted", "a" * 20,
    "0b5cf5b1-0bfb-4c2e-8b8e-3b6f2c1f4a11", "https://opentelemetry.io/schemas/1.37.0", "localhost", "10.0.0.1",
]  # fmt: skip
VALUES = [*TEXTS, 0, 1, -1, 7, 100, 0.0, 0.5, 7.0, True, ["a"], ["a", "b"], ["chat a"], ["a"] * 4, []]
WORDS = st.lists(st.sampled_from([text for text in TEXTS if text]), min_size=1, max_size=3, unique=True)
LENGTHS = {"max_length": st.sampled_from([1, 10, 64])}
SHAPED = st.one_of(
    st.fixed_dictionaries({"shape": st.sampled_from(sorted(SHAPES)), **LENGTHS}),
    st.fixed_dictionaries({"shape": st.just("enum"), "values": WORDS}),
    st.fixed_dictionaries(
        {
            "shape": st.just("operation"),
            "verbs": st.sampled_from([["chat"], ["process"], ["chat", "process"]]),
            **LENGTHS,
        }
    ),
)
BOUNDS = st.sampled_from([(0, 1), (0, 7), (-1, 100), (1, 100)])
ATTRIBUTE = st.one_of(
    SHAPED.map(lambda text: {"type": "string", **text}),
    st.builds(lambda text, items: {"type": "string[]", **text, "max_items": items}, SHAPED, st.sampled_from([1, 2, 4])),
    st.builds(
        lambda kind, bounds: {"type": kind, "min": bounds[0], "max": bounds[1]},
        st.sampled_from(["int", "double"]),
        BOUNDS,
    ),
    st.just({"type": "bool"}),
)
FIELD = st.builds(lambda text, misfit: {**text, "misfit": misfit}, SHAPED, st.sampled_from(["drop", "mask"]))


@given(pair=st.tuples(ATTRIBUTE, ATTRIBUTE))
@settings(max_examples=200, deadline=None)
def test_an_attribute_lets_more_out_only_where_the_comparison_says_so(pair: tuple[dict, dict]) -> None:
    """By the engine: what passes the new rule and not the old one is found, unless the answer was `more` already."""
    holds(*pair, "attributes", Target("Span.attributes", "Span.name"), VALUES)


@given(pair=st.tuples(FIELD, FIELD))
@settings(max_examples=200, deadline=None)
def test_a_field_lets_more_out_only_where_the_comparison_says_so(pair: tuple[dict, dict]) -> None:
    """The same for texts of OTLP, with masks."""
    holds(*pair, "fields", Target("Span.name"), TEXTS)


def holds(old: dict, new: dict, section: str, target: Target, values: list[Any]) -> None:
    before, after = with_rule(old, section), with_rule(new, section)
    found = changes(before, after)
    assert bool(found) == (before.digest != after.digest)
    if any(change.more for change in found):
        return
    earlier, later = Probe(before), Probe(after)
    for value in values:
        if later.ask(target, "traces", value).verdict == "passes":
            assert earlier.ask(target, "traces", value).verdict == "passes", value
        if later.ask(target, "traces", value).verdict == "masked":
            assert earlier.ask(target, "traces", value).verdict != "dropped", value


PATTERNS = {
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{11}a",
    "hostname": r"[A-Za-z0-9][A-Za-z0-9._\-]{0,20}",
    "severity": r"(?:TRACE|debug|Warning|fatal)[1-4]?",
    "schema_url": r"https://opentelemetry\.io/schemas/[0-9]{1,2}\.[0-9]{1,3}\.[0-9]{1,3}",
    "identifier": r"[A-Za-z0-9_][A-Za-z0-9_.:/\-]{0,20}",
    "version": r"[A-Za-z0-9][A-Za-z0-9.+_\-]{0,20}",
    "unit": r"[A-Za-z0-9%/*.^'\[\]{}_\-]{0,20}",
    "operation": r"(?:chat|process) [A-Za-z0-9_][A-Za-z0-9_.:/\-]{0,20}",
    "free": r"[ -~äß]{0,20}",
}


@pytest.mark.parametrize(("narrow", "wide"), [(narrow, wide) for narrow, wider in WIDER.items() for wide in wider])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_wider_shape_lets_pass_what_the_narrower_one_does(narrow: str, wide: str, data: st.DataObject) -> None:
    """Shape and search for secrets together, with texts made for the narrower shape."""
    text = data.draw(st.from_regex(PATTERNS[narrow], fullmatch=True))
    rule = {"shape": narrow, "max_length": 64} | ({"verbs": ["chat", "process"]} if narrow == "operation" else {})
    target = Target("Span.name")
    if Probe(with_rule(rule, "fields")).ask(target, "traces", text).verdict == "passes":
        wider = with_rule({"shape": wide, "max_length": 64}, "fields")
        assert Probe(wider).ask(target, "traces", text).verdict == "passes"


TIERED = (
    SMALL
    + """\
  Span.Event.name: {action: truncate, shape: identifier, max_length: 64, length: 8}
patterns: {order: "ORD-[0-9]+"}
tiers:
  quiet:
    tenants: [bank]
    attributes:
      a.count: {action: mask}
      a.flag: {action: drop}
"""
)
TIER_CHANGES = [
    ("a.count: {action: mask}", "a.count: {action: hash}", "+ tiers.quiet.attributes.a.count: action: mask -> hash", 1),
    ("a.count: {action: mask}", "a.count: {action: drop}", "- tiers.quiet.attributes.a.count: action: mask -> drop", 0),
    ("      a.flag: {action: drop}\n", "", "+ tiers.quiet.attributes.a.flag: action: drop -> allow", 1),
    ("  a.share: {type: double, min: 0, max: 1}", "  a.share: {action: pseudonymise}",
     "- attributes.a.share: action: allow -> pseudonymise", 0),
    ("[bank]", "[bonk]", "+ tiers.quiet.tenants: other tenants", 1),
    ("ORD-", "ORDER-", "+ patterns.order: another expression", 1),
    ('patterns: {order: "ORD-[0-9]+"}', "patterns: {}", "+ patterns.order: no longer looked for", 1),
    ("{order:", "{more: x, order:", "- patterns.more: looked for now", 0),
    ("length: 8}", "length: 9}", "+ fields.Span.Event.name: length: 8 -> 9", 1),
    ("64, length: 8}", "63, length: 8}", "- fields.Span.Event.name: max_length: 64 -> 63", 0),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "status"), TIER_CHANGES)
def test_actions_tiers_and_patterns_are_compared(tmp_path: Path, old: str, new: str, line: str, status: int) -> None:
    """From drop over mask, pseudonym, hash and cut to allow, more gets out; for a tier what differs for it alone."""
    assert old in TIERED
    before = written(tmp_path, TIERED, "old.yaml")
    after = written(tmp_path, TIERED.replace(old, new, 1), "new.yaml")
    ran = policy("diff", before, after)
    assert (ran.status, ran.err) == (status, "")
    change, _ = ran.out.splitlines()
    assert change.startswith(line)


def test_a_rule_that_drops_is_no_difference_to_none(tmp_path: Path) -> None:
    """It only says so."""
    before = written(tmp_path, SMALL, "old.yaml")
    after = written(tmp_path, SMALL.replace("events: {}", "events: {b: {action: drop}}"), "new.yaml")
    assert policy("diff", before, after).status == 0
    assert policy("diff", after, before).status == 0


def test_a_first_tier_that_says_less_is_less(tmp_path: Path) -> None:
    """Its tenants come from the rules for everybody; the way back says more."""
    tiers = "tiers: {quiet: {tenants: [bank], attributes: {a.count: {action: mask}}}}\n"
    before = written(tmp_path, SMALL, "old.yaml")
    after = written(tmp_path, SMALL + tiers, "new.yaml")
    assert policy("diff", before, after).status == 0
    back = policy("diff", after, before)
    assert back.status == 1
    assert back.out.startswith("+ tiers.quiet.attributes.a.count: action: mask -> allow")
