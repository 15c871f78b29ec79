"""Every dashboard keeps to the habits of Grafana's dashboard linter, and names only what is emitted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboardv2
from promql import grouped_by, selectors

from dashboards import prometheus_names
from instrumentation.conventions import METRICS as LIBRARY
from sidecar.conventions import METRICS as SIDECAR

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "dashboards/grafana"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("classic/*.json"))
}
PANELS = [
    pytest.param(name, panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] not in {"row", "text"}
]
TARGETS = [
    pytest.param(*panel.values, target, id=f"{panel.id} {target['refId']}")
    for panel in PANELS
    for target in panel.values[1]["targets"]  # type: ignore[index]
]
ANNOTATIONS = [
    pytest.param(annotation, id=f"{name}: {annotation['name']}")
    for name, board in BOARDS.items()
    for annotation in board["annotations"]["list"]
]
SIDECAR_SERIES = {series for metric in SIDECAR for series in prometheus_names.of_sidecar(metric)}
COUNTERS = {
    *(name for m in LIBRARY if m.kind in {"counter", "histogram"} for name in prometheus_names.of_library(m)),
    *(name for own in SIDECAR if own.kind == "counter" for name in prometheus_names.of_sidecar(own)),
    prometheus_names.SPAN_CALLS,
    *prometheus_names.SPAN_DURATION,
}


class Encoder(JSONEncoder):
    """The SDK's, but for a slip of its reader: it makes a set of a panel's type and version."""

    def default(self, o: object) -> object:
        if isinstance(o, set):
            (only,) = o
            return only
        return super().default(o)


every_board = pytest.mark.parametrize("name", BOARDS)
every_target = pytest.mark.parametrize(("name", "panel", "target"), TARGETS)


def test_there_are_four_that_lead_to_each_other() -> None:
    """Their uids are stable; each has a link to all of its kind that keeps the time and what was chosen."""
    assert {(board["uid"], board["title"]) for board in BOARDS.values()} == {
        ("tenantscope-tenants", "Tenants"),
        ("tenantscope-event-loop", "Event loop"),
        ("tenantscope-agents", "Agents and models"),
        ("tenantscope-sidecar", "Sidecar"),
    }
    for board in BOARDS.values():
        (link,) = board["links"]
        assert link["type"] == "dashboards"
        assert set(link["tags"]) <= set(board["tags"])
        assert link["includeVars"]
        assert link["keepTime"]


@every_board
def test_it_is_a_classic_dashboard(name: str) -> None:
    """Schema 42; ids and reference letters are unique."""
    board = BOARDS[name]
    assert board["schemaVersion"] == 42
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in board["panels"]:
        letters = [target["refId"] for target in panel.get("targets", [])]
        assert len(set(letters)) == len(letters), panel["title"]


@every_board
def test_its_other_form_says_the_same(name: str) -> None:
    """The v2 resource is read by the SDK's own model without loss, and has the same panels, queries and variables."""
    resource = json.loads((GRAFANA / "v2" / f"{name}.json").read_text())
    board = BOARDS[name]
    assert (resource["apiVersion"], resource["kind"]) == (dashboardv2.DashboardAPIVersion, "Dashboard")
    assert resource["metadata"]["name"] == board["uid"]
    spec = resource["spec"]
    assert json.loads(json.dumps(dashboardv2.Dashboard.from_json(spec), cls=Encoder)) == spec
    asked = {
        element["spec"]["id"]: [
            query["spec"]["query"]["spec"]["expr"] for query in element["spec"]["data"]["spec"]["queries"]
        ]
        for element in spec["elements"].values()
    }
    assert asked == {
        panel["id"]: [target["expr"] for target in panel.get("targets", [])]
        for panel in board["panels"]
        if panel["type"] != "row"
    }
    assert [variable["spec"]["name"] for variable in spec["variables"]] == [
        variable["name"] for variable in board["templating"]["list"]
    ]
    placed = [
        item["spec"]["element"]["name"]
        for row in spec["layout"]["spec"]["rows"]
        for item in row["spec"]["layout"]["spec"]["items"]
    ]
    assert sorted(placed) == sorted(spec["elements"])


@pytest.mark.parametrize(("name", "panel"), PANELS)
def test_a_panel_says_what_it_is(name: str, panel: dict[str, Any]) -> None:
    """Title, description, unit, query, and a data source that can be chosen."""
    assert panel["title"]
    assert len(panel["description"]) > 40
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
        assert source == {"type": "prometheus", "uid": "${datasource}"}


@every_board
def test_no_two_panels_have_one_title(name: str) -> None:
    """People say to each other: look at panel so-and-so."""
    titles = [panel["title"] for panel in BOARDS[name]["panels"]]
    assert len(set(titles)) == len(titles)


