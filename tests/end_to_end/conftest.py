"""Everything between an application and the people on call, once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import programs
import pytest
import required
from alert_receiver import running_receiver
from collector_process import running
from stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A Collector, a sidecar before it, Prometheus, Alertmanager, a receiver of its messages, the runbooks."""
    binary = required.collector()
    folder = tmp_path_factory.mktemp("stack")
    folders = {name: folder / name for name in ("sidecar", "prometheus", "alertmanager")}
    for each in folders.values():
        each.mkdir()
    with ExitStack() as parts:
        receiver = parts.enter_context(running_receiver())
        runbooks = parts.enter_context(programs.published(programs.RUNBOOKS))
        alertmanager = parts.enter_context(programs.alertmanager(folders["alertmanager"], receiver.url))
        expiration = f"exporters::prometheus::metric_expiration: {programs.faster('10m')}"
        collector = parts.enter_context(running(binary, folder / "collector.log", f"--config=yaml:{expiration}"))
        sidecar = parts.enter_context(
            programs.sidecar(
                folders["sidecar"],
                UPSTREAM=f"http://{collector.otlp}",
                ALERTMANAGER=f"http://{alertmanager}",
                RUNBOOK_URL=runbooks,
            )
        )
        others = [f"127.0.0.1:{port}" for port in programs.free_ports(3)]
        targets = {
            "tenantscope-collector": [collector.prometheus],
            "tenantscope-sidecar": [sidecar.admin, *others],
        }
        prometheus = parts.enter_context(programs.prometheus(folders["prometheus"], targets, alertmanager, runbooks))
        yield Stack(folder, collector, sidecar, prometheus, receiver, runbooks, others)
