"""The sidecar as a whole, in this process: real senders in front, a real upstream or the store behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from garbage import uncollected
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otlp_peers import (
    PATIENCE,
    Upstream,
    export,
    log_request,
    refuse,
    running_upstream,
    sum_request,
    trace_request,
)
from sidecars import configured

from sidecar.configuration.settings import ConfigurationError
from sidecar.service import Sidecar

SECRET = "sk-live-4242"


def page(sidecar: Sidecar, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.admin_address.port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def balanced(sidecar: Sidecar) -> dict[str, dict[str, int]]:
    """The counts; the equation holds."""
    counts = sidecar.ledger.records()
    for signal, row in counts.items():
        assert row["received"] == row["forwarded"] + row["rejected"] + row["dropped"] + row["queued"], signal
    return counts


def drained(sidecar: Sidecar) -> dict[str, dict[str, int]]:
    assert sidecar._delivery.queue.wait_until_empty(PATIENCE)
    return balanced(sidecar)


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar with the embedded store."""
    made = Sidecar(configured(tmp_path))
    made.start()
    yield made
    made.stop(PATIENCE)
    balanced(made)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture
def forwarding(tmp_path: Path, upstream: Upstream) -> Iterator[Sidecar]:
    """A sidecar with an upstream."""
    made = Sidecar(configured(tmp_path, UPSTREAM=upstream.url))
    made.start()
    yield made
    made.stop(PATIENCE)
    balanced(made)


def test_spans_and_metrics_of_the_real_sdk_are_found_under_their_tenant(sidecar: Sidecar) -> None:
    """An application with OpenTelemetry's own exporters, the embedded store, `/status`."""
    endpoint = f"http://{sidecar.listen_address.target}"
    resource = Resource.create({"service.name": "billing", "service.instance.id": "i-1"})
    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    with tracing.get_tracer("t").start_as_current_span("process writer", attributes={"tenant.id": "acme"}):
        pass
    tracing.shutdown()
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=endpoint))
    metering = MeterProvider([reader], resource=resource)
    metering.get_meter("m").create_counter("autogen.messages", unit="{message}").add(
        7, {"tenant.id": "acme", "autogen.message.outcome": "ok"}
    )
    metering.shutdown()
    counts = drained(sidecar)
    assert (counts["traces"]["forwarded"], counts["metrics"]["forwarded"]) == (1, 1)
    status, document = page(sidecar, "/status")
    assert status == 200
    assert document["tenants"] == [
        {"tenant": "acme", "messages": 7, "errors": 0, "tokens": 0, "spans": 1, "findings": 0}
    ]
    assert document["records"] == counts


def test_the_status_has_what_people_build_on(sidecar: Sidecar) -> None:
    """The keys of the document."""
    document = page(sidecar, "/status")[1]
    assert {"version", "pid", "records", "redactions", "loops", "stalls", "alerts", "tenants"} <= set(document)


def test_what_arrives_upstream_is_redacted(forwarding: Sidecar, upstream: Upstream) -> None:
    """A payload in an attribute, in the metadata, in a log body: not one of them goes on."""
    target = forwarding.listen_address.target
    export(target, trace_request(2, message=SECRET), metadata=[("authorization", SECRET), ("x-tenant", "acme")])
    export(target, sum_request("autogen.messages", 1), "metrics")
    upstream.wait_for(2)
    assert drained(forwarding)["traces"]["forwarded"] == 2
    assert all(SECRET.encode() not in payload for _, payload in upstream.requests)
    assert all(SECRET not in str(metadata) for metadata in upstream.metadata)
    assert sum(forwarding.ledger.redactions()["traces"]["drop"].values()) == 2


def test_ready_means_that_every_part_is(forwarding: Sidecar) -> None:
    """`/readyz` is 200 as soon as `start` is through and the upstream is there."""
    assert forwarding._delivery.wait_until_ready(PATIENCE)
    assert page(forwarding, "/readyz") == (200, {"ready": True, "not_ready": []})
    assert page(forwarding, "/healthz") == (200, {"status": "ok"})


