"""Which policy is in force can be seen from outside: in the status, and as a metric."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest
from otlp_peers import PATIENCE
from sidecars import configured

from sidecar.conventions import POLICIES
from sidecar.redaction import Policy
from sidecar.service import Sidecar


def page(sidecar: Sidecar, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.admin_address.port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("name", POLICIES)
def test_the_policy_in_force_is_told_by_its_digest(tmp_path: Path, name: str) -> None:
    """A shipped policy is picked by name; status and metrics agree on its digest, and there is only one."""
    sidecar = Sidecar(configured(tmp_path, POLICY=name))
    sidecar.start()
    try:
        status, metrics = json.loads(page(sidecar, "/status")), page(sidecar, "/metrics")
    finally:
        sidecar.stop(0)
    digest = Policy.load(name).digest
    assert status["policy"] == {"source": name, "digest": digest, "stale": False, "key": "k1"}
    assert [line for line in metrics.splitlines() if line.startswith("tenantscope_policy_info")] == [
        f'tenantscope_policy_info{{digest="{digest}"}} 1.0'
    ]


def test_tenants_are_shown_alike_on_both_ways(tmp_path: Path) -> None:
    """An id that the policy masks in telemetry is not in the status, the alerts or the log by way of the cell."""
    sidecar = Sidecar(configured(tmp_path))
    sidecar.start()
    try:
        tenants = ("acme", "jane.doe@corp.example", "bob@corp.example")
        shown = [sidecar._watchdog._shown(tenant) for tenant in tenants]
    finally:
        sidecar.stop(1)
    assert shown[0] == "acme"
    assert shown[1] != shown[2]
    assert all(tenant.startswith("[redacted:email:") for tenant in shown[1:])
