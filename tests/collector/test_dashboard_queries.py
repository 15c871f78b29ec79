"""Every query of the dashboard finds data in a real Prometheus that scrapes the real Collector."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from typing import Any

import prometheus_client
import pytest
import yaml
from application import INSTANCE, JOB, Application, application
from collector_process import DEADLINE, ROOT, Collector, eventually, free_ports, http_get

from sidecar import conventions as sidecar

BOARD = json.loads((ROOT / "dashboards/grafana/classic/tenants.json").read_text())
QUERIES = [(panel["title"], target["expr"]) for panel in BOARD["panels"] for target in panel.get("targets", [])]
EVERYTHING = {"job": ".*", "instance": ".*", "tenant": ".*"}
ONE_TENANT = {"job": JOB, "instance": INSTANCE, "tenant": "(acme|hog)"}


class Prometheus:
    """A running Prometheus, asked over its HTTP API."""

    def __init__(self, address: str, app: Application) -> None:
        self.address = address
        self.app = app

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of an API answer, or None."""
        answer = http_get(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        return json.loads(answer)["data"] if answer else None

    def numbers(self, expr: str, variables: dict[str, str]) -> dict[str, float]:
        """Result of an instant query after Grafana's variables are filled in: labels and values that are numbers."""
        for name, value in {**variables, "__rate_interval": "5s"}.items():
            expr = expr.replace(f"${name}", value)
        result = (self.get("query", query=expr) or {"result": []})["result"]
        values = {json.dumps(sample["metric"], sort_keys=True): float(sample["value"][1]) for sample in result}
        return {labels: value for labels, value in values.items() if not math.isnan(value)}

    def see(self, expr: str, variables: dict[str, str]) -> dict[str, float]:
        """`numbers`, asked while the application goes on, until there are some."""

        def ask() -> dict[str, float]:
            self.app.tick()
            return self.numbers(expr, variables)

        found: dict[str, float] = eventually(ask, f"data for {expr}")
        return found


@pytest.fixture(scope="module")
def sidecar_page() -> Iterator[str]:
    """A page with every metric of the sidecar's table on it, for the tenant `hog`."""
    registry = prometheus_client.CollectorRegistry()
    for metric in sidecar.METRICS:
        kind = prometheus_client.Counter if metric.kind == "counter" else prometheus_client.Gauge
        instrument = kind(metric.name, metric.description, metric.labels, registry=registry)
        series = instrument.labels(*("hog" for _ in metric.labels)) if metric.labels else instrument
        series.inc()
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def prometheus(
    collector: Collector, sidecar_page: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Prometheus with the repository's configuration and rules, on free ports and in a hurry."""
    program = shutil.which("prometheus")
    if program is None:
        give_up = pytest.fail if os.environ.get("REQUIRE_PROMTOOL") == "1" else pytest.skip
        give_up("no prometheus in PATH: install it, on Debian `apt-get install prometheus`")
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((ROOT / "dashboards/prometheus/prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    config["rule_files"] = [str(ROOT / "dashboards/prometheus" / name) for name in config["rule_files"]]
    for job, target in zip(config["scrape_configs"], (collector.prometheus, sidecar_page), strict=True):
        job["static_configs"] = [{"targets": [target]}]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(
            lambda: process.poll() is not None or http_get(f"http://127.0.0.1:{port}/-/ready"), "Prometheus is up"
        )
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        with application(collector.otlp) as app:
            yield Prometheus(f"127.0.0.1:{port}", app)
    finally:
        process.terminate()
        process.wait(DEADLINE)


@pytest.mark.parametrize("variables", [EVERYTHING, ONE_TENANT], ids=["all", "chosen"])
def test_every_panel_shows_data(prometheus: Prometheus, variables: dict[str, str]) -> None:
    """No panel stays empty, with everything chosen and with one service, instance and tenant chosen."""
    assert len(QUERIES) > 15
    for _, expr in QUERIES:
        prometheus.see(expr, variables)


def test_a_choice_of_nobody_shows_nothing(prometheus: Prometheus) -> None:
    """Every query obeys the tenant variable, or the instance where it is about a loop."""
    nobody = {"job": "-", "instance": "-", "tenant": "-"}
    for title, expr in QUERIES:
        assert prometheus.numbers(expr, nobody) == {}, title


def test_the_dashboard_names_culprit_and_victim(prometheus: Prometheus) -> None:
    """`acme` waits most, `hog` holds the loop and causes the delay."""
    first = dict(QUERIES)
    assert '{"tenant_id": "acme"}' in prometheus.see(first["Waits most"], ONE_TENANT)
    assert '{"tenant_id": "hog"}' in prometheus.see(first["Holds the loop most"], ONE_TENANT)
    caused = prometheus.see(first["Delay caused to others, by tenant"], ONE_TENANT)
    assert caused['{"tenant_id": "hog"}'] > caused['{"tenant_id": "acme"}']


def test_the_rules_are_healthy(prometheus: Prometheus) -> None:
    """Prometheus evaluates every rule without an error, and the alert is on its way for who waits."""
    pending = 'ALERTS{alertname="TenantLoopDelayHigh"}'
    alerts = prometheus.see(pending, {})
    assert any('"tenant_id": "acme"' in labels for labels in alerts)
    assert not any('"tenant_id": "hog"' in labels for labels in alerts)
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
