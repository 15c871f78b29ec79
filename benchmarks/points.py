"""Requests of metrics as benchmarks send them: 512 points, 64 a metric, of one kind.

A point has five attributes, of as many tenants, agents and kinds of message as a busy application has. Histograms have
sixteen buckets, as the SDK makes them, exponential ones forty, in some of which there is more than fits into one byte;
every fourth point has an exemplar.
"""

from __future__ import annotations

import random
from typing import Any, Final, Literal

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

POINTS: Final = 512
_EACH: Final = 64
_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30)
_BUCKETS: Final = 40
_EXEMPLARS: Final = 0.25

Kind = Literal["sum", "histogram", "exponential_histogram"]


def points(chance: random.Random, kind: Kind) -> bytes:
    """A request."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "billing"
    scope = resource.scope_metrics.add()
    scope.scope.name = "tenantscope"
    for _ in range(POINTS // _EACH):
        metric = scope.metrics.add(name="autogen.message.process.duration", unit="s")
        for _ in range(_EACH):
            _fill(getattr(metric, kind).data_points.add(), kind, chance)
    return request.SerializeToString()


def _fill(point: Any, kind: Kind, chance: random.Random) -> None:
    point.start_time_unix_nano = 1_760_000_000_000_000_000
    point.time_unix_nano = point.start_time_unix_nano + chance.randrange(10**12)
    for key, value in (
        ("tenant.id", f"tenant-{chance.randrange(50):05}"),
        ("autogen.message.kind", "send"),
        ("autogen.message.outcome", chance.choice(("ok", "error"))),
        ("autogen.message.type", f"Planner{chance.randrange(20)}"),
        ("autogen.agent.type", f"agent_{chance.randrange(20)}"),
    ):
        point.attributes.add(key=key).value.string_value = value
    if kind == "sum":
        point.as_int = chance.randrange(10**6)
    else:
        point.count, point.sum = chance.randrange(10**6), chance.random()
        point.min, point.max = chance.random(), chance.random()
    if kind == "histogram":
        point.explicit_bounds.extend(_BOUNDS)
        point.bucket_counts.extend(chance.randrange(500) for _ in range(len(_BOUNDS) + 1))
    if kind == "exponential_histogram":
        point.scale, point.zero_count, point.positive.offset = 3, chance.randrange(9), chance.randrange(50)
        point.positive.bucket_counts.extend(chance.randrange(chance.choice((100, 100, 500))) for _ in range(_BUCKETS))
    if chance.random() < _EXEMPLARS:
        exemplar = point.exemplars.add(time_unix_nano=point.time_unix_nano, as_double=chance.random())
        exemplar.trace_id, exemplar.span_id = chance.randbytes(16), chance.randbytes(8)
