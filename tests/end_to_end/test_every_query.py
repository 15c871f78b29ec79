"""Every query of every panel, rule and annotation returns data in a real Prometheus that scraped real programs.

The demo's application feeds them: five tenants, one of whom holds the loop. What stays empty then is quiet by design
and stands in `QUIET`; it returns data once its fault is there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import programs
import pytest
import yaml
from collector_process import eventually
from required import ROOT
from stack import Stack
from troubles import everything_goes_wrong

from dashboards import prometheus_names
from tenantscope.demo.canaries import Canaries, new_marker
from tenantscope.demo.handover import CAST, HOG, SERVICE, VICTIM, Plan
from tenantscope.demo.model_server import ModelServer

PATIENCE = 60.0
BOARDS = {
    path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "dashboards/grafana/classic").glob("*.json"))
}
RULES = [
    rule
    for path in sorted(programs.PROMETHEUS.glob("*.rules.yaml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
WINDOW = "4s"

#: What returns nothing while all is well, by panel or alert.
QUIET = {
    "Dropped, by reason", "Refused, by reason", "Refused per second", "Refused for good, and kept", "Upstream put off",
    "Receivers of alerts", "Never told", "Cells and streams refused", "Told to receivers", "Alerts that wait",
    "Redaction, by reason", "What the library dropped",
    "Sent again, by tenant", "Conversations handed over, by whom to",
    "Handlers that nobody waits for, by tenant", "Refused by models", "Refused by models, by tenant",
    "SidecarDown", "SidecarQueueBacklog", "SidecarQueueFull", "SidecarLosesRecords", "RedactionFailing",
    "AlertsNotDelivered", "AlertsLost", "LibraryDropsTelemetry", "ForeignTenantClaimed", "CallersRefused",
    "TenantOverQuota", "Requests refused, by reason", "WorkersReplaced", "Workers replaced, by reason",
    "TenantErrorsHigh", "TenantLoopDelayBudgetBurns", "TenantRateLimited", "TenantTelemetryMissing",
}  # fmt: skip


def in_prometheus(expr: str, job: str = ".*", instance: str = ".*", tenant: str = ".*") -> str:
    """An expression as Grafana sends it with this choice."""
    for name, value in {"job": job, "instance": instance, "tenant": tenant, "__rate_interval": WINDOW}.items():
        expr = expr.replace(f"${name}", value)
    return expr


PANELS = [
    (panel["title"], in_prometheus(target["expr"]), f"{board}: {panel['title']} {target['refId']}")
    for board, document in BOARDS.items()
    for panel in document["panels"]
    for target in panel.get("targets", [])
]
ANNOTATIONS = [
    # Grafana asks for a range of time; so does this.
    (
        each["name"],
        f"last_over_time(({in_prometheus(programs.fast_query(each['expr']))})[5m:500ms])",
        f"{board}: {each['name']}",
    )
    for board, document in BOARDS.items()
    for each in document["annotations"]["list"]
]
OF_RULES = [
    (name := str(rule.get("alert") or rule["record"]), programs.fast_query(rule["expr"]), name) for rule in RULES
]
QUERIES = [*PANELS, *ANNOTATIONS, *OF_RULES]


@pytest.fixture(scope="module")
def demo(stack: Stack) -> Iterator[Stack]:
    """The stack, fed by the demo's application: five tenants, a model, secrets."""
    canaries = Canaries(new_marker())
    model = ModelServer(canaries.plant)
    model.start()
    folder = stack.folder / "demo"
    folder.mkdir(mode=0o700)
    plan = Plan(canaries.marker, model.url, str(folder / "report.json"), str(folder / "log"), limit=600)
    plan.save(folder / "plan.json")
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{stack.sidecar.listen}",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "TENANTSCOPE_CELL_DIR": str(folder),
    }
    command = [sys.executable, "-m", "tenantscope.demo.app", str(folder / "plan.json")]
    try:
        with programs.process(command, folder / "application.out", **settings):
            at_work = f'sum by (tenant_id) (rate(autogen_messages_total{{job="{SERVICE}"}}[3s])) > 0'
            eventually(lambda: len(stack.prometheus.numbers(at_work)) >= len(CAST), "five tenants at work", PATIENCE)
            yield stack
    finally:
        model.close()


