"""The few shapes that our panels have, so that a dashboard reads as questions and queries.

A panel without title, description, unit or query can't be made here. Colours mean something: green is well,
orange wants a look, red wants somebody now. A tenant has one colour in every panel: Grafana picks it by name.
"""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import (
    AxisPlacement,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    DataSourceRef,
    GraphDrawStyle,
    GraphGradientMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardRangeMapOptions,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    GridPos,
    Panel,
    RangeMap,
    Threshold,
    ThresholdsMode,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS = DataSourceRef(type_val="prometheus", uid="${datasource}")
Size = tuple[int, int]  # columns of 24, and units of height; the board finds the place
SECONDS, SHARE, COUNT, PER_SECOND = units.Seconds, units.PercentUnit, units.Short, units.EventsPerSecond
BYTES = units.BytesIEC


def query(expr: str, legend: str = "__auto") -> prometheus.Dataquery:
    """A query over the dashboard's time range."""
    return prometheus.Dataquery().datasource(PROMETHEUS).expr(expr).legend_format(legend).range()


def now(expr: str, legend: str = "__auto") -> prometheus.Dataquery:
    """A query for the last moment of the dashboard's time range."""
    return prometheus.Dataquery().datasource(PROMETHEUS).expr(expr).legend_format(legend).instant()


def examples(expr: str, legend: str = "__auto") -> prometheus.Dataquery:
    """A query over the dashboard's time range, with the traces that Prometheus has as examples."""
    return query(expr, legend).exemplar(True)


def steps(orange: float | None = None, red: float | None = None) -> dashboard.ThresholdsConfig:
    """Green, then orange and red from the given values on."""
    marks = [Threshold(value=None, color="green")]
    for at, colour in ((orange, "orange"), (red, "red")):
        if at is not None:
            marks.append(Threshold(value=at, color=colour))
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(marks)


def verdict(
    title: str,
    description: str,
    unit: str,
    target: prometheus.Dataquery,
    size: Size,
    thresholds: dashboard.ThresholdsConfig,
    nothing: str,
) -> Builder[Panel]:
    """One number, coloured by its thresholds, and whom it is about; `nothing` when there is no data."""
    names = "{{" in (target.build().legend_format or "")
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .with_target(target.ref_id("A"))
        .grid_pos(_size(size))
        .thresholds(thresholds)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .color_mode(BigValueColorMode.BACKGROUND)
        .graph_mode(BigValueGraphMode.NONE)
        .text_mode(BigValueTextMode.VALUE_AND_NAME if names else BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value(nothing)
    )


def lines(
    title: str,
    description: str,
    unit: str,
    targets: list[prometheus.Dataquery],
    size: Size,
    *,
    red: float | None = None,
    stacked: bool = False,
    top: float | None = None,
    colours: dict[str, str] | None = None,
) -> Builder[Panel]:
    """Curves over time; a dashed line at `red`, which is the threshold of an alert."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .min(0)
        .targets([target.ref_id(chr(ord("A") + index)) for index, target in enumerate(targets)])
        .grid_pos(_size(size))
        .draw_style(GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(30 if stacked else 5)
        .gradient_mode(GraphGradientMode.NONE)
        .show_points(VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL if stacked else StackingMode.NONE))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .thresholds(steps(red=red))
        .thresholds_style(
            common.GraphThresholdsStyleConfig().mode(
                GraphThresholdsStyleMode.DASHED if red is not None else GraphThresholdsStyleMode.OFF
            )
        )
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.RIGHT)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
            .sort_by("Max")
            .sort_desc(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if top is not None:
        panel = panel.max(top)
    for name, colour in (colours or {}).items():
        panel = panel.override_by_name(name, [_property("color", {"mode": "fixed", "fixedColor": colour})])
    return panel


def heat(title: str, description: str, unit: str, expr: str, size: Size) -> Builder[Panel]:
    """How a histogram spreads over time: `expr` is a rate of its buckets, summed by `le` alone."""
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .with_target(query(expr, "{{le}}").format(PromQueryFormat.HEATMAP).ref_id("A"))
        .grid_pos(_size(size))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
            .reverse(False)
        )
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(AxisPlacement.LEFT))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
    )


def bands(
    title: str, description: str, target: prometheus.Dataquery, size: Size, words: tuple[str, str]
) -> Builder[Panel]:
    """One line for each series over time; a band is red and has the second word while the value is 1 or more."""
    calm, bad = words
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(COUNT)
        .with_target(target.ref_id("A"))
        .grid_pos(_size(size))
        .thresholds(steps(red=1))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .merge_values(True)
        .show_value(VisibilityMode.NEVER)
        .mappings(
            [
                RangeMap(options=DashboardRangeMapOptions(from_val=None, to=0.5, result=ValueMappingResult(text=calm))),
                RangeMap(options=DashboardRangeMapOptions(from_val=0.5, to=None, result=ValueMappingResult(text=bad))),
            ]
        )
    )


def by_tenant(
    title: str,
    description: str,
    columns: list[tuple[str, str, str, dashboard.ThresholdsConfig]],
    size: Size,
    leads_to: str,
) -> Builder[Panel]:
    """One row a tenant; a column is a heading, a unit, an instant query by `tenant_id` and its thresholds.

    The first column's unit stands for the panel. Rows are sorted by the first column, the worst on top. A tenant's name
    leads to the dashboard with the uid `leads_to`, with that tenant chosen.
    """
    names = [chr(ord("A") + index) for index in range(len(columns))]
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(columns[0][1])
        .grid_pos(_size(size))
        .targets(
            [
                now(expr).format(PromQueryFormat.TABLE).ref_id(name)
                for name, (_, _, expr, _) in zip(names, columns, strict=True)
            ]
        )
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {
                        "tenant_id": 0,
                        **{f"Value #{n}": i for i, n in enumerate(names, start=1)},
                    },
                    "renameByName": {
                        "tenant_id": "Tenant",
                        **{f"Value #{n}": column[0] for n, column in zip(names, columns, strict=True)},
                    },
                },
            )
        )
        .sort_by([common.TableSortByFieldState().display_name(columns[0][0]).desc(True)])
    )
    kept = "${__url_time_range}&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
    link = {"title": "Look at this tenant", "url": f"/d/{leads_to}?{kept}&var-tenant=${{__value.raw}}"}
    panel = panel.override_by_name("Tenant", [_property("links", [link])])
    for heading, unit, _, thresholds in columns:
        panel = panel.override_by_name(
            heading,
            [
                _property("unit", unit),
                _property("thresholds", thresholds.build()),
                _property("custom.cellOptions", {"type": "color-text"}),
            ],
        )
    return panel


def matrix(
    title: str,
    description: str,
    unit: str,
    expr: str,
    labels: tuple[str, str],
    size: Size,
    thresholds: dashboard.ThresholdsConfig,
) -> Builder[Panel]:
    """A number for each pair of `labels`: the first makes the rows, the second the columns; colours by thresholds."""
    row, column = labels
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .grid_pos(_size(size))
        .with_target(now(expr).format(PromQueryFormat.TABLE).ref_id("A"))
        .with_transformation(
            DataTransformerConfig(
                id_val="groupingToMatrix",
                options={"rowField": row, "columnField": column, "valueField": "Value", "emptyValue": "zero"},
            )
        )
        .thresholds(thresholds)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .override_by_regexp(".*", [_property("custom.cellOptions", {"type": "color-background", "mode": "gradient"})])
        .override_by_name(
            f"{row}\\{column}",
            [_property("custom.cellOptions", {"type": "auto"}), _property("displayName", "made them wait")],
        )
    )


def _size(size: Size) -> GridPos:
    width, height = size
    return GridPos(w=width, h=height)


def _property(name: str, value: Any) -> DynamicConfigValue:
    return DynamicConfigValue(id_val=name, value=value)
