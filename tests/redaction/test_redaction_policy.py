"""Policy files: every mistake is one line that names the key, and no file can do harm."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidecar.configuration.strict_yaml import MAX_BYTES
from sidecar.conventions import POLICIES
from sidecar.redaction import Policy, PolicyError, Redactor
from sidecar.redaction.grammar import Words
from sidecar.redaction.table import TABLE, Decision

SMALL = """\
version: 1
attributes:
  tenant.id: {type: string, shape: tenant, max_length: 10}
events: {}
resource:
fields:
  Metric.name: {shape: identifier, max_length: 64}
"""


def mistakes(content: str | bytes) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        Policy.parse(content.encode() if isinstance(content, str) else content)
    assert str(caught.value) == "\n".join(caught.value.mistakes)
    assert all("\n" not in mistake for mistake in caught.value.mistakes)
    return tuple(re.sub(r"\Aline \d+: ", "", mistake) for mistake in caught.value.mistakes)


def with_rule(rule: str, section: str = "attributes", key: str = "a.key") -> str:
    sections = {name: f"{name}: {{}}" for name in ("attributes", "events", "resource", "fields")}
    sections[section] = f"{section}:\n  {key}: {rule}"
    return "\n".join(("version: 1", *sections.values()))


def test_a_small_policy_is_enough(tmp_path: Path) -> None:
    """What has no rule has no way out; sections may be empty."""
    file = tmp_path / "policy.yaml"
    file.write_text(SMALL)
    policy = Policy.load(file)
    assert list(policy.attributes) == ["tenant.id"]
    assert (policy.events, policy.resource) == ({}, {})
    Redactor(policy)


def test_the_default_policy_can_be_copied_and_loaded(tmp_path: Path) -> None:
    """The file in the package is a policy like any other."""
    file = tmp_path / "policy.yaml"
    file.write_bytes((resources.files("sidecar.redaction") / "policies/default.yaml").read_bytes())
    assert Policy.load(file).attributes.keys() == Policy.default().attributes.keys()


def test_ranges_may_be_negative() -> None:
    """An integer on the wire has no sign of its own: ten bytes of it are a small negative number."""
    redactor = Redactor(Policy.parse(with_rule("{type: int, min: -5, max: 5}").encode()))
    for number, stays in ((-6, False), (-5, True), (0, True), (5, True), (6, False), (-(2**63), False)):
        request = ExportTraceServiceRequest()
        span = request.resource_spans.add().scope_spans.add().spans.add()
        span.attributes.add(key="a.key").value.int_value = number
        redacted = redactor.redact("traces", request.SerializeToString())
        assert redacted.actions == ({} if stays else {("drop", "range"): 1})


MISSPELT = {
    "a section": (SMALL.replace("events", "event"), "event: is not known; did you mean events?"),
    "a key": (
        with_rule("{type: string, shape: tenant, max_lenght: 10}"),
        "attributes.a.key.max_lenght: is not known; did you mean max_length?",
    ),
    "an extra key": (with_rule("{type: bool, max: 10}"), "attributes.a.key.max: is not known"),
    "a type": (with_rule("{type: strings}"), "attributes.a.key.type: is not known; did you mean string?"),
    "a shape": (
        with_rule("{type: string, shape: identifer, max_length: 3}"),
        "attributes.a.key.shape: is not known; did you mean identifier?",
    ),
    "a field": (
        with_rule("{shape: identifier, max_length: 3}", "fields", "Span.nam"),
        "fields.Span.nam: is not known; did you mean Span.name?",
    ),
    "a field that is no text": (
        with_rule("{shape: identifier, max_length: 3}", "fields", "Span.trace_id"),
        "fields.Span.trace_id: is not known; did you mean Span.name?",
    ),
}


@pytest.mark.parametrize(("content", "line"), MISSPELT.values(), ids=MISSPELT)
def test_unknown_words_are_mistakes_with_a_suggestion(content: str, line: str) -> None:
    """Nothing that was meant to protect is silently ignored."""
    assert any(mistake.startswith(line) for mistake in mistakes(content))


WRONG = {
    "{type: string, shape: tenant}": ".max_length: is missing",
    "{shape: tenant}": ".type: is missing",
    "string": ": must be a mapping",
    "[string]": ": must be a mapping",
    "{type: string, shape: tenant, max_length: '10'}": ".max_length: must be a whole number",
    "{type: string, shape: tenant, max_length: true}": ".max_length: must be a whole number",
    "{type: string, shape: tenant, max_length: 0}": ".max_length: must be a whole number from 1 to 1024",
    "{type: string, shape: tenant, max_length: 1025}": ".max_length: must be a whole number from 1 to 1024",
    "{type: string, shape: tenant, max_length: 1.5}": ".max_length: must be a whole number",
    "{type: string, shape: enum}": ".values: is missing",
    "{type: string, shape: enum, values: []}": ".values: must be a list of different strings",
    "{type: string, shape: enum, values: [yes, no]}": ".values: must be a list of different strings",
    "{type: string, shape: enum, values: [a, a]}": ".values: must be a list of different strings",
    "{type: string, shape: enum, values: ['']}": ".values: must be a list of different strings",
    "{type: string, shape: enum, values: a}": ".values: must be a list of different strings",
    "{type: string, shape: tenant, max_length: 9, values: [a]}": ".values: is not known",
    "{type: 'string[]', shape: unit, max_items: 64,max_length: 17}": ".max_length: must be a whole number from 1 to 16",
    "{type: int, min: 0}": ".max: is missing",
    "{type: int, min: 5, max: 4}": ": min must be at most max",
    "{type: int, min: 0, max: 9223372036854775808}": ".max: must be a whole number of 64 bits",
    "{type: int, min: 0, max: 1.5}": ".max: must be a whole number",
    "{type: double, min: .nan, max: 1}": ".min: must be a finite number",
    "{type: double, min: 0, max: .inf}": ".max: must be a finite number",
}  # fmt: skip


@pytest.mark.parametrize(("rule", "line"), WRONG.items())
def test_a_wrong_rule_is_one_line_with_its_key(rule: str, line: str) -> None:
    """Types are not converted, limits are limits, rules do not contradict themselves."""
    (mistake,) = mistakes(with_rule(rule))
    assert mistake.startswith(f"attributes.a.key{line}")


def test_a_field_says_mask_or_drop() -> None:
    """There is no third way to treat what does not fit; that it passes is not one."""
    rule = "{shape: identifier, max_length: 9, misfit: keep}"
    assert mistakes(with_rule(rule, "fields", "Span.name")) == ("fields.Span.name.misfit: must be one of drop, mask",)


def test_all_mistakes_are_found_at_once() -> None:
    """One reading, one line each."""
    content = (
        SMALL.replace("tenant,", "tenent,").replace("Metric.name", "Metric.nme").replace("version: 1", "version: 2")
    )
    assert len(mistakes(content)) == 3


TRAPS = {
    "a key twice": SMALL.replace("events: {}", "events: {a: {type: bool}, a: {type: bool}}"),
    "a section twice": SMALL + "events: {}\n",
    "anchors": SMALL.replace("events: {}", "events: &e {}"),
    "an alias bomb": "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
    "a merge": SMALL.replace("events: {}", "events: {<<: {a: {type: bool}}}"),
    "a python object": "!!python/object/apply:os.system ['true']",
    "a tag": SMALL.replace("version: 1", "version: !!int 1"),
    "two documents": SMALL + "---\n" + SMALL,
    "depth": "[" * 20_000,
    "a list": "- 1",
    "a word": "policy",
    "nothing": "",
    "a key that is a list": "{[a]: 1}",
    "an open quote": "version: '1",
    "a number as a key": SMALL.replace("events: {}", "events: {1: {type: bool}}"),
    "an empty key": SMALL.replace("events: {}", "events: {'': {type: bool}}"),
    "no version": SMALL.replace("version: 1\n", ""),
    "version true": SMALL.replace("version: 1", "version: true"),
    "a missing section": SMALL.replace("events: {}\n", ""),
    "a section that is a list": SMALL.replace("events: {}", "events: []"),
    "control characters": SMALL + "\x00",
    "not utf-8": b"version: \xff\xfe\xfa",
    "a date that is none": SMALL.replace("version: 1", "version: 2024-99-99"),
}


@pytest.mark.parametrize("content", TRAPS.values(), ids=TRAPS)
def test_traps_of_yaml_are_mistakes(content: str | bytes) -> None:
    """What other loaders forgive, unfold or execute is refused in one line."""
    assert mistakes(content)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@settings(max_examples=200, deadline=None)
def test_any_file_is_a_policy_or_a_mistake(content: bytes) -> None:
    """Nothing but PolicyError is ever raised."""
    with pytest.raises(PolicyError):
        Policy.parse(content)


def unreadable(folder: Path) -> Path:
    return folder / "missing.yaml"


def directory(folder: Path) -> Path:
    return folder


def oversized(folder: Path) -> Path:
    file = folder / "large.yaml"
    file.write_bytes(SMALL.encode() + b"#" * MAX_BYTES)
    return file


@pytest.mark.parametrize("make", [unreadable, directory, oversized])
def test_a_file_that_cannot_be_read_is_a_mistake_with_its_name(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """Missing, a directory, too large."""
    file = make(tmp_path)
    with pytest.raises(PolicyError) as caught:
        Policy.load(file)
    (line,) = caught.value.mistakes
    assert line.startswith(f"{file}: ")


def test_every_line_of_a_file_with_mistakes_names_the_file(tmp_path: Path) -> None:
    """So that a line makes sense in a log."""
    file = tmp_path / "policy.yaml"
    file.write_text(SMALL.replace("identifier", "idntifier").replace("tenant,", "tenent,"))
    with pytest.raises(PolicyError) as caught:
        Policy.load(file)
    assert [line.split(": ")[0] for line in caught.value.mistakes] == [f"{file}:3", f"{file}:7"]


def test_mistakes_come_with_their_line() -> None:
    """The line of the key itself, or of what is around it when the key is missing; mistakes of YAML, too."""
    content = """\
