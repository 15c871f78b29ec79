"""`tenantscope demo` as a user runs it: three real processes, real gRPC, AutoGen's real OpenAI client."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

import pytest

COMMAND = [sys.executable, "-m", "tenantscope", "demo", "--headless"]
LIMIT = 90  # seconds
TENANTS = {"acme", "globex", "initech", "umbrella", "hooli"}


class Demo:
    """One run; its temporary files lie in `folder`, so that what it leaves behind can be seen."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        self.output: IO[str] = self.process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()  # not kill: it is to take its children along
        self.process.communicate(timeout=LIMIT)

    def wait_for(self, word: str) -> str:
        """Read until a line holds `word`; that line."""
        seen = ""
        for line in self.output:
            seen += line
            if word in line:
                return line
        raise AssertionError(f"never said {word!r}:\n{seen}")

    def rest(self) -> str:
        return self.process.communicate(timeout=LIMIT)[0]

    def children(self) -> dict[str, int]:
        """Process ids of the two children, by the module that they run."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[2].decode(): int(pid) for pid in pids}

    def survivors(self) -> list[str]:
        """Processes that this run started and that still live."""
        mark = f"TMPDIR={self.folder}".encode()
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in environ.read_bytes().split(b"\0"):
                    found.append((environ.parent / "cmdline").read_text())
            except OSError:
                continue  # gone meanwhile, or not ours
        return found

    def assert_nothing_is_left(self) -> None:
        assert self.survivors() == []
        assert list(self.folder.iterdir()) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tmp"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Demo, str, dict[str, Any]]]:
    """One run of six seconds: the process, what it printed, what it wrote."""
    folder = tmp_path_factory.mktemp("run")
    results = tmp_path_factory.mktemp("results") / "out.json"
    with Demo(folder, "--seconds", "6", "--json", str(results)) as demo:
        printed = demo.rest()
        assert demo.process.returncode == 0, printed
        yield demo, printed, json.loads(results.read_text())


def test_many_canaries_are_planted_and_none_gets_out(finished: tuple[Demo, str, dict[str, Any]]) -> None:
    """More than 50 secrets, in all kinds of places, and megabytes searched without a trace of them."""
    _, _, figures = finished
    assert figures["canaries_planted"] > 50
    assert figures["canaries_leaked"] == 0
    searched = figures["bytes_searched"]
    assert all(searched[place] > 0 for place in ("application to sidecar, messages", "sidecar's state folder"))
    assert sum(searched.values()) > 100_000


def test_the_shared_desk_is_found(finished: tuple[Demo, str, dict[str, Any]]) -> None:
    """An agent that works for two tenants is named, with the rule and a tenant who was part of it."""
    _, printed, figures = finished
    assert {(found["rule"], found["tenant"]) for found in figures["findings"]} <= {
        ("agent_shared", "umbrella"),
        ("agent_shared", "hooli"),
    }
    assert figures["findings"]
    assert "agent_shared" in printed


def test_every_span_that_was_received_was_forwarded(finished: tuple[Demo, str, dict[str, Any]]) -> None:
    """Nothing vanishes, and nothing of ours is refused or dropped by our own sidecar."""
    _, _, figures = finished
    assert figures["spans_received"] == figures["spans_forwarded"] > 0
    traces = figures["records"]["traces"]
    assert (traces["rejected"], traces["dropped"], traces["queued"]) == (0, 0, 0)


def test_a_stall_names_the_tenant_that_holds_the_loop_and_the_function(
    finished: tuple[Demo, str, dict[str, Any]],
) -> None:
    """Stalls are the blocking tool's; seen while they last, with the blocking function on the stack."""
    _, _, figures = finished
    stalls = [stall for stall in figures["stalls"] if stall["tenant"] == "acme"]
    named = [s for s in stalls if any(frame.endswith("render_report_synchronously") for frame in s["stack"])]
    assert named
    assert len(named) <= figures["application"]["blocking_calls"] <= len(stalls)
    assert any(stall["detected_after_ms"] / 1000 < stall["seconds"] for stall in stalls)
    assert {alert["status"] for alert in figures["alerts"]} == {"firing", "resolved"}