def test_a_dead_upstream_makes_it_unready_and_not_dead(tmp_path: Path) -> None:
    """It goes on taking telemetry, and names what is missing."""
    sidecar = Sidecar(configured(tmp_path, UPSTREAM=f"unix:{tmp_path / 'nobody.sock'}"))
    sidecar.start()
    try:
        export(sidecar.listen_address.target, trace_request(3))
        assert page(sidecar, "/readyz") == (503, {"ready": False, "not_ready": ["destination"]})
        assert page(sidecar, "/healthz")[0] == 200
        assert balanced(sidecar)["traces"]["queued"] == 3
    finally:
        sidecar.stop(0)
    counts = balanced(sidecar)["traces"]
    assert (counts["dropped"], counts["queued"]) == (0, 3)


def test_a_full_queue_puts_senders_off(tmp_path: Path) -> None:
    """UNAVAILABLE with RetryInfo, counted as rejected; nothing that was promised is lost."""
    sidecar = Sidecar(configured(tmp_path, UPSTREAM=f"unix:{tmp_path / 'late.sock'}"))
    sidecar.start()
    target = sidecar.listen_address.target
    export(target, trace_request(8))
    sidecar._delivery.queue._max_bytes = 100
    with pytest.raises(grpc.RpcError) as refused:
        export(target, trace_request(5))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "google.rpc.retryinfo-bin" in dict(refused.value.trailing_metadata())
    counts = balanced(sidecar)["traces"]
    assert (counts["received"], counts["rejected"], counts["queued"]) == (13, 5, 8)
    with running_upstream(f"unix:{tmp_path / 'late.sock'}") as upstream:
        upstream.wait_for(1)
        assert drained(sidecar)["traces"]["forwarded"] == 8
        sidecar.stop(PATIENCE)


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
@pytest.mark.parametrize("damage", [b"\xff\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x7f", b"\x0a\x05abc"])
def test_what_is_no_otlp_is_told_so(
    sidecar: Sidecar, capfd: pytest.CaptureFixture[str], signal: str, damage: bytes
) -> None:
    """INVALID_ARGUMENT with a fixed text; nothing is counted as a record, nothing printed."""
    with pytest.raises(grpc.RpcError) as refused:
        export(sidecar.listen_address.target, damage, signal)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "the request is not valid OTLP"
    assert balanced(sidecar)[signal]["received"] == 0


REQUEST = trace_request(3, message=SECRET)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200),
        st.integers(0, len(REQUEST)).map(lambda end: REQUEST[:end]),
        st.tuples(st.integers(0, len(REQUEST) - 1), st.integers(0, 255)).map(
            lambda flip: REQUEST[: flip[0]] + bytes([flip[1]]) + REQUEST[flip[0] + 1 :]
        ),
    )
)
def test_mutated_requests_are_taken_or_refused_and_always_counted(sidecar: Sidecar, payload: bytes) -> None:
    """Cut anywhere, any byte changed, or noise: OK or INVALID_ARGUMENT, and the equation holds."""
    code = grpc.StatusCode.OK
    try:
        export(sidecar.listen_address.target, payload)
    except grpc.RpcError as error:
        code = error.code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)
    balanced(sidecar)


def test_the_equation_holds_with_many_senders_and_a_failing_upstream(forwarding: Sidecar, upstream: Upstream) -> None:
    """Eight senders, an upstream that refuses and puts off: exact at every moment and in the end."""
    target = forwarding.listen_address.target
    for number in range(60):
        upstream.answers.append(
            refuse(grpc.StatusCode.PERMISSION_DENIED) if number % 6 == 0
            else refuse(grpc.StatusCode.INVALID_ARGUMENT) if number % 6 == 3
            else refuse(grpc.StatusCode.UNAVAILABLE, retry_after=0) if number % 20 == 1
            else lambda context: b""
        )  # fmt: skip
    failures: list[grpc.RpcError] = []

    def send() -> None:
        try:
            for _ in range(10):
                export(target, trace_request(4))
                export(target, log_request(2), "logs")
        except grpc.RpcError as error:
            failures.append(error)

    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        balanced(forwarding)
    assert failures == []
    assert forwarding._delivery.queue.wait_until_empty(PATIENCE * 3)
    counts = balanced(forwarding)
    assert counts["traces"]["received"] == 320
    assert counts["logs"]["received"] == 160
    assert sum(row["rejected"] for row in counts.values()) > 0
    assert all(row["queued"] == 0 for row in counts.values())
    delivered = [ExportTraceServiceRequest.FromString(sent) for kind, sent in upstream.taken if kind == "traces"]
    spans = sum(len(s.spans) for request in delivered for g in request.resource_spans for s in g.scope_spans)
    assert spans == counts["traces"]["forwarded"]


