"""The dashboard *Tenants*: who is slow, who makes others slow, and what work they do.

Names of series come from the tables in `conventions.py`, thresholds from the alert rule. The library's series
are chosen by service and instance; those of the sidecar by tenant alone, for its job is the sidecar.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from grafana_foundation_sdk.builders import dashboard, text
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    GridPos,
    Panel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.text import TextMode

from dashboards.prometheus_names import of_library, of_sidecar
from instrumentation import conventions as library
from sidecar import conventions as sidecar

from . import panels
from .panels import COUNT, PER_SECOND, SECONDS, SHARE, lines, now, query, steps, verdict

RULES = Path(__file__).parents[1] / "prometheus" / "tenants.rules.yaml"
CHOSEN = 'job=~"$job", instance=~"$instance"'
TENANT = 'tenant_id=~"$tenant"'
OURS = f"{CHOSEN}, {TENANT}"

INTRODUCTION = """\
**Who is slow?** *Waits* are the time that a tenant's ready work stood behind other tenants' turns on the loop;
an upper bound, for when input became readable is not known. **Who makes others slow?** *Loop share* and
*delay caused* name the culprit. The tenant `unknown` is work that nobody bound to a tenant, `other` is
everybody beyond the bound.
"""


def threshold() -> float:
    """Seconds of p99 wait at which `TenantLoopDelayHigh` fires, as the rule has it."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    (alert,) = (rule for rule in rules if rule.get("alert") == "TenantLoopDelayHigh")
    return float(alert["expr"].rpartition(">")[2])


def rate(metric: library.Metric, by: str = "", where: str = OURS, part: int = 0) -> str:
    """Rate of a counter, or of a histogram's part (0 buckets, 1 sum, 2 count), summed."""
    total = f"sum by ({by}) " if by else "sum"
    return f"{total}(rate({of_library(metric)[part]}{{{where}}}[$__rate_interval]))"


def p99(metric: library.Metric, by: str, where: str = OURS) -> str:
    """99th percentile of a histogram `by` labels."""
    return f"histogram_quantile(0.99, {rate(metric, f'{by}, le', where)})"


WAIT = p99(library.TENANT_LOOP_DELAY, "tenant_id")
ALL_TIME = rate(library.LOOP_TIME, where=CHOSEN)
LOOP_SHARE = f"{rate(library.TENANT_LOOP_TIME, 'tenant_id')} / scalar({ALL_TIME})"
ERRORS_BY_TYPE = rate(library.ERRORS, "error_type, autogen_activity")
TOKENS_BY_TYPE = rate(library.TOKEN_USAGE, "tenant_id, gen_ai_token_type", part=1)
CAUSED = rate(library.TENANT_LOOP_DELAY_CAUSED, "tenant_id")
UTILIZATION = f"{of_library(library.LOOP_UTILIZATION)[0]}{{{CHOSEN}}}"
STALLED = f"sum({of_sidecar(sidecar.STALL_ACTIVE)[0]}{{{TENANT}}})"
STALLS = f"sum by (tenant_id) (increase({of_sidecar(sidecar.STALLS)[0]}{{{TENANT}}}[$__rate_interval]))"
BROKEN = f"{of_library(library.FINDINGS)[0]}{{{OURS}}}"
FINDINGS = f"sum by (tenantscope_rule, tenant_id) (increase({BROKEN}[$__rate_interval]))"
BY_TENANT, INSTANCE = "{{tenant_id}}", "{{job}} {{instance}}"


