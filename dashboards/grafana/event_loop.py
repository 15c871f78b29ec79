"""The dashboard *Event loop*: who stood in whose way, when loops stood still, and which loops have too much to do."""

from __future__ import annotations

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from dashboards.prometheus_names import of_library
from instrumentation import conventions as library
from sidecar import conventions as sidecar

from . import panels
from .board import Row, board, variables
from .panels import COUNT, SECONDS, SHARE, bands, heat, lines, now, query, steps, verdict
from .queries import BY_TENANT, CHOSEN, INSTANCE, TENANT, increase, p99, rate, series, threshold, total

HIGH = threshold("TenantLoopDelayHigh")
HOLDS = threshold("TenantHoldsLoop")
CAUSED = rate(library.TENANT_LOOP_DELAY_CAUSED, "tenant_id")
SUFFERED = rate(library.TENANT_LOOP_DELAY, "tenant_id", part=1)
HELD = rate(library.TENANT_LOOP_TIME, "tenant_id")
UTILIZATION = series(library.LOOP_UTILIZATION, CHOSEN)
TIMER = p99(library.LOOP_DELAY, "job, instance", CHOSEN)


def first_look() -> list[Builder[Panel]]:
    """Does any loop stand still, or have too much to do?"""
    return [
        verdict(
            "Loops watched",
            "Event loops that sidecars watch from outside. Fewer than there are processes: one is not seen.",
            COUNT, now(total(series(sidecar.LOOPS, ""))), (5, 4), steps(), "none",
        ),
        verdict(
            "Stalled now",
            "Event loops that one slice holds beyond the sidecar's threshold at this moment.",
            COUNT, now(total(series(sidecar.STALL_ACTIVE, TENANT))), (5, 4), steps(red=1), "none",
        ),
        verdict(
            "Holds others up most",
            "Tenant for whose slices others wait most, in seconds per second. Red is where TenantHoldsLoop fires.",
            SECONDS, now(f"topk(1, {CAUSED} > 0)", BY_TENANT), (5, 4), steps(HOLDS / 2, HOLDS), "nobody",
        ),
        verdict(
            "Busiest loop",
            "Share of time in which the busiest event loop ran callbacks. Near 100 % everybody on it waits.",
            SHARE, now(f"max({UTILIZATION})"), (5, 4), steps(0.7, 0.9), "no loop",
        ),
        verdict(
            "Latest timers",
            "99th percentile of how late the slowest loop ran timers that were due.",
            SECONDS, now(f"max({TIMER})"), (4, 4), steps(HIGH / 2, HIGH), "no loop",
        ),
    ]  # fmt: skip


def who_and_whom() -> list[Builder[Panel]]:
    """Culprits and victims."""
    return [
        panels.by_tenant(
            "Culprits and victims now",
            "One row a tenant, who holds others up most on top. Who causes little and suffers much is a victim.",
            [
                ("Delay caused /s", SECONDS, CAUSED, steps(HOLDS / 2, HOLDS)),
                ("Delay suffered /s", SECONDS, SUFFERED, steps()),
                ("p99 wait", SECONDS, p99(library.TENANT_LOOP_DELAY, "tenant_id"), steps(HIGH / 2, HIGH)),
                ("Loop time /s", SECONDS, HELD, steps(0.5, 0.8)),
            ],
            (12, 8), "tenantscope-agents",
        ),
        panels.matrix(
            "Who made whom wait",
            "One row a culprit, one column a victim: seconds per second that the victim's ready work waited for "
            "slices of the culprit. The largest pairs; the rest is `other` and `other`.",
            SECONDS, rate(library.TENANT_LOOP_DELAY_PAIR, "tenant_id, tenantscope_victim"),
            ("tenant_id", "tenantscope_victim"), (12, 8), steps(HOLDS / 2, HOLDS),
        ),
        heat(
            "How long ready work waited",
            "Waits of the chosen tenants' ready work for other tenants' slices: one column an interval, brighter "
            "where more waits took that long. Upper bounds.",
            SECONDS, rate(library.TENANT_LOOP_DELAY, "le"), (24, 8),
        ),
        lines(
            "Delay caused to others, by tenant",
            "Seconds per second that other tenants' ready work waited for this tenant's slices. The dashed line is the "
            "threshold of TenantHoldsLoop.",
            SECONDS, [query(CAUSED, BY_TENANT)], (12, 8), red=HOLDS,
        ),
        lines(
            "Delay suffered, by tenant",
            "Seconds per second that this tenant's ready work waited for other tenants' slices. Upper bounds.",
            SECONDS, [query(SUFFERED, BY_TENANT)], (12, 8),
        ),
    ]  # fmt: skip


