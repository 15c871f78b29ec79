"""A tenant blocks, and the verdict is a log record behind a real Collector, through both redactions."""

from __future__ import annotations

from typing import Any

from collector_process import eventually
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from stack import Stack, say

PATIENCE = 60.0
SERVICE = "audited-agents"


def verdicts(stack: Stack) -> list[dict[str, Any]]:
    """The alerts that have arrived so far about this test's application, as attributes."""
    found = []
    for payload in list(stack.collector.upstream.received["logs"]):
        for group in ExportLogsServiceRequest.FromString(payload).resource_logs:
            speaker = {entry.key: entry.value.string_value for entry in group.resource.attributes}
            for scope in group.scope_logs:
                for record in scope.log_records:
                    attributes: dict[str, Any] = {
                        entry.key: getattr(entry.value, str(entry.value.WhichOneof("value")))
                        for entry in record.attributes
                    }
                    attributes["severity"] = record.severity_number
                    attributes["speaker"] = speaker.get("service.name")
                    if attributes.get("tenantscope.alert.service") == SERVICE:
                        found.append(attributes)
    return found


def test_a_verdict_arrives_as_a_log_record(stack: Stack) -> None:
    """Firing and resolved, of who blocks and of nobody else, with the line that blocks; sent by the sidecar."""

    def told(status: str) -> dict[str, Any] | None:
        each = (
            found
            for found in verdicts(stack)
            if found["tenantscope.alert.name"] == "EventLoopStalled"
            and found["tenantscope.alert.status"] == status
            and "tenantscope.alert.stack" in found
        )
        return next(each, None)

    with stack.application(SERVICE) as child:
        say(child, "block")
        firing = eventually(lambda: told("firing"), "the verdict", PATIENCE)
        say(child, "rest")
        resolved = eventually(lambda: told("resolved"), "its end", PATIENCE)
        assert child.poll() is None
    assert (firing["tenant.id"], firing["severity"], firing["speaker"]) == ("hog", 13, "tenantscope-sidecar")
    assert "render_report" in firing["tenantscope.alert.stack"].split("\n")[0]
    assert firing["tenantscope.alert.duration"] >= 0.1
    assert (resolved["tenant.id"], resolved["severity"]) == ("hog", 9)
    stalls = [found for found in verdicts(stack) if found["tenantscope.alert.name"] == "EventLoopStalled"]
    assert {found["tenant.id"] for found in stalls} == {"hog"}
