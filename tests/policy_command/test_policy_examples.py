"""`tenantscope policy test`: a file of examples, held against the engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from policy_shell import SMALL, policy, written

from sidecar.conventions import POLICIES


@pytest.mark.parametrize("name", POLICIES)
def test_the_shipped_examples_hold_for_their_policy(name: str, tmp_path: Path) -> None:
    """By name, and as the file that `show --examples` prints."""
    ran = policy("test", name, "--policy", name)
    assert (ran.status, ran.err) == (0, "")
    assert "examples, all as expected" in ran.out
    file = written(tmp_path, policy("show", name, "--examples").out, "examples.yaml")
    assert policy("test", file, "--policy", name).status == 0


def test_examples_tell_policies_apart() -> None:
    """What the default policy lets out, the strict one does not: the examples say which."""
    ran = policy("test", "default", "--policy", "strict")
    assert ran.status == 1
    assert "Span.attributes[gen_ai.request.model] of traces: expected passes, was dropped:unlisted" in ran.out


def test_a_failure_names_the_line_and_not_the_value(tmp_path: Path) -> None:
    """Examples may be real ones: what was in them is not repeated in a log of CI."""
    content = """\
examples:
  - {place: span, key: tenant.id, value: acme, expect: dropped}
  - {place: span, key: tenant.id, value: b@ab.co, expect: passes}

  - {place: span, key: tenant.id, value: b@ab.co, expect: masked:card}
  - {place: span, key: tenant.id, value: b@ab.co, expect: masked}
  - {key: Span.trace_id, value: not hexadecimal, expect: passes}
"""
    file = written(tmp_path, content, "examples.yaml")
    ran = policy("test", file, "--policy", written(tmp_path, SMALL))
    assert ran.status == 1
    *failed, verdict = ran.out.splitlines()
    assert failed == [
        f"{file}:2: Span.attributes[tenant.id] of traces: expected dropped, was passes",
        f"{file}:3: Span.attributes[tenant.id] of traces: expected passes, was masked:email",
        f"{file}:5: Span.attributes[tenant.id] of traces: expected masked:card, was masked:email",
        f"{file}:7: Span.trace_id of traces: expected passes, was cannot be sent:value",
    ]
    assert verdict.startswith("4 of 5 examples fail; policy ")


KINDS = {
    "value: 7, key: a.count": "passes",
    "value: '7', key: a.count": "dropped:type",
    "value: 7.0, key: a.count": "dropped:type",
    "value: 1.0, key: a.share": "passes",
    "value: true, key: a.flag": "passes",
    "value: [x, y], key: a.list": "passes",
    "value: [x, [y]], key: a.list": "dropped:type",
    "value: {x: y}, key: a.list": "dropped:type",
    "value: null, key: tenant.id": "passes",
    "value: 18446744073709551616, key: a.count": "cannot be sent",
}


@pytest.mark.parametrize(("said", "outcome"), KINDS.items())
def test_values_have_the_types_of_yaml(tmp_path: Path, said: str, outcome: str) -> None:
    """A number in quotes is a string, as it is on the wire."""
    file = written(tmp_path, f"examples: [{{place: log, {said}, expect: masked:never}}]", "examples.yaml")
    ran = policy("test", file, "--policy", written(tmp_path, SMALL))
    assert f"expected masked:never, was {outcome}" in ran.out


MISTAKES = {
    "{place: spam, key: a, value: b, expect: passes}": "place: is not known; did you mean span?; must be one of span,",
    "{key: a, value: b, expect: passes}": "place: is missing; must be one of span,",
    "{place: span, key: a, value: b, expect: kept}": "expect: must be passes, dropped, masked",
    "{place: span, key: a, value: b, expect: passes:x}": "expect: must be passes, dropped, masked",
    "{place: span, key: a, expect: passes}": "value: is missing",
    "{place: span, key: 1, value: b, expect: passes}": "key: must be a string",
    "{place: span, key: a, value: b, expct: passes}": "expct: is not known; did you mean expect?",
    "{place: span, signal: logs, key: a, value: b, expect: passes}": "signal: logs have no Span.attributes",
    "{place: log, signal: log, key: a, value: b, expect: passes}": "signal: must be one of traces, metrics, logs",
    "passes": "must be a mapping",
}


@pytest.mark.parametrize(("example", "line"), MISTAKES.items())
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, example: str, line: str) -> None:
    """An example that cannot be understood is not one that passed: status 2."""
    file = written(tmp_path, f"examples:\n  - {example}\n", "examples.yaml")
    ran = policy("test", file)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"tenantscope policy: {file}:2: {line}")


@pytest.mark.parametrize("content", ["", "examples:", "examples: []", "examples: {}", "example: []", "[", "a: 1\na: 2"])
def test_a_file_without_examples_is_a_mistake(tmp_path: Path, content: str) -> None:
    """Nothing tested is nothing proven."""
    assert policy("test", written(tmp_path, content, "examples.yaml")).status == 2
    assert policy("test", tmp_path / "none.yaml").status == 2


def test_an_example_may_say_whose_it_is(tmp_path: Path) -> None:
    """Then the rules of the tenant's tier count."""
    tiers = "tiers: {quiet: {tenants: [bank], attributes: {a.word: {action: hash}}}}\n"
    file = written(
        tmp_path,
        "examples:\n"
        "  - {place: span, key: a.word, value: a, expect: passes}\n"
        "  - {place: span, key: a.word, value: a, tenant: acme, expect: passes}\n"
        "  - {place: span, key: a.word, value: a, tenant: bank, expect: hashed:policy}\n"
        "  - {place: span, key: a.word, value: a, tenant: bank, expect: passes}\n",
        "examples.yaml",
    )
    ran = policy("test", file, "--policy", written(tmp_path, SMALL + tiers))
    assert (ran.status, ran.out.count("\n")) == (1, 2)
    assert ran.out.startswith(f"{file}:5: Span.attributes[a.word] of traces: expected passes, was hashed:policy")
