"""Per-tenant counts and histograms, kept by ourselves and handed to the exporter as ready OTLP points.

An SDK instrument costs 5 us a record; adding to a list costs a tenth of that, and a message makes several. The points
are cumulative, monotonic and bounded: tenants by the tenant table, other attribute values by `MAX_SERIES` a metric,
beyond which a series counts for its tenant with the remaining attributes left out. So one tenant's many names never
take another's figures away.

A series that has not changed for a quarter of an hour ends, once its last value has arrived: it is sent no more and
makes room. So does that of a tenant who has lost its slot (see `turnover`), as soon as it has not changed from one
reading to the next. When its tenant comes back, it begins anew, with a start time that says so.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from instrumentation.slots import OTHER

MAX_SERIES: Final = 2000
#: How long a series stays without a change, in nanoseconds.
IDLE_NS: Final = 15 * 60 * 10**9
#: Sent with no metric: the sidecar drops free text, and the reference has it.
_NO_DESCRIPTION: Final = ""
Values = tuple[str | None, ...]
#: Whether figures of a tenant may still grow.
IsShown = Callable[[str], bool]
#: When series began, nanoseconds since 1970: all of them, or each.
Began = int | Mapping[Values, int]


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


class Changes:
    """Since when series have been as they are, as far as readings show. Used by one thread at a time."""

    def __init__(self) -> None:
        self._last: dict[object, tuple[object, int]] = {}

    def idle(self, series: object, value: object, now_ns: int, idle_ns: int = IDLE_NS) -> bool:
        """Whether a series, whose value is this now, was the same at a reading before, and has been for `idle_ns`."""
        last = self._last.get(series)
        if last is None or last[0] != value:
            self._last[series] = (value, now_ns)
            return False
        return now_ns - last[1] >= idle_ns

    def forget(self, series: object) -> None:
        """The series is gone."""
        self._last.pop(series, None)


class Series:
    """All series of one metric; a series is the values of the metric's attributes, in their order.

    Args:
        metric: which.
        wall: nanoseconds since 1970: when a series begins.
        is_shown: tells a tenant who has a slot. A level is added to by a tenant's name, and shown by whether it has one
            at the moment: what it rises by and what it falls by are then of one series.
    """

    def __init__(
        self,
        metric: conventions.Metric,
        wall: Callable[[], int] = time.time_ns,
        is_shown: IsShown = lambda _tenant: True,
    ) -> None:
        self.metric = metric
        self._wall = wall
        self._is_shown = is_shown
        self._sums: dict[Values, float] = {}
        self._distributions: dict[Values, Distribution] = {}
        self._began: dict[Values, int] = {}
        self._changes = Changes()

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
        if len(known) >= MAX_SERIES:
            count("metric.over_bound")
            values = values[:1] + (None,) * (len(values) - 1)  # the tenant comes first in every metric
        self._began.setdefault(values, self._wall())
        return values

    def copy(self) -> Series:
        """This moment's values, to be read at leisure; the caller holds the lock."""
        copied = Series(self.metric, self._wall, self._is_shown)
        copied._sums = self._sums.copy()
        copied._distributions = {values: kept.copy() for values, kept in self._distributions.copy().items()}
        copied._began = self._began.copy()
        return copied

    def idle(self, copied: Series, now_ns: int) -> list[Values]:
        """Those series of a copy of this that have been the same for `IDLE_NS`, or whose tenant has lost its slot and
        that have been the same since the reading before. A level that is not 0 is never idle."""
        is_level = self.metric.kind == "gauge"
        return [
            values
            for values, value in copied._values()
            if self._changes.idle(values, value, now_ns, IDLE_NS if self._is_shown(str(values[0])) else 0)
            and not (is_level and value)
        ]

    def end(self, series: Iterable[Values], copied: Series) -> None:
        """End these in both, unless they have changed since they were copied; the caller holds the lock."""
        now = dict(self._values())
        before = dict(copied._values())
        for values in series:
            if now.get(values) == before[values]:
                self._forget(values)
                copied._forget(values)

    def _forget(self, values: Values) -> None:
        for kept in (self._sums, self._distributions, self._began):
            kept.pop(values, None)
        self._changes.forget(values)

    def _values(self) -> Iterator[tuple[Values, float | list[int]]]:
        yield from self._sums.items()
        for values, distribution in self._distributions.items():
            yield values, distribution.counts

    def points(self, now_ns: int) -> Metric | None:
        """This metric as OTLP data, or None while there is none."""
        if self._sums and self.metric.kind == "gauge":
            shown: dict[Values, float] = {}
            for (tenant, *others), level in self._sums.items():
                values = (tenant if tenant is None or self._is_shown(tenant) else OTHER, *others)
                shown[values] = shown.get(values, 0) + level
            return gauge_of(self.metric, now_ns, shown.items())
        if self._sums:
            return sum_of(self.metric, self._began, now_ns, self._sums.items())
        if self._distributions:
            return histogram_of(self.metric, self._began, now_ns, self._distributions.items())
        return None


class Accumulators:
    """The series of every metric that activities add to; one lock, taken once an activity.

    Args:
        wall: nanoseconds since 1970.
        is_shown: tells a tenant who has a slot.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, is_shown: IsShown = lambda _tenant: True) -> None:
        # Re-entered when the garbage collector, in the middle of an addition, ends a handler that nobody waits for.
        self.lock = threading.RLock()
        self.began_ns = wall()
        self._series = {
            metric.name: Series(metric, wall, is_shown)
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

    def collect(self, now_ns: int, delivered: bool = True) -> list[Metric]:
        """Every metric that has data. Activities wait for a copy of one metric at a time, not for its points.

        Args:
            now_ns: nanoseconds since 1970.
            delivered: whether what was collected before has arrived; a series does not end before it has.
        """
        found = []
        for series in self._series.values():
            with self.lock:
                copied = series.copy()
            idle = series.idle(copied, now_ns)
            # A level that has been 0 leaves nothing to be told; without a sidecar there would be no end of them.
            if idle and (delivered or series.metric.kind == "gauge"):
                with self.lock:
                    series.end(idle, copied)
            found.append(copied.points(now_ns))
        return [metric for metric in found if metric is not None]


def _start(began: Began, values: Values) -> int:
    return began if isinstance(began, int) else began[values]


def _attributes(metric: conventions.Metric, values: Values) -> dict[str, str]:
    return {name: value for name, value in zip(metric.attributes, values, strict=True) if value is not None}


def sum_of(metric: conventions.Metric, began: Began, now_ns: int, series: Iterable[tuple[Values, float]]) -> Metric:
    """A monotonic, cumulative sum."""
    points = [
        NumberDataPoint(_attributes(metric, values), _start(began, values), now_ns, total) for values, total in series
    ]
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
    metric: conventions.Metric, began: Began, now_ns: int, series: Iterable[tuple[Values, Distribution]]
) -> Metric:
    """A cumulative histogram with the metric's explicit buckets."""
    points = [
        HistogramDataPoint(
            attributes=_attributes(metric, values),
            start_time_unix_nano=_start(began, values),
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
