"""What the Collector has taken outlives it, however it ends."""

from __future__ import annotations

from pathlib import Path

import grpc
from collector_process import eventually, free_ports, running
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from instrumentation import conventions


def test_a_killed_collector_hands_on_what_it_had_taken(binary: Path, tmp_path: Path) -> None:
    """Its upstream is away, it is killed; the next one with the same folder delivers."""
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(severity_number=9)
    record.attributes.add(key=conventions.TENANT_ID).value.string_value = "survivor"
    (nobody,) = free_ports(1)
    with running(binary, tmp_path / "log", UPSTREAM=f"127.0.0.1:{nobody}") as collector:
        assert collector.send("logs", request) is grpc.StatusCode.OK
        eventually(lambda: collector.own("otelcol_exporter_queue_size"), "the record is in the queue")
        collector.process.kill()
        collector.process.wait()
    (folder,) = tmp_path.glob("*-state")
    assert folder.stat().st_mode & 0o077 == 0
    with running(binary, tmp_path / "log") as collector:
        collector.upstream.wait_for("logs", b"survivor")
