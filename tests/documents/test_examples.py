"""Every example runs, as its first lines say."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from reading import ROOT

EXAMPLES = ROOT / "examples"
LIMIT = 60  # seconds


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "TENANTSCOPE_CELL_DIR": str(folder),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"unix:{folder}/nobody",
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, cwd=ROOT, env=environment)


def test_minimal_tells_two_tenants_apart(tmp_path: Path) -> None:
    """Without model, network or sidecar; each answer is for its sender."""
    done = run("examples/minimal.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["answered for acme", "answered for globex"]


def test_teams_run_for_three_tenants(tmp_path: Path) -> None:
    """A team each, with a tool, at the same time."""
    done = run("examples/teams.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{tenant}: Three invoices are open. DONE" for tenant in ("acme", "globex", "initech")
    ]


def test_three_processes_share_tenants(tmp_path: Path) -> None:
    """The clerk is in another process than whoever asks, and answers for the asker."""
    done = run("examples/distributed.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"a question of {tenant} was answered for {tenant}" for tenant in ("acme", "globex")
    ]


def test_the_tests_of_an_application_pass(tmp_path: Path) -> None:
    """`python -m pytest examples/test_my_application.py`."""
    done = run("-m", "pytest", "-q", "examples/test_my_application.py", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout or "....." in done.stdout


def test_the_web_service_binds_the_callers_tenant(tmp_path: Path) -> None:
    """A key is a tenant; no key, no answer; SIGTERM ends it in good order."""
    environment = os.environ | {
        "TENANTSCOPE_CELL_DIR": str(tmp_path),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"unix:{tmp_path}/nobody",
    }
    command = [sys.executable, "examples/web_service.py", "--port", "0"]
    service = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, env=environment
    )
    assert service.stdout is not None
    try:
        found = re.search(r"http://\S+", service.stdout.readline())
        assert found is not None

        def ask(key: str, query: str) -> str:
            request = urllib.request.Request(f"{found[0]}/ask?{query}", headers={"Authorization": f"Bearer {key}"})
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                return str(json.load(answer)["answer"])

        assert ask("acme-key", "question=hello") == "5 letters, answered for acme"
        assert ask("globex-key", "careless=1") == "0 letters, answered for globex"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask("somebody", "question=hello")
    finally:
        service.send_signal(signal.SIGTERM)
        service.stdout.close()
        status = service.wait(LIMIT)
    assert status in (0, -signal.SIGTERM)  # uvicorn raises the signal again when it has shut down


def test_no_example_is_forgotten() -> None:
    """A new one has a test here, and a line in docs/examples.md."""
    here, listed = Path(__file__).read_text(), (ROOT / "docs/examples.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert path.name in here
        assert path.name in listed


def test_the_comparison_of_tracers_finds_what_it_planted(tmp_path: Path) -> None:
    """`docs/moving/compare.py`: AutoGen's own tracing has all secrets in it and nobody's name; this project has neither
    a secret nor a span of the wrong tenant."""
    ours = run("docs/moving/compare.py", "tenantscope", folder=tmp_path)
    assert ours.returncode == 0, ours.stderr
    assert "certainly wrong: 0" in ours.stdout
    assert re.search(r"said to be of: (acme|globex) \d+, (acme|globex) \d+;", ours.stdout)
    secrets = re.findall(r"secrets of \S+\s+(.*)", ours.stdout)
    assert secrets == ["none"] * 7
    theirs = run("docs/moving/compare.py", "built-in", folder=tmp_path)
    assert theirs.returncode == 0, theirs.stderr
    assert "said to be of: nobody" in theirs.stdout
    assert "none" not in re.findall(r"secrets of \S+\s+(.*)", theirs.stdout)
