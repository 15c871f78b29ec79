"""A clock that moves only when a test, or an idle loop, moves it; and a stock loop that lives by it."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class VirtualClock:
    """Nanoseconds. Work is `advance`; `wait` takes no CPU time, and is what the selector does with its timeout."""

    def __init__(self) -> None:
        self.now = 1_000_000_000_000
        self.cpu_now = 0

    def __call__(self) -> int:
        return self.now

    def advance(self, milliseconds: float) -> None:
        self.wait(milliseconds)
        self.cpu_now += round(milliseconds * 1_000_000)

    def wait(self, milliseconds: float) -> None:
        self.now += round(milliseconds * 1_000_000)

    def cpu(self) -> int:
        return self.cpu_now


class _VirtualSelector(selectors.SelectSelector):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout:
            self._clock.wait(timeout * 1000 + 0.001)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A stock loop whose time is the virtual clock's."""

    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        super().__init__(_VirtualSelector(clock))

    def time(self) -> float:
        return self._virtual.now / 1e9