@pytest.fixture(scope="module")
def troubled(demo: Stack) -> Iterator[Stack]:
    """The same, and everything goes wrong that can."""
    with everything_goes_wrong(demo):
        yield demo


def _cases(quiet: bool) -> list[Any]:
    return [pytest.param(expr, id=name) for title, expr, name in QUERIES if (title in QUIET) is quiet]


def test_there_is_something_to_ask() -> None:
    """Four dashboards, all alerts; what is said to be quiet exists."""
    assert len(PANELS) > 80
    assert len([rule for rule in RULES if "alert" in rule]) >= 15
    assert {title for title, _, _ in QUERIES} >= QUIET


@pytest.mark.parametrize("expr", _cases(quiet=False))
def test_it_returns_data(demo: Stack, expr: str) -> None:
    """With the demo running and nothing else, it finds numbers."""
    demo.prometheus.see(expr, PATIENCE)


def test_the_demo_has_its_culprit_and_its_victim(demo: Stack) -> None:
    """By the queries that people see: `acme` holds others up most, `hooli` suffers."""
    caused = next(expr for title, expr, _ in PANELS if title == "Holds others up most")
    # A window of seconds is short: between two of its stalls somebody else may be on top.
    eventually(
        lambda: [json.loads(labels) for labels in demo.prometheus.numbers(caused)] == [{"tenant_id": HOG}],
        f"{HOG} holds others up most",
        PATIENCE,
    )
    suffered = next(expr for title, expr, _ in PANELS if title == "Delay suffered, by tenant")
    suffers = {json.loads(labels)["tenant_id"] for labels, rate in demo.prometheus.see(suffered).items() if rate > 0}
    assert VICTIM in suffers


@pytest.mark.parametrize("board", [name for name in BOARDS if name != "sidecar"])
def test_a_choice_of_nobody_shows_nothing(demo: Stack, board: str) -> None:
    """Every query obeys the tenant variable, or the service where it is about a loop; the watchdog's own do not."""
    for panel in BOARDS[board]["panels"]:
        for target in panel.get("targets", []):
            if "tenantscope_loops" in target["expr"] or "tenantscope_alerts" in target["expr"]:
                continue
            expr = in_prometheus(target["expr"], job="-", instance="-", tenant="-")
            assert demo.prometheus.numbers(expr) == {}, panel["title"]


def test_every_rule_is_healthy(demo: Stack) -> None:
    """Prometheus evaluates every rule without an error."""
    groups = demo.prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) == len(RULES)
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def test_labels_are_those_of_the_table(demo: Stack) -> None:
    """What Prometheus has of a series is what the table of names says, no label more."""
    emitted = prometheus_names.emitted()
    found = demo.prometheus.get("label/__name__/values")
    ours = [name for name in found if re.match(r"(autogen|asyncio|gen_ai|tenantscope|traces)_", name)]
    assert len(ours) > 40
    for name in ours:
        if name.endswith("_created"):  # when a counter of the sidecar began
            continue
        series = demo.prometheus.get("series", **{"match[]": name})
        labels = {label for each in series for label in each} - {"__name__"}
        assert labels <= emitted[name] | {"exported_instance"}, name


@pytest.mark.parametrize("expr", _cases(quiet=True))
def test_what_is_quiet_speaks_when_its_fault_is_there(troubled: Stack, expr: str) -> None:
    """Each fault is provoked, and then it finds numbers."""
    troubled.prometheus.see(expr, PATIENCE)


def test_every_alert_can_ring(troubled: Stack) -> None:
    """Not one expression that is only ever pending: all alerts arrive at the receiver."""
    for name in (rule["alert"] for rule in RULES if "alert" in rule):
        eventually(lambda name=name: troubled.told(name, "firing"), f"{name} fires", PATIENCE)
