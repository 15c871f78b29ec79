"""Every line of shell in a document could be typed: its commands, options, files and settings exist.

Our own commands are read by their real parser, which ends there. What others ship (`curl`, `kubectl`) must be a program
that is listed here; its options are its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from reading import ROOT, Block, blocks, documents

import sidecar.configuration.table
from instrumentation.settings import SETTINGS as LIBRARY
from tenantscope.cli import COMMANDS
from tenantscope.cli import main as command_line

FOREIGN = {
    "amtool", "cat", "cd", "chmod", "cp", "curl", "docker", "export", "git", "go", "grafanactl", "install", "jq",
    "kill", "kubectl", "kustomize", "mkdir", "node", "ocb", "openssl", "opentelemetry-instrument", "otelcol", "podman",
    "promtool", "sed", "ssh", "sudo", "systemctl", "systemd-analyze", "useradd",
}  # fmt: skip
KEYS = {setting.key for setting in (*LIBRARY, *sidecar.configuration.table.SETTINGS)} | {
    key  # of the Collector's configurations, which read the environment themselves
    for file in (ROOT / "collector-config.yaml", *(ROOT / "deploy/gateway").glob("*.yaml"))
    for key in re.findall(r"\$\{env:(\w+)", file.read_text())
}
_ASSIGNMENT = re.compile(r"[A-Z_][A-Z0-9_]*=")
_PLACE = re.compile(r"^(/path/to/clone|\.)(\[.*\])?$")


class ParsedError(Exception):
    """The arguments are right; nothing was run."""


@pytest.fixture(autouse=True)
def only_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that has accepted its arguments ends the command."""
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self: argparse.ArgumentParser, *arguments: object, **more: object) -> NoReturn:
        parse(self, *arguments, **more)  # type: ignore[call-overload]
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a block as words, without assignments; comments and redirections are gone."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        skip = False
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;"):
                if words:
                    yield words
                words = []
            elif set(word) <= set("<>"):
                skip = True
            elif skip or (not words and _ASSIGNMENT.match(word)):
                skip = False
            else:
                words.append(word)


def judge(words: list[str]) -> str | None:
    """What is wrong with a command; None if nothing is."""
    program, *arguments = words
    name = Path(program).name
    if name == "tenantscope":
        return parsed(arguments)
    if name == "make":
        targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        return next((f"no target {each}" for each in arguments if "=" not in each and each not in targets), None)
    if name == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        ours = [found for each in arguments if (found := _PLACE.match(each)) and found[2]]
        named = {extra for found in ours for extra in found[2].strip("[]").split(",")}
        return None if named <= set(extras) else f"no extra {named - set(extras)}"
    if name in ("python", "python3"):
        return python(arguments)
    return None if name in FOREIGN else f"{name} is neither ours nor listed"


def parsed(arguments: list[str]) -> str | None:
    """Whether the command line accepts them."""
    if arguments in (["--help"], ["--version"]):
        return None
    try:
        command_line(arguments)
    except ParsedError:
        return None
    except SystemExit as end:
        return None if end.code == 0 else f"refused with status {end.code}"
    return "ran without parsing"


def python(arguments: list[str]) -> str | None:
    """A script or module of the tree, with options that it mentions."""
    if arguments[:2] == ["-m", "venv"]:
        return None
    if arguments[:2] == ["-m", "pytest"]:
        return next((f"no {each}" for each in arguments[2:] if not (ROOT / each).exists()), None)
    if arguments[:2] == ["-m", "sidecar"]:
        return parsed(["sidecar", *arguments[2:]])
    if arguments[0] == "-m":
        spec = importlib.util.find_spec(arguments[1])
        if spec is None or spec.origin is None:
            return f"no module {arguments[1]}"
        path, rest = Path(spec.origin), arguments[2:]
    else:
        path, rest = ROOT / arguments[0], arguments[1:]
    if arguments[0] == "app.py":  # the reader's own
        return None
    if not path.exists():
        return f"no {arguments[0]}"
    return next(
        (f"{path.name} has no {each}" for each in rest if each[:2] == "--" and each not in path.read_text()), None
    )


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_every_command_can_be_typed(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader copies is accepted, to the last option."""
    monkeypatch.chdir(ROOT)
    found = [(words, wrong) for words in commands(block.text) if (wrong := judge(words))]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "tenantscope topp", "tenantscope top --unknown", "tenantscope demo --seconds soon", "make no-such-target",
        "nonsense x", "pip install '/path/to/clone[nothing]'", "python examples/no_such.py", "cd x && make nothing",
        "python -m benchmarks.send_cost --nothing", "python -m pytest tests/nowhere",
        "TENANTSCOPE_LISTEN=x tenantscope sidecar --liste x",
    ],
)  # fmt: skip
def test_what_cannot_be_typed_is_found(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command, option, target, extra, file or module that is not there."""
    monkeypatch.chdir(ROOT)
    assert any(judge(words) for words in commands(line))


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_exists(document: Path) -> None:
    """A variable of ours that a document names is one that the library, the sidecar or the Collector reads."""
    named = set(re.findall(r"\bTENANTSCOPE_[A-Z_]+[A-Z]\b", document.read_text()))
    assert named <= KEYS


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_the_text_exists(document: Path) -> None:
    """`tenantscope NAME` in a sentence is a command, too."""
    named = set(re.findall(r"`tenantscope ([a-z]+)", document.read_text()))
    assert named <= set(COMMANDS)


def test_the_harness_does_not_run_anything() -> None:
    """A server would stay: its arguments are read and no more."""
    assert parsed(["sidecar", "--listen", "127.0.0.1:0"]) is None
    assert "sidecar.service" not in sys.modules or parsed(["top"]) is None
