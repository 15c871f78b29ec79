"""What all dashboards have in common: variables, links to each other, annotations, and how panels fill the grid.

Panels are given row by row and flow from left to right; nobody counts columns. Every link keeps the time and what was
chosen, the tenant above all.
"""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    GridPos,
    Panel,
    RowPanel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from sidecar import conventions as sidecar

from .panels import PROMETHEUS
from .queries import TENANT, alerts, series

TAG = "tenantscope"
COLUMNS = 24


@dataclass(frozen=True)
class Row:
    """A heading, and the panels below it; the first row has none."""

    title: str
    panels: list[Builder[Panel]]


def choice(name: str, label: str, expression: str) -> Builder[VariableModel]:
    """A variable whose values Prometheus knows; several can be chosen, all are at first."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query(expression)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def variables(name: str, tenant: str | None) -> list[Builder[VariableModel]]:
    """Where to look: data source, service and instance that have the series `name`, and the tenants of `tenant`."""
    chosen = [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        choice("job", "Service", f"label_values({name}, job)"),
        choice("instance", "Instance", f'label_values({name}{{job=~"$job"}}, instance)'),
    ]
    if tenant is not None:
        where = 'job=~"$job", instance=~"$instance"'
        chosen.append(choice("tenant", "Tenant", f"label_values({tenant}{{{where}}}, tenant_id)"))
    return chosen


def _annotations(with_tenant: bool) -> list[Builder[AnnotationQuery]]:
    """What happened meanwhile: alerts that fired, loops that stood still, processes that are new."""
    names = "|".join(alert["alert"] for alert in alerts())
    firing = f'ALERTS{{alertstate="firing", alertname=~"{names}"'
    stalled = series(sidecar.STALL_ACTIVE, TENANT if with_tenant else 'tenant_id=~".+"')
    marks = (
        ("Alerts", "red", f'{firing}, tenant_id=~"$tenant|"}}' if with_tenant else f"{firing}}}",
         "{{alertname}}", "{{tenant_id}} {{job}} {{instance}}"),
        ("Stalls", "orange", f"{stalled} > 0", "Stalled", "{{tenant_id}} holds a loop of {{service_name}}"),
        ("Deployments", "blue", "target_info unless target_info offset 2m", "Started",
         "{{job}} {{instance}} {{service_version}}"),
    )  # fmt: skip
    return [
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(PROMETHEUS)
        .enable(True)
        .icon_color(colour)
        .expr(expr)
        .title_format(title)
        .text_format(text)
        .step("60s")
        for name, colour, expr, title, text in marks
    ]


def _fill(rows: list[Row]) -> list[Panel | RowPanel]:
    """Panels with their places: left to right, a new line where the next does not fit."""
    placed: list[Panel | RowPanel] = []
    y = 0
    for row in rows:
        if row.title:
            placed.append(dashboard.Row(row.title).grid_pos(GridPos(x=0, y=y, w=COLUMNS, h=1)).build())
            y += 1
        x, height = 0, 0
        for builder in row.panels:
            panel = builder.build()
            size = panel.grid_pos or GridPos()
            if x + size.w > COLUMNS:
                x, y, height = 0, y + height, 0
            panel.grid_pos = GridPos(x=x, y=y, w=size.w, h=size.h)
            x, height = x + size.w, max(height, size.h)
            placed.append(panel)
        y += height
    # Links into the dashboard name a panel by its number: the same one in every build.
    for number, element in enumerate(placed, start=1):
        element.id_val = number
    return placed


def board(uid: str, title: str, description: str, choices: list[Builder[VariableModel]], rows: list[Row]) -> Dashboard:
    """A whole dashboard."""
    with_tenant = len(choices) > 3  # data source, service, instance, and the tenant
    made = (
        dashboard.Dashboard(title)
        .uid(f"tenantscope-{uid}")
        .description(description)
        .tags([TAG, "autogen"])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .refresh("30s")
        .timezone("browser")
        .link(
            dashboard.DashboardLink("tenantscope")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .tooltip("The other dashboards, with the same time and choice")
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in choices:
        made = made.with_variable(variable)
    for annotation in _annotations(with_tenant):
        made = made.annotation(annotation)
    built = made.build()
    built.panels = _fill(rows)
    return built