@every_target
def test_a_query_reads_what_is_emitted(name: str, panel: dict[str, Any], target: dict[str, Any]) -> None:
    """Every series is in a table of conventions, with every label that is matched, grouped by or shown."""
    emitted = prometheus_names.emitted()
    read = selectors(target["expr"])
    assert read
    for selector in read:
        assert selector.series in emitted
        assert selector.labels <= emitted[selector.series]
    kept = grouped_by(target["expr"])
    assert kept <= emitted[read[0].series]
    shown = {part.split("}}")[0] for part in target.get("legendFormat", "").split("{{")[1:]}
    assert shown <= kept


@every_target
def test_a_query_is_templated_and_rated(name: str, panel: dict[str, Any], target: dict[str, Any]) -> None:
    """Chosen by the variables; counters only as rate or increase over $__rate_interval.

    The sidecar's series have the sidecar's job and instance: elsewhere they are chosen by tenant alone.
    """
    emitted = prometheus_names.emitted()
    variables = {variable["name"] for variable in BOARDS[name]["templating"]["list"]}
    for selector in selectors(target["expr"]):
        if selector.series == prometheus_names.PRICE:  # the same for everybody
            continue
        wanted = {"tenant_id"} & emitted[selector.series] if "tenant" in variables else set()
        if selector.series not in SIDECAR_SERIES or name == "sidecar":
            wanted |= {"job", "instance"}
        if "asyncio_eventloop_time" in selector.series:  # the whole of which tenants have a share
            wanted -= {"tenant_id"}
        assert wanted <= selector.labels
        assert (selector.function in {"rate", "increase"}) == (selector.series in COUNTERS)
    ranges = {part.split("]")[0] for part in target["expr"].split("[")[1:]}
    assert ranges <= {"$__rate_interval"}


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_an_annotation_reads_what_is_there(annotation: dict[str, Any]) -> None:
    """Alerts, stalls, and processes that are new, from the data source that was chosen."""
    emitted = {
        **prometheus_names.emitted(),
        "ALERTS": frozenset({"alertname", "alertstate", "tenant_id", "job", "instance"}),
        "target_info": frozenset({"job", "instance", "service_version"}),
    }
    assert annotation["datasource"]["uid"] == "${datasource}"
    for selector in selectors(annotation["expr"]):
        assert selector.labels <= emitted[selector.series]
        shown = {part.split("}}")[0] for part in annotation["textFormat"].split("{{")[1:]}
        assert shown <= emitted[selector.series]


@every_board
def test_it_can_be_narrowed_down(name: str) -> None:
    """Data source, service, instance and mostly tenants, each depending on the ones before; all at first."""
    variables = {variable["name"]: variable for variable in BOARDS[name]["templating"]["list"]}
    expected = ["datasource", "job", "instance", *([] if name == "sidecar" else ["tenant"])]
    assert list(variables) == expected
    assert "$job" in variables["instance"]["query"]
    assert name == "sidecar" or "$instance" in variables["tenant"]["query"]
    for each in expected[1:]:
        assert variables[each]["multi"]
        assert variables[each]["includeAll"]
        assert variables[each]["current"]["value"] == "$__all"
        name_of_series = re.fullmatch(r"label_values\((\w+)(\{.*\})?, \w+\)", variables[each]["query"])
        assert name_of_series
        assert name_of_series[1] in prometheus_names.emitted()


@every_board
def test_panels_fill_the_grid_without_overlap(name: str) -> None:
    """24 columns, no panel over another, no hole in a row."""
    cells: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not mine & cells, panel["title"]
        cells |= mine
    height = max(y for _, y in cells) + 1
    assert cells == {(x, y) for x in range(24) for y in range(height)}


@pytest.mark.parametrize(
    ("board", "title", "alert"),
    [
        ("tenants", "p99 wait for the loop, by tenant", "TenantLoopDelayHigh"),
        ("tenants", "Delay caused to others, by tenant", "TenantHoldsLoop"),
        ("event_loop", "Delay caused to others, by tenant", "TenantHoldsLoop"),
        ("agents", "Refused by models, by tenant", "TenantRateLimited"),
        ("sidecar", "Queue, by instance", "SidecarQueueBacklog"),
    ],
)
def test_the_red_line_is_the_alerts_threshold(board: str, title: str, alert: str) -> None:
    """What is red on the dashboard is what pages somebody."""
    (panel,) = (panel for panel in BOARDS[board]["panels"] if panel["title"] == title)
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    groups = [
        g
        for f in (ROOT / "dashboards/prometheus").glob("*.rules.yaml")
        for g in yaml.safe_load(f.read_text())["groups"]
    ]
    (expr,) = (rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == alert)
    assert steps[-1]["color"] == "red"
    assert f"> {steps[-1]['value']:g}" in expr


def test_runbooks_name_panels_that_exist() -> None:
    """A page that sends people to a dashboard sends them to one that there is."""
    titles = {board["title"] for board in BOARDS.values()}
    for path in sorted((ROOT / "dashboards/runbooks").glob("*.md")):
        for part in path.read_text().split("ashboard *")[1:]:
            assert part.split("*")[0] in titles, path.name
