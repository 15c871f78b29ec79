"""Alerts as log records: what is in one, and that none is lost or holds anybody up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from otlp_peers import PATIENCE, running_upstream
from otlp_peers import Upstream as Peer
from sidecars import configured

from sidecar import conventions
from sidecar.alerts import Alert, Records
from sidecar.alerts.records import MAX_BATCH, MAX_STACK, MAX_WAITING, record
from sidecar.conventions import POLICIES
from sidecar.redaction import Policy, Redactor
from sidecar.service import Sidecar

BEGAN = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
INSTANCE = "0f8fad5b-d9cb-469f-a165-70867728950e"
STACK = "/srv/app/main.py:12 <module>\n/srv/app/agents.py:40 Blocker.on_block.<locals>.block"


def alert(number: int = 0, status: str = "firing", **annotations: str) -> Alert:
    resolved = status == "resolved"
    return Alert(
        name=conventions.EVENT_LOOP_STALLED,
        status="resolved" if resolved else "firing",
        labels={
            "alertname": conventions.EVENT_LOOP_STALLED,
            "tenant_id": "acme",
            "service_name": "billing-agents",
            "instance": INSTANCE,
        },
        annotations={"summary": "Tenant acme holds it", "duration_ms": "104", "stack": STACK} | annotations,
        starts_at=BEGAN + timedelta(seconds=number),
        ends_at=BEGAN + timedelta(seconds=number + 1) if resolved else None,
    )


def attributes(found: LogRecord) -> dict[str, Any]:
    return {entry.key: getattr(entry.value, str(entry.value.WhichOneof("value"))) for entry in found.attributes}


def test_a_record_says_what_who_where_and_for_how_long() -> None:
    """The stack has its innermost frame first; prose stays behind. Severity and time are those of the change."""
    firing = record(alert(), {"acme": "acme-id"}.__getitem__, BEGAN)
    assert firing.event_name == "tenantscope.alert"
    assert (firing.severity_number, firing.severity_text) == (13, "WARN")
    assert firing.time_unix_nano == round(BEGAN.timestamp()) * 10**9
    assert not firing.HasField("body")
    assert attributes(firing) == {
        "tenant.id": "acme-id",
        "tenantscope.alert.name": "EventLoopStalled",
        "tenantscope.alert.status": "firing",
        "tenantscope.alert.service": "billing-agents",
        "tenantscope.alert.instance": INSTANCE,
        "tenantscope.alert.duration": 0.104,
        "tenantscope.alert.stack": "\n".join(STACK.split("\n")[::-1]),
    }
    resolved = record(alert(status="resolved"), str, BEGAN)
    assert (resolved.severity_number, resolved.severity_text) == (9, "INFO")
    assert resolved.time_unix_nano == round(BEGAN.timestamp() + 1) * 10**9


def test_what_an_alert_does_not_have_is_not_in_its_record() -> None:
    """No stack, no tenant, no duration."""
    bare = Alert(
        conventions.REDACTION_POLICY_REFUSED,
        "firing",
        {"alertname": conventions.REDACTION_POLICY_REFUSED, "tenant_id": "", "service_name": "s", "instance": "1"},
        {"summary": "the file is wrong", "stack": "not available: nobody looked"},
        BEGAN,
    )
    assert set(attributes(record(bare, str, BEGAN))) == {
        "tenantscope.alert.name", "tenantscope.alert.status", "tenantscope.alert.service", "tenantscope.alert.instance",
    }  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
def test_every_shipped_policy_lets_the_evidence_out(name: str) -> None:
    """All of it but, under the strict one, what is not an id that was drawn at random."""
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.append(record(alert(), str, BEGAN))
    out = Redactor(Policy.load(name)).redact("logs", request.SerializeToString())
    (kept,) = ExportLogsServiceRequest.FromString(out.payload).resource_logs[0].scope_logs[0].log_records
    assert attributes(kept) == attributes(record(alert(), str, BEGAN))
    assert (kept.event_name, kept.severity_text) == ("tenantscope.alert", "WARN")


@given(st.lists(st.text(min_size=1, max_size=60), max_size=40))
def test_whatever_a_stack_looks_like_its_record_has_the_shape_of_one(functions: list[str]) -> None:
    """Any file and function: what no shape would let pass is replaced, and the length is bounded."""
    lines = "\n".join(f"{function}.py:{number} {function}" for number, function in enumerate(functions))
    shown = attributes(record(alert(stack=lines), str, BEGAN)).get("tenantscope.alert.stack", "")
    assert len(shown) <= MAX_STACK
    if shown:
        request = ExportLogsServiceRequest()
        request.resource_logs.add().scope_logs.add().log_records.append(record(alert(stack=lines), str, BEGAN))
        out = Redactor(Policy.default()).redact("logs", request.SerializeToString())
        assert not [key for key in out.actions if key[1] in ("shape", "length")]


class Way:
    """The way on: takes what it is given while it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.requests: list[ExportLogsServiceRequest] = []
        self.tried = threading.Semaphore(0)
        self.fault: Exception | None = None

    def take(self, payload: bytes) -> bool:
        self.tried.release()
        if self.fault is not None:
            raise self.fault
        if self.open.is_set():
            self.requests.append(ExportLogsServiceRequest.FromString(payload))
        return self.open.is_set()

    def records(self) -> list[LogRecord]:
        return [r for q in self.requests for g in q.resource_logs for s in g.scope_logs for r in s.log_records]


