"""A whole sidecar with quotas: real senders, over their quota, among others who are not."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from otlp_peers import PATIENCE, export, log_request, trace_request
from sidecars import configured

from sidecar.senders.clients import new_token
from sidecar.service import Sidecar

TOKEN, DIGEST = new_token()
LIMITS = """
default = "standard"
[tiers.standard]
records = 0.001
burst = 10_000          # ten records at once, and then one each quarter of an hour
"""
CLIENTS = f"""\
clients:
  billing:
    tokens: ["{DIGEST}"]
    tenants: all
    records: 0.001
    burst: 30000
"""
METADATA = [("authorization", f"Bearer {TOKEN}")]


@pytest.fixture
def sidecar(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Sidecar]:
    limits, clients = tmp_path / "limits.toml", tmp_path / "clients.yaml"
    limits.write_text(LIMITS)
    clients.write_text(CLIENTS)
    made = Sidecar(
        configured(
            tmp_path,
            LISTEN_HTTP="127.0.0.1:0",
            LIMITS=str(limits),
            **({"CLIENTS_FILE": str(clients)} if request.param == "clients" else {}),
        )
    )
    made.start()
    yield made
    made.stop(PATIENCE)


def status(sidecar: Sidecar) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.admin_address.port, timeout=PATIENCE)
    connection.request("GET", "/status", headers=dict(METADATA))
    document: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return document


@pytest.mark.parametrize("sidecar", ["tenants"], indirect=True)
def test_a_tenant_that_floods_costs_the_others_nothing(sidecar: Sidecar) -> None:
    """Its records are dropped, in a request that holds another's too; every one is accounted."""
    target = sidecar.listen_address.target
    for _ in range(5):
        export(target, trace_request(100, tenant="flood") + trace_request(1, tenant="calm"))
    assert sidecar._delivery.queue.wait_until_empty(PATIENCE)
    counts, reasons = sidecar.ledger.records()["traces"], sidecar.ledger.reasons()["traces"]
    assert (counts["received"], counts["forwarded"], counts["dropped"], counts["queued"]) == (505, 105, 400, 0)
    assert reasons["dropped"] == {"quota": 400}
    assert status(sidecar)["quotas"] == {
        "clients": [],
        "tenants": [{"tenant": "flood", "refused_records": 400, "over": True}],
    }


@pytest.mark.parametrize("sidecar", ["tenants"], indirect=True)
def test_what_the_sidecar_says_of_a_tenant_is_not_on_its_account(sidecar: Sidecar) -> None:
    """An alert about one that floods goes the way of telemetry, but is not its own: neither dropped nor charged."""
    assert sidecar._record(log_request(100, tenant="calm"))
    export(sidecar.listen_address.target, trace_request(100, tenant="flood") + trace_request(1, tenant="calm"))
    assert sidecar._record(log_request(1, tenant="flood"))
    assert sidecar._delivery.queue.wait_until_empty(PATIENCE)
    records = sidecar.ledger.records()
    assert (records["logs"]["forwarded"], records["traces"]["forwarded"]) == (101, 101)
    assert sidecar.ledger.reasons()["logs"]["dropped"] == {}


@pytest.mark.parametrize("sidecar", ["clients"], indirect=True)
def test_a_client_over_its_quota_is_put_off_before_it_has_sent_anything(sidecar: Sidecar) -> None:
    """UNAVAILABLE with a time to wait, counted by reason; what it was promised before is delivered."""
    target = sidecar.listen_address.target
    export(target, trace_request(50), metadata=METADATA)

    with pytest.raises(grpc.RpcError) as refused:
        export(target, trace_request(50), metadata=METADATA)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "google.rpc.retryinfo-bin" in dict(refused.value.trailing_metadata())
    assert (
        sidecar.registry.get_sample_value("tenantscope_requests_refused_total", {"signal": "traces", "reason": "quota"})
        == 1
    )
    assert sidecar.ledger.records()["traces"]["received"] == 50
    assert status(sidecar)["quotas"]["clients"] == [{"client": "billing", "refused_requests": 1, "over": True}]


@pytest.mark.parametrize("sidecar", ["tenants"], indirect=True)
def test_limits_are_read_again(sidecar: Sidecar, tmp_path: Path) -> None:
    """A reload gives everybody the new quota; a file that is wrong changes nothing, nor does one that is gone."""
    target, file = sidecar.listen_address.target, tmp_path / "limits.toml"
    export(target, trace_request(100))
    export(target, trace_request(100))
    assert sidecar.ledger.reasons()["traces"]["dropped"] == {"quota": 100}
    for broken in (b"records = ", b"[tiers.a]\nrecords = 0", None):
        if broken is None:
            file.unlink()
        else:
            file.write_bytes(broken)
        sidecar.reload()
        export(target, trace_request(1))
    assert sidecar.ledger.reasons()["traces"]["dropped"] == {"quota": 103}
    file.write_text('default = "a"\n[tiers.a]\nrecords = 1e6\ndelay_p99 = 0.5\n')
    sidecar.reload()
    export(target, trace_request(100))
    assert sidecar.ledger.reasons()["traces"]["dropped"] == {"quota": 103}
    assert sidecar._watchdog._tenants._targets


def post(sidecar: Sidecar, body: bytes) -> tuple[int, str | None]:
    """Over OTLP/HTTP: the status, and when to try again."""
    connection = http.client.HTTPConnection("127.0.0.1", sidecar._http_intake.address.port, timeout=PATIENCE)
    headers = {"Content-Type": "application/x-protobuf", "Authorization": f"Bearer {TOKEN}"}
    connection.request("POST", "/v1/traces", body, headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.headers["Retry-After"]


@pytest.mark.parametrize("sidecar", ["clients"], indirect=True)
def test_a_quota_holds_whatever_protocol_a_client_speaks(sidecar: Sidecar) -> None:
    """What it sent over one counts for the other: there is one way in."""
    assert post(sidecar, trace_request(50)) == (200, None)
    with pytest.raises(grpc.RpcError) as refused:
        export(sidecar.listen_address.target, trace_request(1), metadata=METADATA)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    status, again = post(sidecar, trace_request(1))
    assert status == 503
    assert 1 <= int(again) <= 2
    assert sidecar.ledger.records()["traces"]["received"] == 50
