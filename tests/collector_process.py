"""A real Collector with the repository's configuration, and a real gRPC server where its OTLP goes.

Nothing here imitates the Collector: the binary that `make collector` built is run, or the test is skipped.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from required import ROOT

CONFIG = ROOT / "collector-config.yaml"
DEADLINE = 20.0
PACE = "connectors::spanmetrics::metrics_flush_interval: 500ms"  # 15 s in production

SERVICES: dict[str, tuple[str, type[Message], type[Message]]] = {
    "traces": (
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        traces.ExportTraceServiceRequest,
        traces.ExportTraceServiceResponse,
    ),
    "metrics": (
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        metrics.ExportMetricsServiceRequest,
        metrics.ExportMetricsServiceResponse,
    ),
    "logs": (
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        logs.ExportLogsServiceRequest,
        logs.ExportLogsServiceResponse,
    ),
}


def eventually(condition: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """The first true value of `condition`, asked again and again until the deadline."""
    end = time.monotonic() + deadline
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline:g} s: {what}")
        pause.wait(0.05)


def http_get(url: str) -> str | None:
    """Body of a 200 answer, else None."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago: the Collector can't be asked which port it got for 0."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Upstream:
    """An OTLP/gRPC server that keeps every request, raw: what left the Collector."""

    def __init__(self) -> None:
        self.received: dict[str, list[bytes]] = {signal: [] for signal in SERVICES}
        self.metadata: list[tuple[str, str]] = []
        self._arrived = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(4))
        for signal, (path, _, response) in SERVICES.items():
            service, method = path[1:].split("/")
            handler = grpc.unary_unary_rpc_method_handler(self._keep(signal, response().SerializeToString()))
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def _keep(self, signal: str, answer: bytes) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def keep(body: bytes, context: grpc.ServicerContext) -> bytes:
            with self._arrived:
                self.received[signal].append(body)
                self.metadata += [(key, str(value)) for key, value in context.invocation_metadata()]
                self._arrived.notify_all()
            return answer

        return keep

    def wait_for(self, signal: str, needle: bytes) -> None:
        """Return once a request of this signal has `needle` in it."""
        with self._arrived:
            found = self._arrived.wait_for(lambda: any(needle in r for r in self.received[signal]), DEADLINE)
        assert found, f"{needle!r} did not arrive in {signal}"

    def everything(self) -> bytes:
        """All bytes that arrived so far."""
        with self._arrived:
            return b"".join(b"".join(requests) for requests in self.received.values())

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait(DEADLINE)


@dataclass(frozen=True)
class Collector:
    """A running Collector: where it listens and where what it let through arrives."""

    binary: Path
    otlp: str
    prometheus: str
    upstream: Upstream
    channel: grpc.Channel
    own_metrics: str
    process: subprocess.Popen[bytes]

    def send(self, signal: str, request: Message, metadata: tuple[tuple[str, str], ...] = ()) -> grpc.StatusCode:
        """Export one request; the status that the sender got."""
        path, _, _ = SERVICES[signal]
        call = self.channel.unary_unary(path)
        try:
            call(request.SerializeToString(), timeout=DEADLINE, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def own(self, metric: str) -> float:
        """Sum of a metric of the Collector itself, over all its labels."""
        page = http_get(f"http://{self.own_metrics}/metrics") or ""
        return sum(float(value) for value in re.findall(rf"^{metric}(?:\{{[^}}]*\}})? (\S+)$", page, re.MULTILINE))

    def page(self) -> str:
        """What Prometheus would scrape now."""
        return http_get(f"http://{self.prometheus}/metrics") or ""


@contextmanager
def running(binary: Path, log: Path, *flags: str, **settings: str) -> Iterator[Collector]:
    """The Collector of collector-config.yaml with an upstream of its own; see `started`."""
    with Upstream() as upstream, started(binary, log, upstream, *flags, configs=(CONFIG,), **settings) as collector:
        yield collector


@contextmanager
def started(
    binary: Path, log: Path, upstream: Upstream, *flags: str, configs: Sequence[Path], **settings: str
) -> Iterator[Collector]:
    """Start a Collector on free ports, wait until its health check says so, stop it in the end.

    It keeps every trace and decides at once, unless `settings`, such as `SAMPLE_PERCENT`, say otherwise.
    """
    otlp, prometheus, health, telemetry = free_ports(4)
    environment = {
        "LISTEN": f"127.0.0.1:{otlp}",
        "PROMETHEUS": f"127.0.0.1:{prometheus}",
        "HEALTH": f"127.0.0.1:{health}",
        "UPSTREAM": f"127.0.0.1:{upstream.port}",
        "TELEMETRY_PORT": str(telemetry),
        "STATE_DIR": str(log.with_name(f"{log.name}-state")),
        "SAMPLE_PERCENT": "100",
        "DECISION_WAIT": "1s",
        **settings,
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary, *(f"--config={path}" for path in configs), f"--config=yaml:{PACE}", *flags],
            env={
                "PATH": os.environ.get("PATH", ""),
                **{f"TENANTSCOPE_COLLECTOR_{key}": value for key, value in environment.items()},
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(
            lambda: process.poll() is not None or http_get(f"http://127.0.0.1:{health}/"),
            "the Collector is up",
        )
        assert process.poll() is None, f"the Collector stopped: {log.read_text()[-2000:]}"
        with grpc.insecure_channel(environment["LISTEN"]) as channel:
            yield Collector(
                binary,
                environment["LISTEN"],
                f"127.0.0.1:{prometheus}",
                upstream,
                channel,
                f"127.0.0.1:{telemetry}",
                process,
            )
    finally:
        process.terminate()
        process.wait(DEADLINE)