def first_look() -> list[Builder[Panel]]:
    """The top: is anything wrong, and who is it?"""
    high = threshold()
    return [
        text.Panel()
        .title("How to read this")
        .description("What the words on this dashboard mean.")
        .mode(TextMode.MARKDOWN)
        .content(INTRODUCTION)
        .grid_pos(GridPos(x=0, y=0, w=24, h=3)),
        verdict(
            "Waits most",
            "Tenant with the longest waits now: 99th percentile of the time that its ready work stood "
            "behind others. Red is where TenantLoopDelayHigh fires.",
            SECONDS, now(f"topk(1, {WAIT} > 0)", BY_TENANT), (0, 3, 5, 4), steps(high / 2, high), "nobody",
        ),
        verdict(
            "Holds the loop most",
            "Tenant with the largest share of event-loop time now. A large share is no fault by itself; "
            "look whether others wait.",
            SHARE, now(f"topk(1, {LOOP_SHARE})", BY_TENANT), (5, 3, 5, 4), steps(0.5, 0.8), "idle",
        ),
        verdict(
            "Busiest loop",
            "Share of time in which the busiest event loop ran callbacks. Near 100 % every tenant on it "
            "waits.",
            SHARE, now(f"max({UTILIZATION})"), (10, 3, 5, 4), steps(0.7, 0.9), "no loop",
        ),
        verdict(
            "Stalled now",
            "Event loops that one slice holds beyond the sidecar's threshold at this moment. The alert "
            "EventLoopStalled carries the stack.",
            COUNT, now(STALLED), (15, 3, 4, 4), steps(red=1), "none",
        ),
        verdict(
            "Errors per second",
            "Activities of all chosen tenants that ended with an exception.",
            PER_SECOND, now(rate(library.ERRORS)), (19, 3, 5, 4), steps(0.1, 1), "none",
        ),
        panels.by_tenant(
            "Tenants now",
            "One row a tenant, the longest waits on top. A tenant that waits has a culprit further down in "
            "the column Delay caused.",
            [
                ("p99 wait", SECONDS, WAIT, steps(high / 2, high)),
                ("Loop share", SHARE, LOOP_SHARE, steps(0.5, 0.8)),
                ("Delay caused /s", SECONDS, CAUSED, steps(0.1, 1)),
                ("Messages /s", PER_SECOND, rate(library.MESSAGES, "tenant_id"), steps()),
                ("Errors /s", PER_SECOND, rate(library.ERRORS, "tenant_id"), steps(0.1, 1)),
                ("Tokens /s", PER_SECOND, rate(library.TOKEN_USAGE, "tenant_id", part=1), steps()),
            ],
            (0, 7, 24, 7),
        ),
    ]  # fmt: skip


def who_is_slow() -> list[Builder[Panel]]:
    """The tenants that suffer."""
    return [
        lines(
            "p99 wait for the loop, by tenant",
            "99th percentile of the time that a tenant's ready work waited for another tenant's slice. The "
            "dashed line is the threshold of TenantLoopDelayHigh.",
            SECONDS, [query(WAIT, BY_TENANT)], (0, 15, 12, 8), red=threshold(),
        ),
        lines(
            "p99 time in the queue, by tenant",
            "99th percentile of the time from a send to the start of the handler: the loop's delay and "
            "AutoGen's queue.",
            SECONDS, [query(p99(library.QUEUE_DURATION, "tenant_id"), BY_TENANT)], (12, 15, 12, 8),
        ),
    ]  # fmt: skip


def who_makes_others_slow() -> list[Builder[Panel]]:
    """The tenants that hold the loop, and the loops that are held."""
    return [
        lines(
            "Loop share, by tenant",
            "Event-loop time that each tenant had, of all the time that the chosen loops had. What is "
            "missing to 100 % was idle.",
            SHARE, [query(LOOP_SHARE, BY_TENANT)], (0, 24, 12, 8), stacked=True, top=1,
        ),
        lines(
            "Delay caused to others, by tenant",
            "Seconds per second that other tenants' ready work waited for this tenant's slices, summed over "
            "all who waited: 2 means that two others stood still the whole time.",
            SECONDS, [query(CAUSED, BY_TENANT)], (12, 24, 12, 8),
        ),
        lines(
            "Loop utilisation, by instance",
            "Share of time in which each event loop ran callbacks instead of waiting for something to do.",
            SHARE, [query(f"max by (job, instance) ({UTILIZATION})", INSTANCE)],
            (0, 32, 8, 8), red=0.9, top=1,
        ),
        lines(
            "p99 timer delay, by instance",
            "99th percentile of how late a loop ran a timer that was due: what every tenant on it feels.",
            SECONDS, [query(p99(library.LOOP_DELAY, "job, instance", CHOSEN), INSTANCE)],
            (8, 32, 8, 8), red=threshold(),
        ),
        lines(
            "Stalls, by the tenant who held the loop",
            "Slices beyond the sidecar's threshold in each interval. The sidecar raised EventLoopStalled "
            "for each while the loop was still blocked.",
            COUNT, [query(STALLS, BY_TENANT)], (16, 32, 8, 8),
        ),
    ]  # fmt: skip


