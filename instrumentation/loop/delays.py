"""A histogram of waiting times with the buckets of `conventions.LOOP_BUCKETS`."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from instrumentation.conventions import LOOP_BUCKETS

_BOUNDS_NS: Final = tuple(round(bound * 1e9) for bound in LOOP_BUCKETS)


class Delays:
    """How long something waited, how often.

    Attributes:
        counts: one number a bucket, upper bounds inclusive; the last is for all that is longer.
        sum_ns: all waits together.
        longest_ns: the longest of them.
    """

    __slots__ = ("counts", "longest_ns", "sum_ns")

    def __init__(self) -> None:
        self.counts = [0] * (len(_BOUNDS_NS) + 1)
        self.sum_ns = 0
        self.longest_ns = 0

    def record(self, wait_ns: int, times: int = 1) -> None:
        """Add one wait, in nanoseconds, or several of the same length."""
        self.counts[bisect_left(_BOUNDS_NS, wait_ns)] += times
        self.sum_ns += wait_ns * times
        if wait_ns > self.longest_ns:
            self.longest_ns = wait_ns

    def add(self, other: Delays) -> None:
        """Add everything that `other` counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum_ns += other.sum_ns
        self.longest_ns = max(self.longest_ns, other.longest_ns)