def test_every_tenant_has_its_figures(finished: tuple[Demo, str, dict[str, Any]]) -> None:
    """Messages, tokens, errors, loop time are where they belong, although one tenant started the runtime."""
    _, _, figures = finished
    rows = {row["tenant"]: row for row in figures["tenants"]}
    assert set(rows) >= TENANTS
    assert all(rows[tenant]["messages"] > 0 and rows[tenant]["spans"] > 0 for tenant in TENANTS)
    assert all(rows[tenant]["tokens"] > 0 for tenant in TENANTS - {"globex"})
    assert rows["globex"]["tokens"] == 0
    # Each order of the bursts is one message, the entry that its clerk publishes another.
    assert rows["globex"]["messages"] == 2 * figures["application"]["sent"]["globex"]
    assert rows["initech"]["errors"] == figures["application"]["errors"]["initech"]
    assert rows["hooli"]["errors"] == rows["globex"]["errors"] == 0
    assert max(rows.values(), key=lambda row: row["loop_seconds"])["tenant"] == "acme"


def test_the_summary_says_what_was_seen_without_terminal_codes(
    finished: tuple[Demo, str, dict[str, Any]],
) -> None:
    """Into a pipe go plain lines: a banner of at most 15, progress, the table, the verdict."""
    _, printed, figures = finished
    assert "\x1b" not in printed
    banner = printed[: re.search(r"^ +\d+ s of 6 s", printed, re.MULTILINE).start()]  # type: ignore[union-attr]
    assert banner.count("\n") <= 15
    assert banner.splitlines()[1].startswith("in a browser: http://127.0.0.1:")
    assert "acme held the loop for" in printed
    assert "render_report_synchronously" in printed
    assert f"{figures['canaries_planted']:,} planted, 0 leaked" in printed
    assert printed.rstrip().endswith("OK: nothing leaked, and every record is accounted for.")


def test_nothing_is_left_behind(finished: tuple[Demo, str, dict[str, Any]]) -> None:
    """No process, no file."""
    finished[0].assert_nothing_is_left()


def test_an_interrupt_ends_the_run_in_good_order(folder: Path) -> None:
    """The second line's address opens the console. Ctrl-C: all stop, the search is done, the verdict counts."""
    with Demo(folder, "--seconds", "600") as demo:
        address = demo.wait_for("in a browser: ").split()[-1]
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with browser.open(address, timeout=LIMIT) as page:
            assert b"tenantscope console" in page.read()
        demo.wait_for("s of 600 s")
        demo.process.send_signal(signal.SIGINT)
        printed = demo.rest()
        assert demo.process.returncode == 0, printed
        assert "OK: nothing leaked" in printed
        demo.assert_nothing_is_left()


def test_a_secret_in_the_sidecars_folder_fails_the_run(folder: Path) -> None:
    """The search is no formality: a canary planted where the sidecar keeps its state is found and named."""
    with Demo(folder, "--seconds", "600") as demo:
        demo.wait_for("s of 600 s")
        (run,) = folder.iterdir()
        canary = json.loads((run / "plan.json").read_text())["marker"] + "0123456789a"
        (run / "state" / "core.dump").write_bytes(b"\0" * 100 + canary.encode().hex().encode() + b"\0" * 100)
        demo.process.send_signal(signal.SIGINT)
        printed = demo.rest()
        assert demo.process.returncode == 1, printed
        assert "1 leaked" in printed
        assert "sidecar's state folder, hexadecimal" in printed
        assert "FAILED: canaries leaked: 1" in printed
        demo.assert_nothing_is_left()


@pytest.mark.parametrize(("module", "name"), [("tenantscope.demo.app", "application"), ("sidecar", "sidecar")])
def test_a_child_that_dies_ends_the_run_with_its_last_words(folder: Path, module: str, name: str) -> None:
    """Status 1, which child it was, what it said last; the other child does not survive."""
    with Demo(folder, "--seconds", "600") as demo:
        demo.wait_for("s of 600 s")
        os.kill(demo.children()[module], signal.SIGKILL)
        printed = demo.rest()
        assert demo.process.returncode == 1, printed
        assert f"FAILED: the {name} ended unexpectedly (status -9)" in printed
        demo.assert_nothing_is_left()


def test_keep_keeps_the_folder_and_says_where(folder: Path) -> None:
    """`--keep` leaves logs and the sidecar's state for a closer look."""
    with Demo(folder, "--seconds", "1", "--keep") as demo:
        printed = demo.rest()
        (kept,) = folder.iterdir()
        assert f"Kept: {kept}\n" in printed
        assert (kept / "state").is_dir()
        assert (kept / "sidecar.out").read_text()
