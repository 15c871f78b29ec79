"""`opentelemetry-instrument` watches an application that does not know of us."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_peers import running_upstream

APPLICATION = """
import asyncio
from autogen_apps import Ask, Asked, ask_runtime
from autogen_core import AgentId


async def main():
    runtime = await ask_runtime(asked=Asked)
    runtime.start()
    await runtime.send_message(Ask("s3cr3t"), AgentId("asked", "k"))
    await runtime.stop_when_idle()


asyncio.run(main())
"""


def test_the_entry_point_is_there() -> None:
    """Under the name that `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` knows it by."""
    (found,) = importlib.metadata.entry_points(group="opentelemetry_instrumentor", name="tenantscope")
    assert found.value == "instrumentation.instrumentor:TenantscopeInstrumentor"


def test_an_application_without_a_line_of_ours(tmp_path: Path) -> None:
    """What it did arrives, under the service's name, when it has ended."""
    program = tmp_path / "app.py"
    program.write_text(APPLICATION)
    command = Path(sys.executable).with_name("opentelemetry-instrument")
    with running_upstream() as upstream:
        environ = {
            **os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OTEL_EXPORTER_OTLP_ENDPOINT": upstream.url,
            "OTEL_SERVICE_NAME": "zero",
        }  # fmt: skip
        ran = subprocess.run(
            [command, sys.executable, program], capture_output=True, text=True, timeout=60, env=environ
        )
        assert ran.returncode == 0, ran.stderr
        exported = [ExportTraceServiceRequest.FromString(p) for signal, p in upstream.taken if signal == "traces"]
    groups = [group for request in exported for group in request.resource_spans]
    names = [span.name for group in groups for scope in group.scope_spans for span in scope.spans]
    assert names == ["create_agent asked", "process asked"]
    assert {a.value.string_value for g in groups for a in g.resource.attributes if a.key == "service.name"} == {"zero"}
    assert "s3cr3t" not in str(exported)