@pytest.fixture
def way() -> Way:
    return Way()


@pytest.fixture
def make(way: Way) -> Iterator[Callable[[], Records]]:
    made: list[Records] = []

    def make() -> Records:
        made.append(Records(way.take, str, {"service.name": "sidecar"}, retry_seconds=0.005))
        return made[-1]

    yield make
    for each in made:
        each.stop(PATIENCE)


def test_changes_are_handed_on_in_their_order_also_those_from_before_the_start(
    way: Way, make: Callable[[], Records]
) -> None:
    """Each once, in requests that are bounded; the resource is the sidecar."""
    records = make()
    for number in range(MAX_BATCH + 10):
        records.submit(alert(number, "resolved" if number % 2 else "firing"))
    records.start()
    records.stop(PATIENCE)
    times = [found.time_unix_nano for found in way.records()]
    assert len(times) == MAX_BATCH + 10
    assert max(len(q.resource_logs[0].scope_logs[0].log_records) for q in way.requests) == MAX_BATCH
    assert way.requests[0].resource_logs[0].resource.attributes[0].value.string_value == "sidecar"
    assert records.counts() == (MAX_BATCH + 10, MAX_BATCH + 10, {}, 0)


def test_while_nothing_can_be_taken_they_wait_and_nobody_is_held_up(way: Way, make: Callable[[], Records]) -> None:
    """Tried again and again; what finds no room is counted. Then they go on, none twice."""
    way.open.clear()
    records = make()
    records.start()
    for number in range(MAX_WAITING + 7):
        records.submit(alert(number))
    for _ in range(3):
        assert way.tried.acquire(timeout=PATIENCE)
    assert records.counts() == (MAX_WAITING + 7, 0, {"queue_full": 7}, MAX_WAITING)
    assert records.failures()["busy"] >= 1
    way.open.set()
    records.stop(PATIENCE)
    assert records.counts() == (MAX_WAITING + 7, MAX_WAITING, {"queue_full": 7}, 0)
    times = [found.time_unix_nano for found in way.records()]
    assert times == sorted(set(times))


def test_a_way_that_stays_shut_does_not_keep_the_sidecar_from_stopping(way: Way, make: Callable[[], Records]) -> None:
    """What waits is counted as waiting to the last."""
    way.open.clear()
    records = make()
    records.start()
    records.submit(alert())
    assert way.tried.acquire(timeout=PATIENCE)
    records.stop(0.05)
    assert records.counts() == (1, 0, {}, 1)


def test_a_fault_costs_those_that_it_hit_and_no_other(way: Way, make: Callable[[], Records]) -> None:
    """Not tried again, for it would fail again; counted."""
    way.fault = RuntimeError("sk-live-4242")
    records = make()
    records.start()
    records.submit(alert())
    assert way.tried.acquire(timeout=PATIENCE)
    way.fault = None
    records.submit(alert(1))
    records.stop(PATIENCE)
    taken, told, dropped, waiting = records.counts()
    assert (taken, told + sum(dropped.values()), waiting) == (2, 2, 0)
    assert dropped["fault"] >= 1


@pytest.mark.parametrize(
    ("rule", "expected"), [("{type: string, shape: tenant, max_length: 255}", "acme"), ("{action: pseudonymise}", "p-")]
)
def test_an_alert_goes_the_way_of_telemetry(tmp_path: Path, rule: str, expected: str) -> None:
    """Through the policy, which makes a tenant's pseudonym and not a pseudonym's; counted in the ledger."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        f"version: 1\nattributes:\n  tenant.id: {rule}\n  tenantscope.alert.name: "
        "{type: string, shape: identifier, max_length: 64}\nevents: {}\nfields: {}\nresource:\n  service.name: "
        "{type: string, shape: identifier, max_length: 64}\n"
    )
    with running_upstream() as upstream:
        sidecar = Sidecar(configured(tmp_path, UPSTREAM=upstream.url, POLICY=str(policy)))
        sidecar.start()
        try:
            face = sidecar._faces.of("acme")
            shown = alert()
            sidecar._alerts.submit(replace(shown, labels={**shown.labels, "tenant_id": face}))
            found = arrived(upstream)
        finally:
            sidecar.stop()
        assert face.startswith(expected)
        assert attributes(found)["tenant.id"] == face
        assert attributes(found)["tenantscope.alert.name"] == "EventLoopStalled"
        counts = sidecar.ledger.records()["logs"]
        assert {key: count for key, count in counts.items() if count} == {"received": 1, "forwarded": 1}


def arrived(upstream: Peer) -> LogRecord:
    upstream.wait_for(1)
    ((signal, payload),) = upstream.requests
    assert signal == "logs"
    (group,) = ExportLogsServiceRequest.FromString(payload).resource_logs
    assert attributes_of_resource(group) == {"service.name": "tenantscope-sidecar"}
    return group.scope_logs[0].log_records[0]


def attributes_of_resource(group: Any) -> dict[str, str]:
    return {entry.key: entry.value.string_value for entry in group.resource.attributes}
