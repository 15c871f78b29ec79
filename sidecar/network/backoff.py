"""How long to wait before the next attempt: of a batch of telemetry, of a message about alerts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait is doubled each time up to a bound, and half of it is random: that keeps many sidecars apart.

    Attributes:
        first, longest: seconds.
        longest_asked: seconds that the other side may ask for; a longer wish is cut.
        chance: a number from [0, 1).
    """

    first: float
    longest: float
    longest_asked: float
    chance: Callable[[], float] = random.Random().random  # noqa: S311  # nothing secret

    def delay(self, attempt: int, asked: float | None = None) -> float:
        """Seconds to wait after failed attempt number `attempt`, counted from 0; `asked` by the other side."""
        full = min(self.longest, self.first * 2.0 ** min(attempt, 16))
        jittered = full / 2 + full / 2 * self.chance()
        return jittered if asked is None else max(jittered, min(asked, self.longest_asked))
