"""A batch in two, so that what a destination refuses can be told from what it takes.

Resource, scope and, for metrics, the metric's own fields go along with every part, as OTLP needs them. What it
refuses: to split a batch whose records it counts differently from whoever redacted it; no record may be lost between.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from sidecar.conventions import Signal
from sidecar.network.otlp import SERVICES

from .batch import Batch

# The lists on the way to a request's records, each in an element of the one before.
_WAY: Final[dict[Signal, tuple[str, ...]]] = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics", "data_points"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
}


def halves(batch: Batch) -> tuple[Batch, Batch] | None:
    """The first and the second half of the batch's records; None when it cannot be split.

    A half's id says which half of which batch it is: the same each time that the batch is split.
    """
    if batch.records < 2:
        return None
    first, second = SERVICES[batch.signal].request(), SERVICES[batch.signal].request()
    try:
        first.ParseFromString(batch.payload)
        second.ParseFromString(batch.payload)
    except DecodeError:
        return None
    way, middle = _WAY[batch.signal], batch.records // 2
    if _keep(first, way, 0, middle) != batch.records:
        return None
    _keep(second, way, middle, batch.records)
    return (
        Batch(batch.signal, first.SerializeToString(), middle, f"{batch.id}/1"),
        Batch(batch.signal, second.SerializeToString(), batch.records - middle, f"{batch.id}/2"),
    )


def _keep(message: Any, way: tuple[str, ...], start: int, end: int) -> int:
    """Remove all records but those from number `start` to before `end`, and what is empty then; how many there were."""
    children, rest = _list(message, way[0]), way[1:]
    if not rest:
        count = len(children)
        del children[max(0, min(count, end)) :]
        del children[: max(0, start)]
        return count
    count = 0
    for child in children:
        count += _keep(child, rest, start - count, end - count)
    for index in reversed(range(len(children))):
        if not _list(children[index], rest[0]):
            del children[index]
    return count


def _list(message: Any, name: str) -> Any:
    if name != "data_points":
        return getattr(message, name)
    kind = message.WhichOneof("data")  # points are one level deeper, under the kind of metric
    return [] if kind is None else getattr(message, kind).data_points
