"""Signs of life: each part of the sidecar says when it did something, and by when it will again.

A part that has not been heard of within its own deadline is late, and the sidecar not ready. One that has been silent
for ten times as long hangs: nothing but a restart will help, and that is what `/healthz` is for.

What it refuses: to take a part for alive that has never been heard of, and to take one for late that has nothing to do
and said so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from . import conventions

#: Deadlines after which a part that is late counts as one that hangs.
PATIENCE: Final = 10


class Pulse:
    """The sign of life of one part; used by the part's own thread.

    Args:
        seconds: within which it does something, as long as it has something to do.
        clock: seconds, monotonic.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._made = clock()
        self._at: float | None = None
        self._resting = False
        self._lost = False
        self._heard = threading.Event()

    def beat(self) -> None:
        """Something was done just now."""
        self._at, self._resting = self._clock(), False
        self._heard.set()

    def rest(self) -> None:
        """There is nothing to do; the next sign will come when there is."""
        self._at, self._resting = self._clock(), True
        self._heard.set()

    def lose(self) -> None:
        """The part is no more, and will not be heard of again."""
        self._lost = True

    def wait_until_heard(self, seconds: float) -> bool:
        """Wait for the first sign of life, at most so long."""
        return self._heard.wait(seconds)

    @property
    def silent(self) -> float:
        """Seconds since it was heard of, or since it was made; 0 while it rests."""
        if self._resting:
            return 0.0
        return max(0.0, self._clock() - (self._made if self._at is None else self._at))

    @property
    def in_time(self) -> bool:
        """Whether it was ever heard of, and within its deadline."""
        return self._at is not None and not self._lost and self.silent < self.seconds

    @property
    def hangs(self) -> bool:
        """Whether there is no hope left."""
        return self._lost or self.silent >= self.seconds * PATIENCE


class Busy(Pulse):
    """The sign of life of something that many do: `since` says for how long the slowest has been at it."""

    def __init__(self, seconds: float, since: Callable[[], float]) -> None:
        super().__init__(seconds)
        self._since = since

    @property
    def silent(self) -> float:
        """Seconds that the slowest has taken so far."""
        return self._since()

    @property
    def in_time(self) -> bool:
        """Whether it is within the deadline."""
        return self.silent < self.seconds

    def wait_until_heard(self, seconds: float) -> bool:  # noqa: ARG002  # there is nothing to be heard of
        """At once."""
        return True


class Pulses(Collector):
    """All parts of a sidecar. Thread-safe; a collector of `prometheus_client`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._parts: dict[str, Pulse] = {}

    def part(self, name: str, seconds: float) -> Pulse:
        """A new part, to be heard of within so many seconds again and again."""
        return self.add(name, Pulse(seconds, self._clock))

    def add(self, name: str, pulse: Pulse) -> Pulse:
        """A new part, whose pulse is there already. Raises ValueError: there is one of that name."""
        with self._lock:
            if name in self._parts:
                raise ValueError(f"two parts are called {name}")
            self._parts[name] = pulse
        return pulse

    def wait_until_heard(self, seconds: float) -> bool:
        """Wait until all parts were heard of, at most so long."""
        deadline = self._clock() + seconds
        return all(pulse.wait_until_heard(max(0.0, deadline - self._clock())) for _, pulse in self._all())

    def in_time(self) -> dict[str, bool]:
        """By part: whether it was heard of within its deadline."""
        return {name: pulse.in_time for name, pulse in self._all()}

    def hanging(self) -> list[str]:
        """The parts that have been silent beyond hope."""
        return sorted(name for name, pulse in self._all() if pulse.hangs)

    def collect(self) -> Iterator[Family]:
        """For `/metrics`."""
        family = conventions.PART_SILENT.family()
        for name, pulse in self._all():
            family.add_metric((name,), pulse.silent)
        yield family

    def _all(self) -> list[tuple[str, Pulse]]:
        with self._lock:
            return list(self._parts.items())
