"""`tenantscope top` in a script: one picture, lines of JSON, and exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from recorded_sidecar import CALM, STALLED, Listener, body, documents, recorded

from tenantscope import cli
from tenantscope.top.screen import ORDERS

LIMIT = 30  # seconds; a command line that takes longer is broken
COMMAND = [sys.executable, "-m", "tenantscope", "top"]


def top(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False, **options)


@pytest.mark.parametrize("once", [(), ("--once",)])
def test_without_a_terminal_it_looks_for_one_interval_and_prints_the_picture(
    listener: Listener, once: tuple[str, ...]
) -> None:
    """Rates need two looks; nothing in it is for a terminal only."""
    done = top("--admin", listener.url, "--interval", "0.1", *once)
    assert (done.returncode, done.stderr, listener.asked) == (0, "", 2)
    assert "● acme holds a loop" in done.stdout
    assert "\x1b" not in done.stdout
    assert "q quit" not in done.stdout


def test_json_is_one_document_with_the_words_of_the_status(listener: Listener) -> None:
    """Totals, rates, what hangs and what fires now."""
    done = top("--admin", listener.url, "--interval", "0.1", "--once", "--json", "--sort", "made-wait")
    (line,) = done.stdout.splitlines()
    document = json.loads(line)
    assert (done.returncode, document["error"], document["admin"]) == (0, None, listener.url)
    assert document["records"] == recorded(STALLED)["records"]
    assert document["tenants"][0]["tenant"] == "acme"
    assert document["tenants"][0]["loop_share"] > 0
    assert [stall["active"] for stall in document["stalls"]] == [True]
    assert [alert["status"] for alert in document["alerts"]] == ["firing"]
    assert 0 < document["loops"][0]["utilization"] <= 1


def test_json_goes_on_line_by_line_and_tells_when_there_is_no_answer(listener: Listener) -> None:
    """A script sees the gap; the line after it is whole again. A reader that leaves ends it quietly."""
    with subprocess.Popen(
        [*COMMAND, "--admin", listener.url, "--interval", "0.1", "--json", "--tenant", "[ah]*"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = map(json.loads, process.stdout)
        assert {row["tenant"] for row in next(lines)["tenants"]} == {"acme", "hooli"}
        listener.answer = body(b"", 503)
        gap = next(line for line in lines if line["error"])
        assert gap["error"] == "it answered 503"
        assert "tenants" not in gap
        listener.answer = documents(recorded(CALM))
        assert next(line for line in lines if not line["error"])["tenants"]
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(LIMIT) == 0


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_once_without_a_sidecar_says_what_it_tried_and_how_to_start_one(json_too: tuple[str, ...]) -> None:
    """Status 1, and nothing on standard output."""
    gone = Listener()
    gone.close()
    done = top("--once", "--admin", gone.url, *json_too)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"The sidecar at {gone.url} does not answer: connection refused." in done.stderr
    assert "tenantscope sidecar" in done.stderr


def test_a_sidecar_on_another_address_is_found_by_its_own_setting(listener: Listener) -> None:
    """Whoever moved the sidecar by `TENANTSCOPE_ADMIN` need not say it twice."""
    environment = {"TENANTSCOPE_ADMIN": listener.url.removeprefix("http://"), "PATH": ""}
    assert top("--once", "--interval", "0.1", env=environment).returncode == 0


def test_a_name_that_the_output_cannot_spell_is_escaped(listener: Listener) -> None:
    """An old locale costs a letter, not the view."""
    document = recorded(CALM)
    document["loops"][0]["service"] = "büro"
    listener.answer = documents(document)
    done = top("--admin", listener.url, "--interval", "0.1", env={"PYTHONIOENCODING": "ascii", "PATH": ""})
    assert done.returncode == 0
    assert r"b\xfcro" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--interval", "0"),
        ("--interval", "nan"),
        ("--interval", "soon"),
        ("--sort", "name"),
        ("--admin", "nonsense"),
        ("--admin", "https://127.0.0.1:8889"),
        ("--on",),
        ("extra",),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    """Found before anything is asked; one line, never a traceback."""
    done = top(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tenantscope top: ")
    assert (done.stderr.count("\n"), done.stderr.endswith("; see `tenantscope top --help`\n")) == (1, True)


def test_help_has_keys_examples_and_every_order() -> None:
    """The orders are written twice, for help must not wait for imports; both are the same."""
    done = top("--help")
    assert done.returncode == 0
    assert f"{{{','.join(ORDERS)}}}" in done.stdout
    for word in ("q quit", "tenantscope top --once", "ssh -L", "NO_COLOR"):
        assert word in done.stdout
    assert "top" in cli.COMMANDS
