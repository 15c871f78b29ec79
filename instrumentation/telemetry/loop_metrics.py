"""The loops' totals as metrics: who had the loop, who waited, who made others wait, and how late the loop is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from opentelemetry.sdk.metrics.export import Metric

from instrumentation import conventions, tenancy
from instrumentation.loop.delays import Delays
from instrumentation.loop.totals import Totals

from .accumulators import Changes, Distribution, Values, gauge_of, histogram_of, sum_of

_NS = 1e9
K = TypeVar("K", bound=Values)
V = TypeVar("V")


def loop_metrics(totals: Totals, began_ns: int, now_ns: int, changes: Changes, delivered: bool = True) -> list[Metric]:
    """One reading of all loops as cumulative metrics; a tenant who never had the loop, or not of late, has no series.

    Args:
        totals: what `Loops.totals()` returned.
        began_ns, now_ns: start of the series and moment of the reading, nanoseconds since the epoch.
        changes: what the readings before have found.
        delivered: whether the reading before has arrived; a series does not pause before it has.
    """
    if not totals.loops and not any(totals.active_ns):
        return []
    ids = [tenant.id for tenant in tenancy.TABLE.in_order()]
    active = [((ids[slot],), ns / _NS) for slot, ns in enumerate(totals.active_ns) if ns and slot < len(ids)]
    cpu = [((ids[slot],), ns / _NS) for slot, ns in enumerate(totals.cpu_ns) if ns and slot < len(ids)]
    caused = [((ids[slot],), ns / _NS) for slot, ns in enumerate(totals.caused_ns) if ns and slot < len(ids)]
    suffered = [((ids[slot],), _distribution(delays)) for slot, delays in totals.suffered.items() if slot < len(ids)]
    pairs = [
        ((ids[culprit], ids[victim]), ns / _NS)
        for (culprit, victim), ns in totals.pairs_ns.items()
        if max(culprit, victim) < len(ids)
    ]

    def moving(metric: conventions.Metric, series: Iterable[tuple[K, V]]) -> list[tuple[K, V]]:
        return [
            (values, value)
            for values, value in series
            if not (changes.idle((metric.name, values), getattr(value, "counts", value), now_ns) and delivered)
        ]

    active = moving(conventions.TENANT_LOOP_TIME, active)
    cpu = moving(conventions.TENANT_LOOP_CPU_TIME, cpu)
    caused = moving(conventions.TENANT_LOOP_DELAY_CAUSED, caused)
    suffered = moving(conventions.TENANT_LOOP_DELAY, suffered)
    found = [
        gauge_of(conventions.LOOP_UTILIZATION, now_ns, [((), totals.utilization)]),
        gauge_of(conventions.ACTIVE_TENANTS, now_ns, [((), totals.tenants)]),
        sum_of(
            conventions.LOOP_TIME,
            began_ns,
            now_ns,
            [
                *((("active", tenant), seconds) for (tenant,), seconds in active),
                (("framework", None), totals.framework_ns / _NS),
                (("idle", None), totals.idle_ns / _NS),
            ],
        ),
        sum_of(conventions.LOOP_CPU_DELAY, began_ns, now_ns, [((), totals.cpu_delay_ns / _NS)]),
        sum_of(
            conventions.TENANT_LOOP_TIME,
            began_ns,
            now_ns,
            active,
        ),
    ]
    if cpu:
        found.append(sum_of(conventions.TENANT_LOOP_CPU_TIME, began_ns, now_ns, cpu))
    if any(totals.delay.counts):
        found.append(histogram_of(conventions.LOOP_DELAY, began_ns, now_ns, [((), _distribution(totals.delay))]))
    if suffered:
        found.append(histogram_of(conventions.TENANT_LOOP_DELAY, began_ns, now_ns, suffered))
    if caused:
        found.append(sum_of(conventions.TENANT_LOOP_DELAY_CAUSED, began_ns, now_ns, caused))
    if pairs:
        found.append(sum_of(conventions.TENANT_LOOP_DELAY_PAIR, began_ns, now_ns, pairs))
    return found


def _distribution(delays: Delays) -> Distribution:
    made = Distribution(conventions.LOOP_BUCKETS)
    made.counts = list(delays.counts)
    made.sum = delays.sum_ns / _NS
    return made
