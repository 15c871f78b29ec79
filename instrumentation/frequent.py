"""Which keys are the most frequent, of any number of them, in a bounded number of counters?

Misra and Gries, "Finding repeated elements" (1982), with weights and with many counters emptied at once, as in
Anderson et al., "A high-performance algorithm for identifying frequent items in data streams" (IMC 2017): when there is
no counter for a new key, the median of all counters is taken off each, and those that have nothing left are given up.
So an addition costs the same on average however many keys there are, and an estimate is never above the truth, and
below it by at most 2 / `most` of all that was added. What is old counts less and less, by `fade`.

What it refuses: to remember a key that is rare.
"""

from __future__ import annotations

from typing import Final

#: Less than this is nothing: a key that came once, several half-lives ago.
_NOTHING: Final = 0.1


class Frequent:
    """Counts weights by key. Not for more than one thread at a time.

    Args:
        most: counters; at least 2.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, key: str, weight: float) -> None:
        """The key came, with a weight above 0."""
        counts = self._counts
        known = counts.get(key)
        if known is None:
            if len(counts) >= self._most:
                self._make_room()
                counts = self._counts
            known = 0.0
        counts[key] = known + weight

    def estimate(self, key: str) -> float:
        """The weight of a key so far: never above the truth."""
        return self._counts.get(key, 0.0)

    def largest(self) -> list[tuple[str, float]]:
        """All keys that are remembered, the largest first."""
        return sorted(self._counts.items(), key=lambda entry: -entry[1])

    def forget(self, key: str) -> None:
        """The key is counted elsewhere from now on."""
        self._counts.pop(key, None)

    def fade(self, factor: float) -> None:
        """What was counted so far counts so much of it from now on, from 0 to 1."""
        self._counts = {key: count * factor for key, count in self._counts.items() if count * factor >= _NOTHING}

    def _make_room(self) -> None:
        median = sorted(self._counts.values())[len(self._counts) // 2]
        self._counts = {key: count - median for key, count in self._counts.items() if count > median}
