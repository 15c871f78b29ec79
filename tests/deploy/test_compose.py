"""deploy/compose starts what it says, with settings and files that exist; and its processes, run here, see the demo.

No container is started. Docker Compose's own loader reads the file; the same commands with the same settings and files
are run on this machine, see `natively`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import programs
import pytest
import required
import yaml
from collector_process import Upstream, eventually, free_ports, http_get
from natively import Project, image
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from required import ROOT
from validation import Validate

from instrumentation.settings import Settings as LibrarySettings
from sidecar.configuration.settings import Settings as SidecarSettings
from tenantscope.demo.handover import CAST

COMPOSE = ROOT / "deploy/compose"
FILE = COMPOSE / "compose.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
PUBLISHED = {"grafana": 3000, "prometheus": 9090, "alertmanager": 9093, "traces": 16686, "runbooks": 8081}
PORTS = (14317, 9464, 13133, 8888, 8889, 8890, 9090, 9093, 4317, 16686, 3000, 8081)


def test_compose_understands_it(validate: Validate) -> None:
    """Its loader knows every key, every file that is mounted and every folder that is built from is there."""
    done = validate("compose", FILE)
    assert done.returncode == 0, done.stderr
    project = json.loads(done.stdout)
    for name, service in project["services"].items():
        for each in service.get("volumes", []):
            if each["type"] == "bind":
                assert Path(each["source"]).exists(), (name, each)
            else:
                assert each["source"] in project["volumes"], (name, each)
        if "build" in service:
            assert (Path(service["build"]["context"]) / service["build"]["dockerfile"]).is_file()


def test_every_image_has_a_version() -> None:
    """What runs tomorrow is what was looked at today."""
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[a-z/-]+:v?[0-9]+\.[0-9]+\.[0-9]+(-musl)?", service["image"]), name


def test_nothing_is_open_to_the_network_or_more_than_it_needs() -> None:
    """Ports on loopback alone; no service may write to its image or has capabilities."""
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    published = {name: int(s["ports"][0].split(":")[1]) for name, s in SERVICES.items() if "ports" in s}
    assert published == PUBLISHED
    said = FILE.read_text().partition("\nname:")[0]
    assert {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", said)} == set(PUBLISHED.values()) - {8081}


def test_the_settings_are_settings() -> None:
    """Both halves take their environment as it is, image's and file's together; each finds the other."""
    images = {name: image(ROOT / "deploy/containers/Dockerfile", stage) for name, stage in STAGES.items()}
    environment = {name: images[name].environment | SERVICES[name]["environment"] for name in STAGES}
    library, sidecar = environment["application"], environment["sidecar"]
    read = LibrarySettings.read(environ=library)
    settings = SidecarSettings.from_environment(sidecar)
    assert read.endpoint == settings.listen.target
    assert str(read.cell_dir).startswith("/run/tenantscope/")
    assert settings.metrics is not None
    assert f"sidecar:{settings.metrics.port}" in (COMPOSE / "prometheus.yaml").read_text()
    for name in STAGES:
        assert "run:/run/tenantscope" in SERVICES[name]["volumes"]
        assert SERVICES[name]["pid"] == "service:pids"


STAGES = {"application": "demo", "sidecar": "sidecar"}


def test_the_collectors_variables_are_variables() -> None:
    """Each that its image or the file sets is one that collector-config.yaml reads."""
    made = image(ROOT / "deploy/containers/collector.Dockerfile", None)
    known = set(re.findall(r"\$\{env:(\w+)", (ROOT / "collector-config.yaml").read_text()))
    assert set(made.environment) | set(SERVICES["collector"]["environment"]) <= known


def test_prometheus_differs_in_addresses_alone() -> None:
    """From the configuration that the dashboards and rules were made for."""

    def without_addresses(path: Path) -> Any:
        text = re.sub(r"targets: \[.*\]", "targets: []", path.read_text())
        return yaml.safe_load(text.replace("rules/", ""))

    original = ROOT / "dashboards/prometheus/prometheus.yaml"
    assert without_addresses(COMPOSE / "prometheus.yaml") == without_addresses(original)


def test_grafana_is_given_what_its_provisioning_names() -> None:
    """Every variable of the provisioning files, the dashboards' folder, and the store that exemplars lead to."""
    environment = SERVICES["grafana"]["environment"]
    targets = {each.split(":")[1]: (COMPOSE / each.split(":")[0]).resolve() for each in SERVICES["grafana"]["volumes"]}
    provisioned = {target: path for target, path in targets.items() if target.startswith("/etc/grafana/provisioning/")}
    files = [f for path in provisioned.values() for f in (path.iterdir() if path.is_dir() else [path])]
    named = {name for file in files for name in re.findall(r"^[^#]*\$(\w+)", file.read_text(), re.MULTILINE)}
    assert named == {"TENANTSCOPE_PROMETHEUS_URL", "TENANTSCOPE_DASHBOARDS"}
    assert named <= set(environment)
    dashboards = targets[environment["TENANTSCOPE_DASHBOARDS"]]
    home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (dashboards / home.name).is_file()
    sources = [s for file in files for s in yaml.safe_load(file.read_text()).get("datasources", [])]
    (prometheus,) = (source for source in sources if source["type"] == "prometheus")
    (traces,) = (source for source in sources if source["type"] == "jaeger")
    (destination,) = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert destination["datasourceUid"] == traces["uid"]


