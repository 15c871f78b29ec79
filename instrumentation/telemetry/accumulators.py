"""Per-tenant counts and histograms, kept by ourselves and handed to the exporter as ready OTLP points.

An SDK instrument costs 5 us a record; adding to a list costs a tenth of that, and a message makes several. The points
are cumulative, monotonic and bounded: tenants by the tenant table, other attribute values by `MAX_SERIES` a metric,
beyond which a series counts for its tenant with the remaining attributes left out. So one tenant's many names never
take another's figures away.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)

from instrumentation import conventions
from instrumentation.diagnostics import count

MAX_SERIES: Final = 2000
#: Sent with no metric: the sidecar drops free text, and the reference has it.
_NO_DESCRIPTION: Final = ""
Values = tuple[str | None, ...]


class Distribution:
    """A histogram with explicit upper bounds (inclusive): counts and sum. Least and greatest value are left out, as a
    cumulative series would show those of its whole life."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def copy(self) -> Distribution:
        copied = Distribution(self.bounds)
        copied.counts = self.counts.copy()
        copied.sum = self.sum
        return copied

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Series:
    """All series of one metric; a series is the values of the metric's attributes, in their order."""

    def __init__(self, metric: conventions.Metric) -> None:
        self.metric = metric
        self._sums: dict[Values, float] = {}
        self._distributions: dict[Values, Distribution] = {}

    def add(self, values: Values, amount: float) -> None:
        """Count `amount`; the caller holds the lock."""
        try:
            self._sums[values] += amount
        except KeyError:
            values = self._bounded(values, self._sums)
            self._sums[values] = self._sums.get(values, 0) + amount

    def record(self, values: Values, value: float) -> None:
        """Record one value; the caller holds the lock."""
        distribution = self._distributions.get(values)
        if distribution is None:
            values = self._bounded(values, self._distributions)
            distribution = self._distributions.setdefault(values, Distribution(self.metric.buckets))
        distribution.add(value)

    def _bounded(self, values: Values, known: dict[Values, float] | dict[Values, Distribution]) -> Values:
        if len(known) < MAX_SERIES:
            return values
        count("metric.over_bound")
        return values[:1] + (None,) * (len(values) - 1)  # the tenant comes first in every metric

    def copy(self) -> Series:
        """This moment's values, to be read at leisure; the caller holds the lock."""
        copied = Series(self.metric)
        copied._sums = self._sums.copy()
        copied._distributions = {values: kept.copy() for values, kept in self._distributions.copy().items()}
        return copied

    def points(self, began_ns: int, now_ns: int) -> Metric | None:
        """This metric as OTLP data, or None while there is none."""
        if self._sums and self.metric.kind == "gauge":
            return gauge_of(self.metric, now_ns, self._sums.items())
        if self._sums:
            return sum_of(self.metric, began_ns, now_ns, self._sums.items())
        if self._distributions:
            return histogram_of(self.metric, began_ns, now_ns, self._distributions.items())
        return None


class Accumulators:
    """The series of every metric that activities add to; one lock, taken once an activity."""

    def __init__(self) -> None:
        # Re-entered when the garbage collector, in the middle of an addition, ends a handler that nobody waits for.
        self.lock = threading.RLock()
        self.began_ns = time.time_ns()
        self._series = {
            metric.name: Series(metric)
            for metric in (
                conventions.MESSAGES,
                conventions.QUEUE_DURATION,
                conventions.PROCESS_DURATION,
                conventions.RESPONSE_DURATION,
                conventions.ABANDONED,
                *conventions.MODEL_METRICS,
                conventions.TOOL_DURATION,
                conventions.MCP_DURATION,
                conventions.MEMORY_DURATION,
                conventions.MEMORY_ENTRIES,
                conventions.AGENT_DURATION,
                conventions.WORKFLOW_DURATION,
                conventions.INPUT_DURATION,
                conventions.STATE,
                conventions.ERRORS,
                conventions.FINDINGS,
                conventions.TURN_OVERRUNS,
            )
        }

    def of(self, metric: conventions.Metric) -> Series:
        """The series of one metric; add to it with `lock` held."""
        return self._series[metric.name]

    def collect(self, now_ns: int) -> list[Metric]:
        """Every metric that has data. Activities wait for a copy of one metric at a time, not for its points."""
        found = []
        for series in self._series.values():
            with self.lock:
                copied = series.copy()
            found.append(copied.points(self.began_ns, now_ns))
        return [metric for metric in found if metric is not None]


def _attributes(metric: conventions.Metric, values: Values) -> dict[str, str]:
    return {name: value for name, value in zip(metric.attributes, values, strict=True) if value is not None}


def sum_of(metric: conventions.Metric, began_ns: int, now_ns: int, series: Iterable[tuple[Values, float]]) -> Metric:
    """A monotonic, cumulative sum."""
    points = [NumberDataPoint(_attributes(metric, values), began_ns, now_ns, total) for values, total in series]
    return Metric(
        metric.name,
        _NO_DESCRIPTION,
        metric.unit,
        Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True),
    )


def gauge_of(metric: conventions.Metric, now_ns: int, series: Iterable[tuple[Values, float]]) -> Metric:
    """What is so at this moment."""
    points = [NumberDataPoint(_attributes(metric, values), now_ns, now_ns, value) for values, value in series]
    return Metric(metric.name, _NO_DESCRIPTION, metric.unit, Gauge(points))


def histogram_of(
    metric: conventions.Metric, began_ns: int, now_ns: int, series: Iterable[tuple[Values, Distribution]]
) -> Metric:
    """A cumulative histogram with the metric's explicit buckets."""
    points = [
        HistogramDataPoint(
            attributes=_attributes(metric, values),
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            count=sum(distribution.counts),
            sum=distribution.sum,
            bucket_counts=list(distribution.counts),
            explicit_bounds=list(metric.buckets),
            min=None,  # type: ignore[arg-type]  # OTLP's own fields are optional
            max=None,  # type: ignore[arg-type]
        )
        for values, distribution in series
    ]
    return Metric(metric.name, _NO_DESCRIPTION, metric.unit, Histogram(points, AggregationTemporality.CUMULATIVE))
