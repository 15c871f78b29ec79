"""What was recorded may grow old: the status of a sidecar of today is read without a fault."""

from __future__ import annotations

from pathlib import Path

import pytest
from sidecars import configured

from sidecar.answers import version
from sidecar.service import Sidecar
from tenantscope.view.client import Admin
from tenantscope.view.status import WAYS_TO_END


@pytest.mark.parametrize(
    ("setting", "destination"),
    [({}, "embedded store"), ({"UPSTREAM": "https://collector.example:4317"}, "collector.example:4317")],
)
def test_a_sidecar_says_who_it_is_and_where_telemetry_goes(
    setting: dict[str, str], destination: str, tmp_path: Path
) -> None:
    """Over its own admin listener, on a port that it chose."""
    settings = configured(tmp_path, **setting)
    sidecar = Sidecar(settings)
    sidecar.start()
    try:
        status = Admin(sidecar.admin_address.target).status()
    finally:
        sidecar.stop(0)
    assert status.faults == 0
    assert (status.version, status.destination, status.loops) == (version(), destination, ())
    assert {*status.records} == {"traces", "metrics", "logs"}
    assert all({*counts} == {"received", "recovered", *WAYS_TO_END} for counts in status.records.values())
