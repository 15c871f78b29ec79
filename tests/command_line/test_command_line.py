"""What the shell sees of `tenantscope`: help, versions, exit codes, one line for each mistake."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import venv
from pathlib import Path

import pytest

LIMIT = 30  # seconds; a command line that takes longer is broken


def tenantscope(
    *arguments: str, python: str = sys.executable, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "tenantscope", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, cwd=cwd, check=False)


def test_version_is_the_one_that_is_installed() -> None:
    """`--version` prints name and version, and nothing else."""
    done = tenantscope("--version")
    assert (done.returncode, done.stdout) == (0, f"tenantscope {importlib.metadata.version('tenantscope')}\n")


def test_help_names_every_command_and_gives_examples() -> None:
    """`--help` is enough to get going: all commands, and lines to copy."""
    done = tenantscope("--help")
    assert done.returncode == 0
    assert "demo" in done.stdout
    assert "sidecar" in done.stdout
    assert "tenantscope demo --seconds 15 --headless --json out.json" in done.stdout


def test_without_a_command_it_shows_help_as_an_error() -> None:
    """Nothing was asked for: help on standard error, nothing on standard output, status 2."""
    done = tenantscope()
    assert (done.returncode, done.stdout) == (2, "")
    assert "commands:" in done.stderr


@pytest.mark.parametrize(
    ("typed", "meant"), [("dmeo", "tenantscope demo"), ("side-car", "tenantscope sidecar"), ("x", "--help")]
)
def test_an_unknown_command_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    """One line on standard error that names what was probably meant, status 2."""
    done = tenantscope(typed)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert meant in done.stderr


def test_an_unknown_command_cannot_forge_lines() -> None:
    """What was typed is shown escaped: it cannot write to the terminal."""
    done = tenantscope("a\n\x1b[2Jb")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--seconds", "0"),
        ("demo", "--seconds", "nan"),
        ("demo", "--seconds", "soon"),
        ("demo", "--seconds", "1e9"),
        ("demo", "--json", "."),
        ("demo", "--json", "no/such/folder/out.json"),
        ("demo", "--head"),  # abbreviations would break when options are added
        ("demo", "extra"),
        ("sidecar", "--liste", "127.0.0.1:0"),
        ("--verison",),
    ],
)
def test_wrong_usage_ends_with_status_2_before_anything_starts(arguments: tuple[str, ...]) -> None:
    """A mistake on the command line is found at once: one line that says what is wrong and where to read on."""
    done = tenantscope(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tenantscope")
    assert (done.stderr.count("\n"), done.stderr.endswith(" --help`\n")) == (1, True)


@pytest.mark.parametrize("command", ["demo", "sidecar", "top", "console", "policy", "token", "doctor"])
def test_the_help_of_every_command_has_lines_to_copy(command: str) -> None:
    """Options are found by their names; how they are used together, by example."""
    done = tenantscope(command, "--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert f"  tenantscope {command}" in done.stdout


def test_what_was_typed_cannot_write_to_the_terminal() -> None:
    """Also as an option or a value of a command."""
    for arguments in (("demo", "a\n\x1b[2Jb"), ("sidecar", "\x1b[2J\n"), ("top", "--sort", "\x1b\n")):
        done = tenantscope(*arguments)
        assert done.returncode == 2
        assert "\x1b" not in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_console_without_a_sidecar_says_so() -> None:
    """Its address works all the same; what is missing stands beside it, and it goes on looking."""
    command = [sys.executable, "-m", "tenantscope", "console", "--port", "0", "--admin", "127.0.0.1:1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as console:
        assert console.stdout is not None
        assert console.stderr is not None
        assert console.stdout.readline().startswith("tenantscope console: http://127.0.0.1:")
        assert "the sidecar at 127.0.0.1:1 does not answer yet: connection refused" in console.stderr.readline()
        console.terminate()


def test_sidecar_help_is_the_sidecars_own() -> None:
    """`tenantscope sidecar` is `python -m sidecar`: its options, its status."""
    done = tenantscope("sidecar", "--help")
    assert done.returncode == 0
    assert "tenantscope sidecar" in done.stdout
    assert "TENANTSCOPE_LISTEN" in done.stdout


@pytest.mark.parametrize(("command", "extra"), [("demo", "demo"), ("sidecar", "sidecar")])
def test_a_missing_extra_is_one_line_that_says_what_to_install(command: str, extra: str, tmp_path: Path) -> None:
    """In an environment without the extra there is no traceback but the pip command that helps."""
    venv.create(tmp_path / "bare", symlinks=True)
    packages = Path(__file__).parents[2]
    done = tenantscope(command, python=str(tmp_path / "bare" / "bin" / "python"), cwd=packages)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"pip install '/path/to/clone[{extra}]'" in done.stderr
