"""A host and two workers, a process each, on real sockets; their telemetry goes to one OTLP receiver over gRPC."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_peers import Upstream, running_upstream

HERE = Path(__file__).parent
PATIENCE = 30.0
KEY = "k" * 32


class Member:
    """A process of `member.py`."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        paths = os.pathsep.join(map(str, (HERE.parent.parent, HERE.parent, HERE)))
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TENANTSCOPE_", "OTEL_"))}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "member.py"), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
            env={**inherited, "PYTHONPATH": paths, **environ},
        )  # fmt: skip
        # Not `select`: several lines that come at once are in the file's buffer, where nobody sees them.
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def ready(self) -> str:
        """What it says when it is; of a host, where it listens."""
        ready, _, address = self.line().partition(" ")
        assert ready == "ready"
        return address

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line.strip())

    def line(self) -> str:
        """The next line of its output."""
        return self._said.get(timeout=PATIENCE)

    def tell(self, **job: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")

    def ask(self, **job: Any) -> Any:
        self.tell(**job)
        return json.loads(self.line())

    def end(self) -> None:
        """By the end of its input, as long as it lives."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self._listener.join()
            self.process.stdout.close()


class Grid:
    """The processes that share a receiver and a file of keys."""

    def __init__(self, upstream: Upstream, keys: Path, stack: ExitStack) -> None:
        self.upstream = upstream
        self._keys = keys
        self._stack = stack
        self._environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": upstream.url, "OTEL_METRIC_EXPORT_INTERVAL": "200"}

    def member(self, *arguments: str, **environ: str) -> Member:
        member = Member(*arguments, **{**self._environ, "TENANTSCOPE_PEER_KEYS_FILE": str(self._keys), **environ})
        self._stack.callback(member.end)
        return member

    def host(self) -> tuple[Member, str]:
        """A host, and where it listens."""
        host = self.member("host", "127.0.0.1:0")
        return host, host.ready()

    def pair(self, address: str, **front: str) -> tuple[Member, Member]:
        """Two workers: `front`, whose environment may differ, and `back`, whom it asks."""
        members = self.member("worker", address, "front", "back", **front), self.member("worker", address, "back")
        for member in members:
            member.ready()
        return members

    def spans(self) -> list[Any]:
        return [
            span
            for signal, request in list(self.upstream.taken)
            if signal == "traces"
            for group in ExportTraceServiceRequest.FromString(request).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    def figures(self, metric: str) -> dict[tuple[str, ...], float]:
        """The newest figure of each series of all processes, by the attributes' values in order of their names."""
        found: dict[tuple[str, ...], dict[str, float]] = {}
        for signal, request in list(self.upstream.taken):
            if signal == "metrics":
                for group in ExportMetricsServiceRequest.FromString(request).resource_metrics:
                    who = {a.key: a.value.string_value for a in group.resource.attributes}["service.instance.id"]
                    for scope in group.scope_metrics:
                        for each in scope.metrics:
                            for point in (*each.sum.data_points, *each.gauge.data_points):
                                about = sorted((a.key, a.value.string_value) for a in point.attributes)
                                series = found.setdefault(tuple(v for _, v in about), {})
                                if each.name == metric:
                                    series[who] = point.as_double or float(point.as_int)
        return {series: sum(by.values()) for series, by in found.items() if by}

    def wait_for(self, condition: Any) -> None:
        """Until what has come to the receiver is so."""
        with self.upstream._changed:
            assert self.upstream._changed.wait_for(condition, PATIENCE), "it did not come"


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Grid]:
    keys = tmp_path / "peer.keys"
    keys.write_text(KEY)
    keys.chmod(0o600)
    with running_upstream() as upstream, ExitStack() as stack:
        yield Grid(upstream, keys, stack)


def about(span: Any) -> dict[str, str]:
    return {attribute.key: attribute.value.string_value for attribute in span.attributes}


