"""What each sender has had, and so who is next: start-time fair queueing (Goyal, Vin and Cheng, 1996).

The cost is seconds, since nobody knows before what a request costs: those of each that is served, so two at once cost
twice as much. They count while they pass. So a sender of many, of large or of slow requests waits behind its own, and
not everybody behind it.

What it refuses: to let anybody save something up by staying away, and to remember more than `REMEMBERED` senders.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

REMEMBERED: Final = 4096


class Shares:
    """To be used under a lock of whoever has it.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._had: OrderedDict[str, float] = OrderedDict()  # until `_at`; who came or left last stands last
        self._served: Counter[str] = Counter()  # how many of each are served
        self._at = clock()
        self._level = 0.0  # what the one who was last served had had: newcomers begin here

    def __len__(self) -> int:
        return len(self._had)

    def served(self, sender: str) -> int:
        """How many of a sender are served now."""
        return self._served[sender]

    def came(self, sender: str) -> None:
        """A sender waits, and did not before."""
        self._had[sender] = max(self._had.pop(sender, 0.0), self._level)

    def next(self, waiting: Iterable[str]) -> str:
        """The one of these, one at least, who has had the least, and is served the least: it is served from now on."""
        self._pass()
        sender = min(waiting, key=lambda sender: (self._had.get(sender, self._level), self._served[sender]))
        self._level = max(self._level, self._had.get(sender, 0.0))
        self._served[sender] += 1
        return sender

    def left(self, sender: str) -> None:
        """One of a sender is served no more."""
        self._pass()
        self._served[sender] -= 1
        if not self._served[sender]:
            del self._served[sender]
        self._had[sender] = self._had.pop(sender, self._level)
        while len(self._had) > REMEMBERED:
            self._had.popitem(last=False)

    def _pass(self) -> None:
        now = self._clock()
        passed, self._at = now - self._at, now
        for sender, count in self._served.items():
            self._had[sender] = self._had.get(sender, self._level) + count * passed