def test_amtool_agrees() -> None:
    """Alertmanager's configuration is valid."""
    amtool = required.program("amtool", variable="REQUIRE_ALERTMANAGER", package="prometheus-alertmanager")
    command = [amtool, "check-config", COMPOSE / "alertmanager.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True)
class Running:
    """The project's processes on this machine."""

    prometheus: programs.Prometheus
    alertmanager: str
    runbooks: str
    store: Upstream


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Every service but Grafana and those that only hold or store something, as this machine's processes."""
    found = {
        "python": sys.executable,
        "otelcol-tenantscope": str(required.collector()),
        "prometheus": required.prometheus(),
        "alertmanager": required.alertmanager(),
    }
    pace = {"scrape_interval: 15s": f"scrape_interval: {programs.SCRAPE}",
            "evaluation_interval: 15s": f"evaluation_interval: {programs.SCRAPE}",
            "group_wait: 10s": "group_wait: 0s"}  # fmt: skip
    faster = {
        "application": {"OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_BSP_SCHEDULE_DELAY": "500"},
        "collector": {"TENANTSCOPE_COLLECTOR_DECISION_WAIT": "1s"},
    }
    with ExitStack() as parts:
        folder = Path(tempfile.mkdtemp(prefix="ts-", dir="/tmp"))
        parts.callback(shutil.rmtree, folder, ignore_errors=True)
        store = parts.enter_context(Upstream())
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True)) | {4317: store.port}
        own = {  # addresses that no container could disturb another one by
            "collector": {"TENANTSCOPE_COLLECTOR_TELEMETRY_PORT": str(ports[8888])},
            "sidecar": {"TENANTSCOPE_ADMIN": f"127.0.0.1:{ports[8889]}"},
        }
        project = Project(FILE, folder, found, ports, pace)

        def start(service: str) -> None:
            project.mount(service)
            settings = project.environment(service) | faster.get(service, {}) | own.get(service, {})
            parts.enter_context(programs.process(project.command(service), folder / f"{service}.log", **settings))

        project.mount("runbooks")
        shell, flags, script = project.command("runbooks")
        # busybox's server is not here: the rules are written as they would be, Python serves the files.
        written = script.replace("exec httpd", ": httpd").replace("/tmp/httpd.conf", str(folder / "httpd.conf"))
        subprocess.run([shell, flags, written], env=project.environment("runbooks"), check=True)
        runbooks = parts.enter_context(programs.published(folder / "runbooks/runbooks", ports[8081]))
        for service in ("alertmanager", "prometheus", "collector", "sidecar", "application"):
            start(service)
        prometheus = programs.Prometheus(f"127.0.0.1:{ports[9090]}")
        eventually(lambda: http_get(f"http://{prometheus.address}/-/ready"), "Prometheus is up")
        yield Running(prometheus, f"127.0.0.1:{ports[9093]}", runbooks, store)


def test_prometheus_scrapes_both(running: Running) -> None:
    """The Collector, and the sidecar at its listener for other machines."""
    for job in ("tenantscope-collector", "tenantscope-sidecar"):
        running.prometheus.see(f'up{{job="{job}"}} == 1', 40)
    running.prometheus.see("tenantscope_records_received_total > 0", 40)


def test_every_tenant_of_the_demo_is_in_prometheus(running: Running) -> None:
    """By its messages, from the application over socket, sidecar and Collector; by its spans, too."""
    for tenant in CAST:
        running.prometheus.see(f'autogen_messages_total{{job="billing-agents",tenant_id="{tenant}"}}', 60)
        running.prometheus.see(f'traces_span_metrics_calls_total{{tenant_id="{tenant}"}}', 60)


def test_the_rules_are_loaded_and_lead_to_the_runbooks(running: Running) -> None:
    """All of them, each with a link that is served."""
    groups = running.prometheus.get("rules")["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if rule["type"] == "alerting"]
    original = [
        rule
        for file in (ROOT / "dashboards/prometheus").glob("*.rules.yaml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert {alert["name"] for alert in alerts} == {rule["alert"] for rule in original}
    for alert in alerts:
        page = http_get(alert["annotations"]["runbook_url"])
        assert page is not None, alert["annotations"]["runbook_url"]
        assert page.startswith(f"# {alert['name']}")


def test_alertmanager_hears_of_the_stalled_loop(running: Running) -> None:
    """From the sidecar, with the tenant, the stack that pids in common make readable, and a link that is served."""

    def stalls() -> list[dict[str, Any]]:
        answer = http_get(f"http://{running.alertmanager}/api/v2/alerts?filter=alertname%3DEventLoopStalled")
        return [alert for alert in json.loads(answer or "[]") if alert["labels"]["tenant_id"] == "acme"]

    alert = eventually(stalls, "an alert", 60)[0]
    assert alert["labels"]["service_name"] == "billing-agents"
    assert "render_report" in alert["annotations"]["stack"]
    assert (http_get(alert["annotations"]["runbook_url"]) or "").startswith("# EventLoopStalled")


def test_the_store_gets_traces_and_nothing_else(running: Running) -> None:
    """It keeps no metrics and no logs, and would refuse them for ever."""
    running.store.wait_for("traces", b"acme")
    request = ExportTraceServiceRequest.FromString(running.store.received["traces"][0])
    assert request.resource_spans
    assert running.store.received["metrics"] == running.store.received["logs"] == []
