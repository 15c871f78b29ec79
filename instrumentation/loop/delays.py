"""A histogram of waiting times with the buckets of `conventions.LOOP_BUCKETS`."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from sidecar.wire import cell as layout

_BOUNDS_NS: Final = layout.DELAY_BOUNDS_NS  # of `conventions.LOOP_BUCKETS`, which a test holds


class Delays:
    """How long something waited, how often: in nanoseconds, as the loop's clock has them. What is exported of them is
    telemetry's `Distribution`, in seconds.

    Attributes:
        counts: one number a bucket, upper bounds inclusive; the last is for all that is longer.
        sum_ns: all waits together.
    """

    __slots__ = ("counts", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS_NS) + 1)
        self.sum_ns = 0

    def record(self, wait_ns: int, times: int = 1) -> int:
        """Add one wait, in nanoseconds, or several of the same length; returns the bucket that they fell into."""
        bucket = bisect_left(_BOUNDS_NS, wait_ns)
        self.counts[bucket] += times
        self.sum_ns += wait_ns * times
        return bucket

    def since(self, before: Delays) -> Delays:
        """What was counted since; `before` is an earlier state."""
        grown = Delays()
        grown.counts = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        grown.sum_ns = self.sum_ns - before.sum_ns
        return grown

    def add(self, other: Delays) -> None:
        """Add everything that `other` counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum_ns += other.sum_ns