def test_a_run_over_three_processes_is_one_tree(grid: Grid) -> None:
    """Host and two workers: an agent of the first asks one of the second, which publishes what agents of both hear. For
    each of three tenants all spans are one tree, and the tenant is right in each. Nothing of what was said leaves."""
    host, address = grid.host()
    front, back = grid.pair(address)
    tenants = ("acme", "globex", "Müller & Söhne, Köln")
    for who in tenants:
        front.tell(tenant=who, to="front", text=f"tell {who} CANARY")
    answers = [json.loads(front.line()) for _ in tenants]
    assert {answer["answer"]: answer["tenant"] for answer in answers} == {f"tell {who} CANARY": who for who in tenants}
    # Each tenant's two notes are heard by the first worker, and the first of them by the second.
    heard = front.ask(hear=6)["heard"] + back.ask(hear=3)["heard"]
    assert Counter(map(tuple, heard)) == Counter({(f"tell {who} CANARY", who): 3 for who in tenants})
    for member in (front, back, host):
        member.end()
    spans = [span for span in grid.spans() if span.name.startswith("process")]
    traces: dict[bytes, list[Any]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    assert len(traces) == len(tenants)
    for mine in traces.values():
        assert Counter(span.name for span in mine) == {"process front": 3, "process back": 2}
        assert len({about(span)["tenant.id"] for span in mine}) == 1
        by_id = {span.span_id: span for span in mine}
        (root,) = [span for span in mine if not span.parent_span_id]
        assert root.name == "process front"
        assert all(span is root or span.parent_span_id in by_id for span in mine)
    assert {about(span)["tenant.id"] for span in spans} == set(tenants)
    assert not any(b"CANARY" in request for _, request in grid.upstream.requests)
    assert {about(span).get("autogen.message.sender") for span in spans} == {None, "front", "back"}


def test_a_worker_that_dies_in_the_middle_of_a_call(grid: Grid) -> None:
    """AutoGen never answers such a call. The host counts an error of that tenant, the caller's process the call as
    awaited until its caller gives up, which is an error too. A worker that comes in its place is asked as before."""
    host, address = grid.host()
    front, back = grid.pair(address)
    front.tell(tenant="acme", to="back", text="die now")
    assert back.line() == "dying"
    grid.wait_for(lambda: grid.figures("autogen.errors").get(("deliver", "CancelledError", "acme")) == 1)
    grid.wait_for(lambda: grid.figures("autogen.calls.awaited").get(("acme",)) == 1)
    assert front.ask(give_up=True) == {"error": "CancelledError"}
    grid.wait_for(lambda: grid.figures("autogen.calls.awaited").get(("acme",)) == 0)
    assert grid.figures("autogen.errors")["send", "CancelledError", "acme"] == 1

    back = grid.member("worker", address, "back")
    back.ready()
    assert front.ask(tenant="acme", to="front", text="again") == {"answer": "again", "tenant": "acme"}
    for member in (front, back, host):
        member.end()
    spans = {span.name: span for span in grid.spans() if span.name.startswith("process")}
    assert set(spans) == {"process front", "process back"}  # what the dead one had not sent yet is lost
    assert spans["process back"].parent_span_id == spans["process front"].span_id


def test_a_host_that_dies_and_a_reconnect(grid: Grid) -> None:
    """The end of a connection is an error of nobody's. AutoGen's workers do not connect again; an application that
    makes a new one to another host, in the same process, has tenants and trace as before."""
    host, address = grid.host()
    front, back = grid.pair(address)
    assert front.ask(tenant="acme", to="front", text="one")["tenant"] == "acme"
    host.process.kill()
    grid.wait_for(
        lambda: sum(n for (what, *_), n in grid.figures("autogen.errors").items() if what == "connection") == 2
    )
    host, address = grid.host()
    for member in (back, front):
        member.tell(connect=address)
        member.ready()
    assert front.ask(tenant="globex", to="front", text="two")["tenant"] == "globex"
    for member in (front, back, host):
        member.end()
    spans = [span for span in grid.spans() if span.name.startswith("process")]
    assert Counter((about(span)["tenant.id"], span.name) for span in spans) == {
        (who, f"process {name}"): 1 for who in ("acme", "globex") for name in ("front", "back")
    }


def test_a_worker_without_the_keys(grid: Grid) -> None:
    """Its tenants are not believed, and it believes nobody's: `unknown` on both sides. For those who have keys a claim
    that none of them made is a finding; for one who has none it is a fault that is counted. The trace goes on."""
    host, address = grid.host()
    front, back = grid.pair(address, TENANTSCOPE_PEER_KEYS_FILE="")
    # What comes back to the process that sent it is believed there: `front` knows its own.
    assert front.ask(tenant="acme", to="front", text="x") == {"answer": "x", "tenant": "acme"}
    assert front.ask(tenant="acme", to="back", text="x")["tenant"] in (None, "unknown")
    assert back.ask(tenant="globex", to="front", text="x")["tenant"] in (None, "unknown")
    for member in (front, back, host):
        member.end()
    assert grid.figures("autogen.isolation.findings") == {("unknown", "tenant_forged"): 2}
    assert grid.figures("tenantscope.faults")["peer.unknown",] >= 1
    (asked,) = [span for span in grid.spans() if span.name == "process front" and about(span)["tenant.id"] == "acme"]
    below = [span for span in grid.spans() if span.parent_span_id == asked.span_id]
    (deeper,) = [span for span in below if span.name == "process back"]
    assert about(deeper)["tenant.id"] == "unknown"
