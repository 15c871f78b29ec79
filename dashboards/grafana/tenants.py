"""The dashboard *Tenants*: who is slow, who makes others slow, and what work they do.

Names of series come from the tables in `conventions.py`, thresholds from the alert rule. The library's series
are chosen by service and instance; those of the sidecar by tenant alone, for its job is the sidecar.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import text
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, GridPos, Panel
from grafana_foundation_sdk.models.text import TextMode

from dashboards.prometheus_names import of_library
from instrumentation import conventions as library
from sidecar import conventions as sidecar

from . import panels
from .board import Row, board, variables
from .panels import COUNT, PER_SECOND, SECONDS, SHARE, lines, now, query, steps, verdict
from .queries import BY_TENANT, CHOSEN, INSTANCE, TENANT, cost, increase, p99, rate, series, threshold, total

INTRODUCTION = """\
**Who is slow?** *Waits* are the time that a tenant's ready work stood behind other tenants' turns on the loop;
an upper bound, for when input became readable is not known. **Who makes others slow?** *Loop share* and
*delay caused* name the culprit. The tenant `unknown` is work that nobody bound to a tenant, `other` is
everybody beyond the bound.
"""

HIGH = threshold("TenantLoopDelayHigh")
HOLDS = threshold("TenantHoldsLoop")
WAIT = p99(library.TENANT_LOOP_DELAY, "tenant_id")
ALL_TIME = rate(library.LOOP_TIME, where=CHOSEN)
LOOP_SHARE = f"{rate(library.TENANT_LOOP_TIME, 'tenant_id')} / scalar({ALL_TIME})"
ERRORS_BY_TYPE = rate(library.ERRORS, "error_type, autogen_activity")
TOKENS_BY_TYPE = rate(library.TOKEN_USAGE, "tenant_id, gen_ai_token_type", part=1)
CAUSED = rate(library.TENANT_LOOP_DELAY_CAUSED, "tenant_id")
UTILIZATION = series(library.LOOP_UTILIZATION, CHOSEN)
STALLED = total(series(sidecar.STALL_ACTIVE, TENANT))
STALLS = increase(sidecar.STALLS, "tenant_id", TENANT)
FINDINGS = increase(library.FINDINGS, "tenantscope_rule, tenant_id")


def first_look() -> list[Builder[Panel]]:
    """The top: is anything wrong, and who is it?"""
    return [
        text.Panel()
        .title("How to read this")
        .description("What the words on this dashboard mean.")
        .mode(TextMode.MARKDOWN)
        .content(INTRODUCTION)
        .grid_pos(GridPos(w=24, h=3)),
        verdict(
            "Waits most",
            "Tenant with the longest waits now: 99th percentile of the time that its ready work stood "
            "behind others. Red is where TenantLoopDelayHigh fires.",
            SECONDS, now(f"topk(1, {WAIT} > 0)", BY_TENANT), (5, 4), steps(HIGH / 2, HIGH), "nobody",
        ),
        verdict(
            "Holds the loop most",
            "Tenant with the largest share of event-loop time now. A large share is no fault by itself; "
            "look whether others wait.",
            SHARE, now(f"topk(1, {LOOP_SHARE})", BY_TENANT), (5, 4), steps(0.5, 0.8), "idle",
        ),
        verdict(
            "Busiest loop",
            "Share of time in which the busiest event loop ran callbacks. Near 100 % every tenant on it "
            "waits.",
            SHARE, now(f"max({UTILIZATION})"), (5, 4), steps(0.7, 0.9), "no loop",
        ),
        verdict(
            "Stalled now",
            "Event loops that one slice holds beyond the sidecar's threshold at this moment. The alert "
            "EventLoopStalled carries the stack.",
            COUNT, now(STALLED), (4, 4), steps(red=1), "none",
        ),
        verdict(
            "Errors per second",
            "Activities of all chosen tenants that ended with an exception.",
            PER_SECOND, now(rate(library.ERRORS)), (5, 4), steps(0.1, 1), "none",
        ),
        panels.by_tenant(
            "Tenants now",
            "One row a tenant, the longest waits on top. A tenant that waits has a culprit further down in "
            "the column Delay caused.",
            [
                ("p99 wait", SECONDS, WAIT, steps(HIGH / 2, HIGH)),
                ("Loop share", SHARE, LOOP_SHARE, steps(0.5, 0.8)),
                ("Delay caused /s", SECONDS, CAUSED, steps(HOLDS / 2, HOLDS)),
                ("Messages /s", PER_SECOND, rate(library.MESSAGES, "tenant_id"), steps()),
                ("Errors /s", PER_SECOND, rate(library.ERRORS, "tenant_id"), steps(0.1, 1)),
                ("Tokens /s", PER_SECOND, rate(library.TOKEN_USAGE, "tenant_id", part=1), steps()),
            ],
            (24, 7), "tenantscope-event-loop",
        ),
    ]  # fmt: skip


def who_is_slow() -> list[Builder[Panel]]:
    """The tenants that suffer."""
    return [
        lines(
            "p99 wait for the loop, by tenant",
            "99th percentile of the time that a tenant's ready work waited for another tenant's slice. The "
            "dashed line is the threshold of TenantLoopDelayHigh.",
            SECONDS, [query(WAIT, BY_TENANT)], (12, 8), red=HIGH,
        ),
        lines(
            "p99 time in the queue, by tenant",
            "99th percentile of the time from a send to the start of the handler: the loop's delay and "
            "AutoGen's queue.",
            SECONDS, [query(p99(library.QUEUE_DURATION, "tenant_id"), BY_TENANT)], (12, 8),
        ),
    ]  # fmt: skip


def who_makes_others_slow() -> list[Builder[Panel]]:
    """The tenants that hold the loop, and the loops that are held."""
    return [
        lines(
            "Loop share, by tenant",
            "Event-loop time that each tenant had, of all the time that the chosen loops had. What is "
            "missing to 100 % was idle.",
            SHARE, [query(LOOP_SHARE, BY_TENANT)], (12, 8), stacked=True, top=1,
        ),
        lines(
            "Delay caused to others, by tenant",
            "Seconds per second that other tenants' ready work waited for this tenant's slices, summed over "
            "all who waited: 2 means that two others stood still the whole time.",
            SECONDS, [query(CAUSED, BY_TENANT)], (12, 8), red=HOLDS,
        ),
        lines(
            "Loop utilisation, by instance",
            "Share of time in which each event loop ran callbacks instead of waiting for something to do.",
            SHARE, [query(f"max by (job, instance) ({UTILIZATION})", INSTANCE)],
            (8, 8), red=0.9, top=1,
        ),
        lines(
            "p99 timer delay, by instance",
            "99th percentile of how late a loop ran a timer that was due: what every tenant on it feels.",
            SECONDS, [query(p99(library.LOOP_DELAY, "job, instance", CHOSEN), INSTANCE)],
            (8, 8), red=HIGH,
        ),
        lines(
            "Stalls, by the tenant who held the loop",
            "Slices beyond the sidecar's threshold in each interval. The sidecar raised EventLoopStalled "
            "for each while the loop was still blocked.",
            COUNT, [query(STALLS, BY_TENANT)], (8, 8),
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
            (8, 8), stacked=True,
            colours={"ok": "green", "error": "red", "cancelled": "orange", "dropped": "purple"},
        ),
        lines(
            "Errors by type",
            "Activities that ended with an exception, per second, by kind of activity and class of the "
            "exception. Messages of exceptions are never recorded.",
            PER_SECOND,
            [query(ERRORS_BY_TYPE, "{{error_type}} in {{autogen_activity}}")],
            (8, 8), stacked=True,
        ),
        lines(
            "Tokens, by tenant",
            "Tokens per second that each tenant's model calls took and gave.",
            PER_SECOND,
            [query(TOKENS_BY_TYPE, "{{tenant_id}} {{gen_ai_token_type}}")],
            (8, 8), stacked=True,
        ),
        lines(
            "Cost per hour, by tenant",
            "What an hour of each tenant's model calls costs at the present pace, by the prices of "
            "dashboards/prometheus/prices.rules.yaml and in their currency. A model without a price is not in it.",
            COUNT, [query(cost(library.TOKEN_USAGE, "tenant_id"), BY_TENANT)], (6, 8), stacked=True,
        ),
        lines(
            "p99 model call, by tenant",
            "99th percentile of the time that a call of the model took. It is waiting, not loop time: a "
            "slow model delays its own tenant only.",
            SECONDS, [query(p99(library.OPERATION_DURATION, "tenant_id"), BY_TENANT)], (6, 8),
        ),
        lines(
            "Broken isolation, by rule",
            "Rules of tenant isolation that were seen broken, in each interval. There should be none, ever.",
            COUNT, [query(FINDINGS, "{{tenantscope_rule}}: {{tenant_id}}")],
            (6, 8), red=1,
        ),
        lines(
            "What the library dropped",
            "Observations that the library gave up, per second, by reason: what this dashboard does not see.",
            PER_SECOND, [query(rate(library.FAULTS, "tenantscope_reason", CHOSEN), "{{tenantscope_reason}}")],
            (6, 8),
        ),
    ]  # fmt: skip


def build() -> Dashboard:
    """The whole dashboard."""
    name = of_library(library.TENANT_LOOP_TIME)[0]
    return board(
        "tenants",
        "Tenants",
        "Tenants on shared event loops: who is slow, who makes others slow, what work they do.",
        variables(name, name),
        [
            Row("", first_look()),
            Row("Who is slow?", who_is_slow()),
            Row("Who makes others slow?", who_makes_others_slow()),
            Row("What do they do?", what_they_do()),
        ],
    )
