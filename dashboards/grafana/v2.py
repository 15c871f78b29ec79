"""A classic dashboard as the resource of Grafana's schema v2, so that both forms have one source.

Rows become rows that hold their own grid, panels become elements that the grid refers to by name. What it refuses: a
kind of variable that our dashboards do not have.
"""

from __future__ import annotations

from typing import Any

API_VERSION = "dashboard.grafana.app/v2"
_CURSOR = {0: "Off", 1: "Crosshair", 2: "Tooltip"}
_REFRESH = {0: "never", 1: "onDashboardLoad", 2: "onTimeRangeChanged"}
_SORT = {0: "disabled", 1: "alphabeticalAsc", 2: "alphabeticalDesc"}
#: of a query in the classic form, what v2 says elsewhere
_OUTSIDE = ("refId", "datasource", "hide")
#: of an annotation in the classic form, what is its query
_OF_ANNOTATION = ("expr", "step", "titleFormat", "textFormat")


def as_v2(classic: dict[str, Any]) -> dict[str, Any]:
    """The resource; `classic` is the JSON document of a dashboard."""
    panels = [panel for panel in classic["panels"] if panel["type"] != "row"]
    return {
        "apiVersion": API_VERSION,
        "kind": "Dashboard",
        "metadata": {"name": classic["uid"]},
        "spec": {
            "title": classic["title"],
            "description": classic["description"],
            "tags": classic["tags"],
            "editable": classic["editable"],
            "cursorSync": _CURSOR[classic["graphTooltip"]],
            "preload": False,
            "links": classic["links"],
            "timeSettings": {
                "from": classic["time"]["from"],
                "to": classic["time"]["to"],
                "timezone": classic["timezone"],
                "autoRefresh": classic["refresh"],
                "autoRefreshIntervals": ["5s", "10s", "30s", "1m", "5m", "15m", "30m", "1h", "2h", "1d"],
                "hideTimepicker": False,
                "fiscalYearStartMonth": 0,
            },
            "annotations": [_annotation(each) for each in classic["annotations"]["list"]],
            "variables": [_variable(each) for each in classic["templating"]["list"]],
            "elements": {_name(panel): _element(panel) for panel in panels},
            "layout": {"kind": "RowsLayout", "spec": {"rows": _rows(classic["panels"])}},
        },
    }


def _name(panel: dict[str, Any]) -> str:
    return f"panel-{panel['id']}"


def _query(source: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "DataQuery",
        "group": source["type"],
        "version": "v0",
        "datasource": {"name": source["uid"]},
        "spec": spec,
    }


def _annotation(each: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "AnnotationQuery",
        "spec": {
            "name": each["name"],
            "builtIn": False,
            "enable": each["enable"],
            "hide": each.get("hide", False),
            "iconColor": each["iconColor"],
            "query": _query(each["datasource"], {key: each[key] for key in _OF_ANNOTATION}),
        },
    }


def _variable(each: dict[str, Any]) -> dict[str, Any]:
    common = {
        "name": each["name"],
        "label": each["label"],
        "hide": "dontHide",
        "skipUrlSync": False,
        "regex": each.get("regex", ""),
        "options": [],
        "multi": each.get("multi", False),
        "includeAll": each.get("includeAll", False),
        "current": each.get("current", {"text": "", "value": ""}),
        "allowCustomValue": True,
    }
    if each["type"] == "datasource":
        return {
            "kind": "DatasourceVariable",
            "spec": {**common, "pluginId": each["query"], "refresh": "onDashboardLoad"},
        }
    if each["type"] != "query":
        raise ValueError(f"{each['name']}: no form in v2 is known for a variable of type {each['type']}")
    spec = {
        **common,
        "allValue": each["allValue"],
        "regexApplyTo": "value",
        "refresh": _REFRESH[each["refresh"]],
        "sort": _SORT[each["sort"]],
        "definition": each["query"],
        "query": _query(each["datasource"], {"query": each["query"], "refId": each["name"]}),
    }
    return {"kind": "QueryVariable", "spec": spec}


def _element(panel: dict[str, Any]) -> dict[str, Any]:
    queries = [
        {
            "kind": "PanelQuery",
            "spec": {
                "refId": target["refId"],
                "hidden": target.get("hide", False),
                "query": _query(target["datasource"], {k: v for k, v in target.items() if k not in _OUTSIDE}),
            },
        }
        for target in panel.get("targets", [])
    ]
    transformations = [
        {"kind": "Transformation", "group": each["id"], "spec": {"options": each["options"]}}
        for each in panel.get("transformations", [])
    ]
    group = {"queries": queries, "transformations": transformations, "queryOptions": {}}
    fields = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
    viz = {
        "options": panel.get("options", {}),
        "fieldConfig": {**fields, "defaults": {"custom": {}, **fields["defaults"]}},
    }
    return {
        "kind": "Panel",
        "spec": {
            "id": panel["id"],
            "title": panel["title"],
            "description": panel["description"],
            "links": [],
            "data": {"kind": "QueryGroup", "spec": group},
            "vizConfig": {"kind": "VizConfig", "group": panel["type"], "version": "", "spec": viz},
        },
    }


def _rows(panels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each row with its own grid, whose heights count from the row's heading."""
    rows: list[dict[str, Any]] = []
    top = 0
    for panel in panels:
        at = panel["gridPos"]
        if panel["type"] == "row" or not rows:
            top = at["y"] + at["h"] if panel["type"] == "row" else at["y"]
            rows.append(_row(panel["title"] if panel["type"] == "row" else ""))
        if panel["type"] != "row":
            rows[-1]["spec"]["layout"]["spec"]["items"].append(
                {
                    "kind": "GridLayoutItem",
                    "spec": {
                        "x": at["x"],
                        "y": at["y"] - top,
                        "width": at["w"],
                        "height": at["h"],
                        "element": {"kind": "ElementReference", "name": _name(panel)},
                    },
                }
            )
    return rows


def _row(title: str) -> dict[str, Any]:
    layout = {"kind": "GridLayout", "spec": {"items": []}}
    return {
        "kind": "RowsLayoutRow",
        "spec": {"title": title, "collapse": False, "hideHeader": not title, "layout": layout},
    }
