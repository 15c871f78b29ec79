"""`python -m sidecar` as a process: how it starts, what it prints, how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_peers import PATIENCE, export, running_upstream, trace_request

import sidecar
from sidecar.redaction import Policy
from sidecar.redaction.policy import shipped_file


def command(tmp_path: Path, *arguments: str) -> list[str]:
    return [
        sys.executable, "-m", "sidecar", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
        "--state-dir", str(tmp_path / "state"), *arguments,
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("TENANTSCOPE_")}


@contextmanager
def running(tmp_path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A sidecar that is ready, and its start-up line."""
    process = subprocess.Popen(
        command(tmp_path, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        line = ""
        while 'event="sidecar ready"' not in line:
            line = process.stderr.readline()
            assert line, "it ended before it was ready"
        yield process, line.rstrip("\n")
    finally:
        process.kill()
        process.communicate()


def run(tmp_path: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(tmp_path, *arguments),
        capture_output=True, text=True, timeout=PATIENCE * 3, env={**environment(), **more}, check=False,
    )  # fmt: skip


def field(line: str, key: str) -> str:
    return re.search(rf'{key}="?([^" ]+)', line).group(1)


def test_it_says_in_one_line_what_runs_where(tmp_path: Path) -> None:
    """Addresses with real ports, the folder, the policy, and which package this is."""
    with running(tmp_path) as (_, line):
        assert re.fullmatch(r"127\.0\.0\.1:\d+", field(line, "listen"))
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", field(line, "admin"))
        assert field(line, "destination") == "store"
        assert field(line, "state_dir") == str(tmp_path / "state")
        assert (field(line, "policy"), field(line, "policy_digest")) == ("default", Policy.default().digest)
        assert field(line, "package") == str(Path(sidecar.__file__).parent)
        assert export(field(line, "listen"), trace_request()) == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    """What was taken is delivered before the process goes, and standard output stays empty."""
    with running_upstream() as upstream, running(tmp_path, "--upstream", upstream.url) as (process, line):
        for _ in range(30):
            export(field(line, "listen"), trace_request(1))
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE * 3)
        assert (process.returncode, out) == (0, "")
        arrived = [ExportTraceServiceRequest.FromString(payload) for _, payload in upstream.requests]
        assert sum(len(request.resource_spans) for request in arrived) == 30  # some were joined, if it took its time
        assert "queued_records=0" in err.splitlines()[-1]


def test_sighup_reads_the_policy_again(tmp_path: Path) -> None:
    """The process stays, and says which policy is in force now; a wrong one is told, and changes nothing."""
    file = tmp_path / "policy.yaml"
    file.write_bytes(shipped_file("default.yaml"))
    with running(tmp_path, "--policy", str(file)) as (process, line):
        assert field(line, "policy_digest") == Policy.default().digest
        draft = tmp_path / "draft.yaml"
        draft.write_bytes(shipped_file("strict.yaml"))
        draft.replace(file)
        process.send_signal(signal.SIGHUP)
        line = process.stderr.readline()
        assert 'event="another policy is in force"' in line
        assert field(line, "policy_digest") == Policy.load("strict").digest
        file.write_text("version: 2")
        process.send_signal(signal.SIGHUP)
        assert 'event="the new policy cannot be used, the old one stays"' in process.stderr.readline()
        assert process.poll() is None


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Nobody has to wait for the grace period of a dead upstream."""
    with running(tmp_path, "--upstream", f"unix:{tmp_path / 'nobody.sock'}") as (process, line):
        export(field(line, "listen"), trace_request(1))
        process.terminate()
        while "sidecar stops" not in process.stderr.readline():
            pass
        process.terminate()
        assert process.wait(PATIENCE) == -signal.SIGTERM


def test_what_is_wrong_is_told_line_by_line_with_exit_code_2(tmp_path: Path) -> None:
    """No traceback; options are named by their keys."""
    done = run(tmp_path, "--listen", "0.0.0.0:4317", "--upstream", "http://bob:hunter2@x", TENANTSCOPE_STALL_MS="x")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "TENANTSCOPE_LISTEN", "TENANTSCOPE_UPSTREAM", "TENANTSCOPE_STALL_MS",
    ]  # fmt: skip
    assert "hunter2" not in done.stderr


def test_a_second_owner_of_the_folder_is_refused(tmp_path: Path) -> None:
    """One line, exit code 2; the first goes on."""
    with running(tmp_path) as (_, line):
        done = run(tmp_path)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "TENANTSCOPE_STATE_DIR: another sidecar owns" in done.stderr
        assert export(field(line, "listen"), trace_request()) == b""


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path) -> None:
    """gRPC's own complaints don't appear beside it; the admin port likewise."""
    with running(tmp_path) as (_, line):
        for option, address in (("listen", field(line, "listen")), ("admin", field(line, "admin")[7:])):
            done = run(tmp_path, f"--{option}", address, "--state-dir", str(tmp_path / "other"))
            assert done.returncode == 2
            (told,) = done.stderr.splitlines()
            assert f"TENANTSCOPE_{option.upper()}: cannot listen on {address}" in told


def test_an_option_wins_over_the_environment(tmp_path: Path) -> None:
    """So that a wrong variable can be overruled by hand."""
    done = run(tmp_path, "--stall-ms", "50", "--check", TENANTSCOPE_STALL_MS="wrong")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("the settings and the policy are valid\n")


def test_a_wrong_policy_is_told_by_the_check(tmp_path: Path) -> None:
    """Before it is put into service, without starting anything."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("no_such_section: 1\n")
    done = run(tmp_path, "--policy", str(policy), "--check")
    assert done.returncode == 2
    assert "TENANTSCOPE_POLICY: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "state").exists()


def test_help_has_examples(tmp_path: Path) -> None:
    """Every setting is an option, every option is explained."""
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert "--upstream" in done.stdout


def test_a_log_without_a_reader_does_not_end_it(tmp_path: Path) -> None:
    """Standard error was a pipe that is gone: telemetry goes on."""
    with running(tmp_path) as (process, line):
        process.stderr.close()
        export(field(line, "listen"), trace_request())
        process.terminate()
        assert process.wait(PATIENCE * 3) == 0
        process.stderr = None