def test_a_stop_drains_and_is_idempotent(tmp_path: Path, upstream: Upstream) -> None:
    """What was taken is delivered; a second stop does nothing; `wait` returns."""
    sidecar = Sidecar(configured(tmp_path, UPSTREAM=upstream.url))
    sidecar.start()
    for _ in range(20):
        export(sidecar.listen_address.target, trace_request(1))
    assert not sidecar.wait(0)
    sidecar.stop(PATIENCE)
    sidecar.stop(PATIENCE)
    assert sidecar.wait(0)
    assert balanced(sidecar)["traces"]["forwarded"] == 20


def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path, sidecar: Sidecar) -> None:
    """The port is taken: one line, and the folder and the admin port are free again."""
    settings = configured(tmp_path, LISTEN=sidecar.listen_address.target, STATE_DIR=str(tmp_path / "other"))
    with pytest.raises(ConfigurationError, match="TENANTSCOPE_LISTEN"):
        Sidecar(settings).start()
    again = Sidecar(configured(tmp_path, STATE_DIR=str(tmp_path / "other")))
    again.start()
    again.stop(0)
    names = [thread.name for thread in threading.enumerate()]
    assert [names.count(name) for name in ("forwarder", "admin", "watchdog")] == [1, 1, 1]  # the first one's


def test_nothing_of_a_payload_is_on_disk(sidecar: Sidecar, tmp_path: Path) -> None:
    """Every file of the state folder, searched as bytes."""
    export(sidecar.listen_address.target, trace_request(50, message=SECRET))
    drained(sidecar)
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert all(SECRET.encode() not in path.read_bytes() for path in files)
    assert any(b"process writer" in path.read_bytes() for path in files), "the search looks in the wrong place"


def test_metrics_for_other_machines_are_the_same_figures(tmp_path: Path) -> None:
    """Served beside the admin pages and gone with them; an address that is taken is told by its key."""
    sidecar = Sidecar(configured(tmp_path, METRICS="127.0.0.1:0"))
    sidecar.start()
    try:
        assert sidecar.metrics_address is not None
        export(sidecar.listen_address.target, trace_request(3))
        drained(sidecar)
        connection = http.client.HTTPConnection("127.0.0.1", sidecar.metrics_address.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            received = 'tenantscope_records_received_total{signal="traces"} 3.0'
            assert received in connection.getresponse().read().decode()
        other = Sidecar(configured(tmp_path / "other", METRICS=sidecar.metrics_address.target))
        with pytest.raises(ConfigurationError, match=r"TENANTSCOPE_METRICS: cannot listen on"):
            other.start()
    finally:
        sidecar.stop(0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sidecar.metrics_address.port), PATIENCE)


def post(sidecar: Sidecar, payload: bytes) -> int:
    """The same over HTTP; the status."""
    assert sidecar.http_address is not None
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.http_address.port, timeout=PATIENCE)
    try:
        connection.request("POST", "/v1/traces", payload, {"Content-Type": "application/x-protobuf"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("payload", "code", "status"),
    [
        (trace_request(200), None, 200),
        (trace_request(200)[:-1], grpc.StatusCode.INVALID_ARGUMENT, 400),
        (b"\x0a\x00" * 100_000, grpc.StatusCode.INVALID_ARGUMENT, 400),
    ],
    ids=["taken", "broken", "too much"],
)
def test_no_request_is_held_when_it_has_been_answered(
    tmp_path: Path, payload: bytes, code: grpc.StatusCode | None, status: int
) -> None:
    """Taken or refused, its bytes go: nothing of it waits for the collector to come by."""
    sidecar = Sidecar(configured(tmp_path, LISTEN_HTTP="127.0.0.1:0"))
    sidecar.start()
    try:
        with uncollected() as holders:
            for _ in range(4):  # the last ones may still be at work when they are answered, the first ones are not
                if code is None:
                    export(sidecar.listen_address.target, payload)
                else:
                    with pytest.raises(grpc.RpcError) as refused:
                        export(sidecar.listen_address.target, payload)
                    assert refused.value.code() is code
                assert post(sidecar, payload) == status
            assert holders(payload) == []
    finally:
        sidecar.stop(PATIENCE)