def standstill() -> list[Builder[Panel]]:
    """Stalls on a time line."""
    active = f"sum by (tenant_id, service_name) ({series(sidecar.STALL_ACTIVE, TENANT)})"
    return [
        bands(
            "Stalls, as scrapes saw them",
            "Red while a tenant's slice held a loop beyond the threshold at the moment of a scrape. Stalls between two "
            "scrapes are not here, but in the count beside.",
            query(active, "{{tenant_id}} in {{service_name}}"), (12, 7), ("running", "stalled"),
        ),
        lines(
            "Stalls, by the tenant who held the loop",
            "Slices beyond the sidecar's threshold in each interval, the short ones between two scrapes included.",
            COUNT, [query(increase(sidecar.STALLS, "tenant_id", TENANT), BY_TENANT)], (12, 7),
        ),
        lines(
            "Time stalled, by the tenant who held the loop",
            "Seconds per second for which loops were stalled: 1 is one loop that stood still all the time.",
            SECONDS, [query(rate(sidecar.STALL_SECONDS, "tenant_id", TENANT), BY_TENANT)], (12, 7),
        ),
        lines(
            "Verdicts of the watchdog",
            "Changes of verdict in each interval: stalled, saturated, stopped, dead, silent; firing and resolved.",
            COUNT, [query(increase(sidecar.ALERTS, "alertname, status", ""), "{{alertname}} {{status}}")], (12, 7),
        ),
    ]  # fmt: skip


def too_much_to_do() -> list[Builder[Panel]]:
    """Loops as such."""
    return [
        lines(
            "Loop utilisation, by instance",
            "Share of time in which each event loop ran callbacks instead of waiting for something to do.",
            SHARE, [query(f"max by (job, instance) ({UTILIZATION})", INSTANCE)], (12, 8), red=0.9, top=1,
        ),
        lines(
            "p99 timer delay, by instance",
            "99th percentile of how late a loop ran a timer that was due: what every tenant on it feels.",
            SECONDS, [query(TIMER, INSTANCE)], (12, 8), red=HIGH,
        ),
        lines(
            "Loop time, by tenant",
            "Seconds per second of event-loop time that each tenant had, over all chosen loops.",
            SECONDS, [query(HELD, BY_TENANT)], (12, 8), stacked=True,
        ),
        heat(
            "How late timers ran",
            "Delays of timers on the chosen loops: one column an interval, brighter where more were that late.",
            SECONDS, rate(library.LOOP_DELAY, "le", CHOSEN), (12, 8),
        ),
    ]  # fmt: skip


def build() -> Dashboard:
    """The whole dashboard."""
    name = of_library(library.TENANT_LOOP_TIME)[0]
    return board(
        "event-loop",
        "Event loop",
        "Event loops that tenants share: who stood in whose way, when they stood still, which have too much to do.",
        variables(name, name),
        [
            Row("", first_look()),
            Row("Who stood in whose way?", who_and_whom()),
            Row("When did loops stand still?", standstill()),
            Row("Which loops have too much to do?", too_much_to_do()),
        ],
    )
