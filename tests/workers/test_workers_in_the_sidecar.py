"""Workers behind the one port: policies change while they work, the sidecar stops or is killed, none is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_peers import PATIENCE, export, running_upstream, trace_request
from sidecars import configured

from sidecar.configuration.settings import Settings
from sidecar.policy.in_force import PolicyInForce
from sidecar.policy.keyring import rotate
from sidecar.policy.version import load_policies
from sidecar.redaction import Policy
from sidecar.service import Sidecar
from sidecar.workers.pool import Unavailable, Workers

RULES = """\
version: 1
attributes: {a.left: {%s}, a.right: {%s}, tenant.id: {action: pseudonymise}}
events: {}
resource: {}
fields: {}
"""
NAMED, OFF = "type: string, shape: identifier, max_length: 64", "action: drop"
POLICIES = {"a.left": RULES % (NAMED, OFF), "a.right": RULES % (OFF, NAMED)}
SPANS = 6


def wait_until(what: Callable[[], bool]) -> None:
    by = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < by
        time.sleep(0.01)


def keys_left(payload: bytes) -> set[str]:
    request = ExportTraceServiceRequest.FromString(payload)
    return {
        "+".join(attribute.key for attribute in span.attributes if attribute.key != "tenant.id")
        for span in request.resource_spans[0].scope_spans[0].spans
    }


def test_each_record_is_under_one_policy_whatever_becomes_of_workers(tmp_path: Path) -> None:
    """Policies and keys change and workers are killed under load: no request is between two, the count is the truth."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICIES["a.left"])
    settings = Settings.from_environment({"TENANTSCOPE_POLICY": str(file), "TENANTSCOPE_STATE_DIR": str(tmp_path)})
    workers = Workers(2)
    workers.start()
    policy = PolicyInForce(settings, load_policies(settings), lambda alert: None, workers)
    request = trace_request(SPANS, **{"a.left": "x", "a.right": "x", "a.else": "bob@example.com"})
    done, put_off = threading.Event(), Counter[str]()

    def redact() -> Counter[str]:
        seen: Counter[str] = Counter()
        while not done.is_set():
            try:
                payload = policy.redact("traces", request).payload
            except Unavailable:  # two workers were killed under it
                put_off["requests"] += 1
                continue
            (left,) = keys_left(payload)
            seen[left] += SPANS
            assert b"bob@" not in payload
            assert b"acme" not in payload
        return seen

    try:
        with ThreadPoolExecutor(3) as pool:
            running = [pool.submit(redact) for _ in range(3)]
            for turn in range(30):
                file.write_text(POLICIES["a.right" if turn % 2 == 0 else "a.left"])
                if turn % 5 == 4:
                    rotate(tmp_path, "here")
                if turn % 10 == 9:
                    with workers._changed:
                        victim = next(iter(workers._all)).pid if workers._all else None
                    if victim is not None:
                        os.kill(victim, signal.SIGKILL)
                assert policy.reload() == "applied"
            done.set()
            seen = sum((future.result(PATIENCE) for future in running), Counter[str]())
    finally:
        done.set()
        workers.stop()
    digests = {Policy.parse(content.encode()).digest: left for left, content in POLICIES.items()}
    counted = {
        digests[sample.labels["digest"]]: sample.value
        for family in policy.collect()
        for sample in family.samples
        if sample.name == "tenantscope_policy_records_total"
    }
    assert counted == seen
    assert set(seen) == set(POLICIES)


def test_without_workers_exports_are_put_off_and_nothing_goes_on(tmp_path: Path) -> None:
    """The sender is told to come again, the reason is counted, readiness says no."""
    with running_upstream() as upstream:
        sidecar = Sidecar(configured(tmp_path, UPSTREAM=upstream.url, WORKERS="1"))
        sidecar.start()
        try:
            assert sidecar.answers.readiness()["workers"]
            export(sidecar.listen_address.target, trace_request(message="bob@example.com"))
            upstream.wait_for(1)
            assert b"bob@" not in upstream.requests[0][1]
            sidecar._workers.stop()
            assert not sidecar.answers.readiness()["workers"]
            with pytest.raises(grpc.RpcError) as refused:
                export(sidecar.listen_address.target, trace_request())
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert sidecar.registry.get_sample_value(
                "tenantscope_requests_refused_total", {"signal": "traces", "reason": "workers"}
            )
        finally:
            sidecar.stop(1)
    assert len(upstream.requests) == 1


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_sidecar(tmp_path: Path, how: signal.Signals) -> None:
    """However it ends, and though one of them hangs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "2",
         "--state-dir", str(tmp_path / "state")],
        stderr=subprocess.PIPE, text=True,
        env={key: value for key, value in os.environ.items() if not key.startswith("TENANTSCOPE_")},
    )  # fmt: skip
    try:
        while 'event="sidecar ready"' not in (line := process.stderr.readline()):
            assert line, "it ended before it was ready"
        workers = children(process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGSTOP)
        for worker in workers:  # what a supervisor sends to all of them is for the sidecar alone
            os.kill(worker, signal.SIGTERM)
        process.send_signal(how)
        assert process.wait(PATIENCE) == (0 if how is signal.SIGTERM else -how)
        wait_until(lambda: not any(map(_runs, workers)))
    finally:
        process.kill()
        process.communicate()


def _runs(pid: int) -> bool:
    """Whether it runs; one whose parent was killed is for the system to bury."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