def what_they_do() -> list[Builder[Panel]]:
    """The work itself."""
    return [
        lines(
            "Messages by outcome",
            "Messages whose handling ended, per second, of all chosen tenants.",
            PER_SECOND,
            [query(rate(library.MESSAGES, "autogen_message_outcome"), "{{autogen_message_outcome}}")],
            (0, 41, 8, 8), stacked=True,
            colours={"ok": "green", "error": "red", "cancelled": "orange", "dropped": "purple"},
        ),
        lines(
            "Errors by type",
            "Activities that ended with an exception, per second, by kind of activity and class of the "
            "exception. Messages of exceptions are never recorded.",
            PER_SECOND,
            [query(ERRORS_BY_TYPE, "{{error_type}} in {{autogen_activity}}")],
            (8, 41, 8, 8), stacked=True,
        ),
        lines(
            "Tokens, by tenant",
            "Tokens per second that each tenant's model calls took and gave.",
            PER_SECOND,
            [query(TOKENS_BY_TYPE, "{{tenant_id}} {{gen_ai_token_type}}")],
            (16, 41, 8, 8), stacked=True,
        ),
        lines(
            "p99 model call, by tenant",
            "99th percentile of the time that a call of the model took. It is waiting, not loop time: a "
            "slow model delays its own tenant only.",
            SECONDS, [query(p99(library.OPERATION_DURATION, "tenant_id"), BY_TENANT)], (0, 49, 8, 8),
        ),
        lines(
            "Broken isolation, by rule",
            "Rules of tenant isolation that were seen broken, in each interval. There should be none, ever.",
            COUNT, [query(FINDINGS, "{{tenantscope_rule}}: {{tenant_id}}")],
            (8, 49, 8, 8), red=1,
        ),
        lines(
            "What the library dropped",
            "Observations that the library gave up, per second, by reason: what this dashboard does not see.",
            PER_SECOND, [query(rate(library.FAULTS, "tenantscope_reason", CHOSEN), "{{tenantscope_reason}}")],
            (16, 49, 8, 8),
        ),
    ]  # fmt: skip


def variables() -> list[Builder[VariableModel]]:
    """Where to look: data source, service, instance, tenant."""
    series = of_library(library.TENANT_LOOP_TIME)[0]

    def choice(name: str, label: str, expression: str) -> Builder[VariableModel]:
        return (
            dashboard.QueryVariable(name)
            .label(label)
            .datasource(panels.PROMETHEUS)
            .query(expression)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(VariableOption(selected=True, text="All", value="$__all"))
        )

    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        choice("job", "Service", f"label_values({series}, job)"),
        choice("instance", "Instance", f'label_values({series}{{job=~"$job"}}, instance)'),
        choice("tenant", "Tenant", f"label_values({series}{{{CHOSEN}}}, tenant_id)"),
    ]


def build() -> Dashboard:
    """The whole dashboard."""
    board = (
        dashboard.Dashboard("Tenants")
        .uid("tenantscope-tenants")
        .description("Tenants on shared event loops: who is slow, who makes others slow, what work they do.")
        .tags(["tenantscope", "autogen"])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .refresh("30s")
        .timezone("browser")
    )
    for variable in variables():
        board = board.with_variable(variable)
    rows = (
        (0, "", first_look()),
        (14, "Who is slow?", who_is_slow()),
        (23, "Who makes others slow?", who_makes_others_slow()),
        (40, "What do they do?", what_they_do()),
    )
    for y, title, row in rows:
        if title:
            board = board.with_row(dashboard.Row(title).grid_pos(GridPos(x=0, y=y, w=24, h=1)))
        for panel in row:
            board = board.with_panel(panel)
    built = board.build()
    # Links into the dashboard name a panel by its number: the same one in every build.
    for number, element in enumerate(built.panels or [], start=1):
        element.id_val = number
    return built
