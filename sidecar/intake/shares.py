"""What each sender has had, and so who is next: start-time fair queueing (Goyal, Vin and Cheng, 1996).

The cost is seconds, paid afterwards, since nobody knows before what a request costs. So a sender of many or of large
requests waits behind its own, and not everybody behind it.

What it refuses: to let anybody save something up by staying away, and to remember more than `REMEMBERED` senders.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

REMEMBERED: Final = 4096


class Shares:
    """To be used under a lock of whoever has it."""

    def __init__(self) -> None:
        self._had: OrderedDict[str, float] = OrderedDict()  # as of when a sender last paid, or came
        self._level = 0.0  # what the one who was last served had had: newcomers begin here

    def __len__(self) -> int:
        return len(self._had)

    def came(self, sender: str) -> None:
        """A sender wants something, and has nothing else under way."""
        self._had[sender] = max(self._had.pop(sender, 0.0), self._level)

    def next(self, waiting: Iterable[str]) -> str:
        """The one of these, one at least, who has had the least: it is served now."""
        sender = min(waiting, key=lambda sender: self._had.get(sender, self._level))
        self._level = max(self._level, self._had.get(sender, 0.0))
        return sender

    def paid(self, sender: str, seconds: float) -> None:
        """A sender was served for so long."""
        self._had[sender] = self._had.pop(sender, self._level) + seconds
        while len(self._had) > REMEMBERED:
            self._had.popitem(last=False)
