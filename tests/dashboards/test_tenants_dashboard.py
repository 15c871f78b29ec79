"""The dashboard *Tenants* keeps to the habits of Grafana's dashboard linter, and names only what is emitted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from promql import grouped_by, selectors

from dashboards import prometheus_names
from instrumentation.conventions import METRICS as LIBRARY
from sidecar.conventions import METRICS as SIDECAR

ROOT = Path(__file__).parents[2]
RULES = ROOT / "dashboards/prometheus/tenants.rules.yaml"
BOARD: dict[str, Any] = json.loads((ROOT / "dashboards/grafana/tenants.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] not in {"row", "text"}]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]
SIDECAR_SERIES = {series for metric in SIDECAR for series in prometheus_names.of_sidecar(metric)}
COUNTERS = {
    *(name for m in LIBRARY if m.kind == "counter" for name in prometheus_names.of_library(m)),
    *(name for m in LIBRARY if m.kind == "histogram" for name in prometheus_names.of_library(m)),
    *(name for own in SIDECAR if own.kind == "counter" for name in prometheus_names.of_sidecar(own)),
}


def _title(panel: Any) -> str:
    return str(panel["title"]) if isinstance(panel, dict) and "title" in panel else ""


def test_the_committed_json_is_what_the_code_builds() -> None:
    """Nobody edits the JSON, nobody forgets to build it."""
    build = [sys.executable, "-m", "dashboards.grafana.build", "--check"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_is_a_classic_dashboard() -> None:
    """Schema 42, a stable uid, ids and reference letters that are unique."""
    assert (BOARD["schemaVersion"], BOARD["uid"], BOARD["title"]) == (42, "tenantscope-tenants", "Tenants")
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in PANELS:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters), panel["title"]


@pytest.mark.parametrize("panel", PANELS, ids=_title)
def test_a_panel_says_what_it_is(panel: dict[str, Any]) -> None:
    """Title, description, unit, query, and a data source that can be chosen."""
    assert panel["title"]
    assert len(panel["description"]) > 40
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
        assert source == {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize(("panel", "target"), TARGETS, ids=_title)
def test_a_query_reads_what_is_emitted(panel: dict[str, Any], target: dict[str, Any]) -> None:
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


@pytest.mark.parametrize(("panel", "target"), TARGETS, ids=_title)
def test_a_query_is_templated_and_rated(panel: dict[str, Any], target: dict[str, Any]) -> None:
    """Chosen by the variables; counters only as rate or increase over $__rate_interval."""
    emitted = prometheus_names.emitted()
    for selector in selectors(target["expr"]):
        wanted = {"tenant_id"} & emitted[selector.series]
        if selector.series not in SIDECAR_SERIES:
            wanted |= {"job", "instance"}
        if "asyncio_eventloop_time" in selector.series:  # the whole of which tenants have a share
            wanted -= {"tenant_id"}
        assert wanted <= selector.labels
        assert (selector.function in {"rate", "increase"}) == (selector.series in COUNTERS)
    ranges = {part.split("]")[0] for part in target["expr"].split("[")[1:]}
    assert ranges <= {"$__rate_interval"}


def test_it_can_be_narrowed_down() -> None:
    """Data source, service, instance and tenants, each depending on the ones before; all tenants at first."""
    variables = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance", "tenant"]
    assert "$job" in variables["instance"]["query"]
    assert "$instance" in variables["tenant"]["query"]
    for name in ("job", "instance", "tenant"):
        assert variables[name]["multi"]
        assert variables[name]["includeAll"]
        assert variables[name]["current"]["value"] == "$__all"


def test_panels_fill_the_grid_without_overlap() -> None:
    """24 columns, no panel over another, no hole in a row."""
    cells: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not mine & cells, panel["title"]
        cells |= mine
    height = max(y for _, y in cells) + 1
    assert cells == {(x, y) for x in range(24) for y in range(height)}


def test_the_red_line_is_the_alerts_threshold() -> None:
    """What is red on the dashboard is what pages somebody."""
    (panel,) = (panel for panel in PANELS if panel["title"] == "p99 wait for the loop, by tenant")
    (alert,) = re.findall(r"p99_rate5m > ([0-9.]+)$", RULES.read_text(), re.MULTILINE)
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps[-1] == {"color": "red", "value": float(alert)}
