"""`tenantscope policy check` and `show`: what a policy is, or every mistake in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from policy_shell import SMALL, policy, written

from sidecar.conventions import POLICIES
from sidecar.redaction import Policy


@pytest.mark.parametrize("name", POLICIES)
def test_a_valid_policy_is_one_line(name: str) -> None:
    """With its digest and how much it allows."""
    shipped = Policy.load(name)
    ran = policy("check", name)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == (
        f"{name}: valid, digest {shipped.digest}; {len(shipped.attributes)} attributes, {len(shipped.events)} of "
        f"events, {len(shipped.resource)} of resources and {len(shipped.fields)} fields allowed\n"
    )


def test_every_mistake_is_a_line_with_its_place(tmp_path: Path) -> None:
    """File, line and key, as compilers say it; status 1."""
    file = written(tmp_path, SMALL.replace("tenant,", "tenent,").replace("max: 100", "mx: 100"))
    ran = policy("check", file)
    assert (ran.status, ran.err) == (1, "")
    assert ran.out.splitlines() == [
        f"{file}:3: attributes.tenant.id.shape: is not known; did you mean tenant?",
        f"{file}:4: attributes.a.count.mx: is not known; did you mean max?",
    ]


def test_what_a_file_says_cannot_reach_the_terminal(tmp_path: Path) -> None:
    """Keys are shown with their escapes, in one line."""
    ran = policy("check", written(tmp_path, SMALL.replace("a.flag", r'"\x1b[2J\n"')[:-1] + ', "\x1b": 1}\n'))
    assert ran.status == 1
    assert "\x1b" not in ran.out


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    """One line, status 1."""
    ran = policy("check", tmp_path / "none.yaml")
    assert (ran.status, ran.out.count("\n")) == (1, 1)
    assert ran.out.startswith(f"{tmp_path / 'none.yaml'}: cannot be read")


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_shown_is_a_policy_to_start_from(tmp_path: Path, name: str) -> None:
    """Written to a file and checked, it is the same policy."""
    file = written(tmp_path, policy("show", name).out)
    assert Policy.load(file).digest == Policy.load(name).digest
    assert policy("check", file).status == 0


def test_the_default_policy_is_what_is_shown() -> None:
    """Without a name; and a name that there is not is an error of usage."""
    assert policy("show").out == policy("show", "default").out
    assert policy("show", "none").status == 2


def test_the_schema_is_shown_for_editors() -> None:
    """As JSON."""
    assert json.loads(policy("show", "--schema").out)["required"] == [
        "version", "attributes", "events", "resource", "fields",
    ]  # fmt: skip


def test_the_policy_of_the_environment_counts_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is checked is what the sidecar would start with."""
    monkeypatch.setenv("TENANTSCOPE_POLICY", "strict")
    assert policy("check").out.startswith("strict: valid")


@pytest.mark.parametrize(
    "arguments", [(), ("chekc",), ("explain",), ("diff", "default"), ("test",), ("check", "a", "b")]
)
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    """One line on standard error, and nothing on standard output."""
    ran = policy(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("tenantscope policy")
    assert (ran.err.count("\n"), ran.err.endswith(" --help`\n")) == (1, True)


@pytest.mark.parametrize("name", ["check", "explain", "test", "diff", "pseudonym", "rotate", "retire", "show"])
def test_the_help_of_each_command_has_examples_of_it(name: str) -> None:
    """Its own, and no others'."""
    out = policy(name, "--help").out
    lines = out.partition("examples:\n")[2].splitlines()
    assert lines
    assert all(line.startswith(f"  tenantscope policy {name}") for line in lines)


def test_it_is_a_command_of_tenantscope() -> None:
    """From the shell, in a process of its own, with its examples in the help."""
    command = [sys.executable, "-m", "tenantscope", "policy", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=os.environ)
    assert done.returncode == 0
    assert "tenantscope policy diff default policy.yaml" in done.stdout