version: 1
attributes:
  tenant.id:
    type: string
    shape: tenent
    max_length: 0
  a.type: {type: int, max: 3}
events: {}
resource: {}
fields: {}
evnts: {}
"""
    with pytest.raises(PolicyError) as caught:
        Policy.parse(content.encode())
    assert caught.value.mistakes == (
        "line 11: evnts: is not known; did you mean events?",
        "line 5: attributes.tenant.id.shape: is not known; did you mean tenant?",
        "line 7: attributes.a.type.min: is missing; must be a whole number of 64 bits",
    )
    with pytest.raises(PolicyError, match=r"\Aline 3: 'a' stands twice\Z"):
        Policy.parse(b"version: 1\na: 1\na: 2\n")


def test_every_mistake_of_a_rule_is_told() -> None:
    """One reading is enough to mend a file; what a misspelt word makes impossible to know is not guessed at."""
    assert mistakes(with_rule("{type: string, shape: operation, verbs: [], max_length: 0, min: 1}")) == (
        f"attributes.a.key.verbs: must be {Words.what}",
        "attributes.a.key.max_length: must be a whole number from 1 to 1024",
        "attributes.a.key.min: is not known",
    )
    assert mistakes(with_rule("{typ: string, shape: operation, verbs: []}")) == (
        "attributes.a.key.typ: is not known; did you mean type?",
    )


def test_rules_say_what_was_written() -> None:
    """A rule written down and read again is the same rule."""
    for name in POLICIES:
        policy = Policy.load(name)
        document: dict[str, object] = {"version": 1, "attributes": {}, "events": {}, "resource": {}, "fields": {}}
        for (section, key), rule in policy.rules.items():
            document[section][key] = rule.written  # type: ignore[index]
        again = Policy.parse(yaml.safe_dump(document).encode())
        assert {place: rule.written for place, rule in again.rules.items()} == {
            place: rule.written for place, rule in policy.rules.items()
        }
        assert again.digest == policy.digest


def test_the_digest_is_of_what_the_policy_decides() -> None:
    """Layout, comments and order don't change it; every decision does, also one about a field that has no rule."""
    digest = Policy.parse(SMALL.encode()).digest
    assert re.fullmatch(r"[0-9a-f]{12}", digest)
    same = "# a comment\n" + SMALL.replace("{type: string, shape: tenant,", "{shape: tenant,   type: string,")
    assert Policy.parse(same.encode()).digest == digest
    others = [
        SMALL.replace("max_length: 10", "max_length: 11"),
        SMALL.replace("shape: tenant", "shape: identifier"),
        SMALL.replace("tenant.id", "tenant.name"),
        SMALL.replace("64}", "64, misfit: mask}"),
        SMALL.replace("events: {}", "events: {tenant.id: {type: bool}}"),
        SMALL.replace("events: {}", "events: {tenant.id: {type: string, shape: enum, values: [a, b]}}"),
        SMALL.replace("events: {}", "events: {tenant.id: {type: string, shape: enum, values: [a]}}"),
    ]
    assert len({digest, *(Policy.parse(other.encode()).digest for other in others)}) == 1 + len(others)


def test_the_digest_counts_the_fields_of_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that treats a field in another way gives every policy another digest."""
    digest = Policy.default().digest
    monkeypatch.setitem(TABLE, "Span.kind", Decision.DROP)
    assert Policy.default().digest != digest


@pytest.mark.parametrize("name", POLICIES)
def test_shipped_policies_are_loaded_by_name(name: str) -> None:
    """The name stands for the file in the package; it tells itself apart by its digest."""
    policy = Policy.load(name)
    assert policy.source == name
    assert [Policy.load(other).digest for other in POLICIES].count(policy.digest) == 1


def test_a_file_called_like_a_shipped_policy_needs_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is always the shipped one: a file that lies around does not change what is meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strict").write_text(SMALL)
    assert Policy.load("strict").source == "strict"
    assert len(Policy.load("./strict").rules) == len(Policy.load(Path("strict")).rules) == 2
