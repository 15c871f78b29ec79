"""The loops' totals as metrics: who had the loop, who waited, who made others wait, and how late the loop is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from opentelemetry.sdk.metrics.export import Metric

from instrumentation import conventions, tenancy
from instrumentation.loop.delays import Delays
from instrumentation.loop.totals import Totals
from instrumentation.slots import OTHER, OTHER_SLOT

from .accumulators import Distribution, Values, gauge_of, histogram_of, sum_of

_NS = 1e9
V = TypeVar("V")


def loop_metrics(totals: Totals, began_ns: int, now_ns: int) -> list[Metric]:
    """One reading of all loops as cumulative metrics; a tenant who never had the loop has no series.

    Args:
        totals: what `Loops.totals()` returned.
        began_ns, now_ns: start of the series and moment of the reading, nanoseconds since the epoch.
    """
    if not totals.loops and not any(totals.active_ns):
        return []
    # After the reading: a slot that got its name meanwhile has nothing in it yet.
    names = dict(enumerate(tenancy.TABLE.labels()))
    starts: dict[Values, int] = {(name,): totals.began.get(slot, began_ns) for slot, name in names.items()}
    starts[OTHER,] = began_ns

    def by_tenant(numbers: Iterable[tuple[int, V]]) -> list[tuple[tuple[str], V]]:
        return [
            ((names[slot],), number)
            for slot, number in numbers
            if number and (slot == OTHER_SLOT or names.get(slot, OTHER) != OTHER)
        ]

    def seconds(nanoseconds: list[int]) -> list[tuple[tuple[str], float]]:
        return by_tenant((slot, ns / _NS) for slot, ns in enumerate(nanoseconds))

    active, cpu, caused = seconds(totals.active_ns), seconds(totals.cpu_ns), seconds(totals.caused_ns)
    suffered = by_tenant((slot, _distribution(delays)) for slot, delays in totals.suffered.items())
    pairs = {
        (names[culprit], names[victim]): (ns / _NS, totals.pairs_began.get((culprit, victim), began_ns))
        for (culprit, victim), ns in totals.pairs_ns.items()
        if max(culprit, victim) < len(names)
    }
    found = [
        gauge_of(conventions.LOOP_UTILIZATION, now_ns, [((), totals.utilization)]),
        gauge_of(conventions.ACTIVE_TENANTS, now_ns, [((), totals.tenants)]),
        sum_of(
            conventions.LOOP_TIME,
            {
                **{("active", tenant): start for (tenant,), start in starts.items()},
                ("framework", None): began_ns,
                ("idle", None): began_ns,
            },
            now_ns,
            [
                *((("active", tenant), time) for (tenant,), time in active),
                (("framework", None), totals.framework_ns / _NS),
                (("idle", None), totals.idle_ns / _NS),
            ],
        ),
        sum_of(conventions.LOOP_CPU_DELAY, began_ns, now_ns, [((), totals.cpu_delay_ns / _NS)]),
        sum_of(conventions.TENANT_LOOP_TIME, starts, now_ns, active),
    ]
    if cpu:
        found.append(sum_of(conventions.TENANT_LOOP_CPU_TIME, starts, now_ns, cpu))
    if any(totals.delay.counts):
        found.append(histogram_of(conventions.LOOP_DELAY, began_ns, now_ns, [((), _distribution(totals.delay))]))
    if suffered:
        found.append(histogram_of(conventions.TENANT_LOOP_DELAY, starts, now_ns, suffered))
    if caused:
        found.append(sum_of(conventions.TENANT_LOOP_DELAY_CAUSED, starts, now_ns, caused))
    if pairs:
        since: dict[Values, int] = {pair: start for pair, (_, start) in pairs.items()}
        waited = [(pair, time) for pair, (time, _) in pairs.items()]
        found.append(sum_of(conventions.TENANT_LOOP_DELAY_PAIR, since, now_ns, waited))
    return found


def _distribution(delays: Delays) -> Distribution:
    made = Distribution(conventions.LOOP_BUCKETS)
    made.counts = list(delays.counts)
    made.sum = delays.sum_ns / _NS
    return made
