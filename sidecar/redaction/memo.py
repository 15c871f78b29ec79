"""What was allowed before, so that it need not be scanned again. Bounded in entries and in bytes.

Two generations: a new entry goes into the recent one; when that is full it becomes the older one, and the
older one is forgotten. What is still in use comes back from the older into the recent. That keeps what is
used, as an LRU does, and a hit costs one dictionary look-up, where an LRU in Python also moves the entry.

Only what left as it stood is remembered. A memo of refused or masked values would keep in this process, for
as long as it runs, exactly the plaintext that redaction is there to forget; and a core dump would hold a
collection of secrets.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

GENERATION: Final = 4096
MAX_ENTRY: Final = 512


class Memo:
    """Allowed bytes, each with a number to go with it (1 when there is nothing to say).

    Threads may share it without a lock: every step is one operation on a dictionary, and the worst that a
        race can do is to forget an entry.
    """

    __slots__ = ("_older", "recent")

    def __init__(self) -> None:
        #: For the hot path, which looks here first and calls `recall` on a miss.
        self.recent: dict[bytes, int] = {}
        self._older: dict[bytes, int] = {}

    def recall(self, entry: bytes) -> int | None:
        """The number of an entry, or None when it is not remembered."""
        number = self.recent.get(entry)
        if number is None:
            number = self._older.get(entry)
            if number is not None:
                self.remember(entry, number)
        return number

    def remember(self, entry: bytes, number: int = 1) -> None:
        """Remember an entry that may leave as it stands."""
        if len(entry) > MAX_ENTRY:
            return
        if len(self.recent) >= GENERATION:
            self._older, self.recent = self.recent, {}
        self.recent[entry] = number

    def remember_some(self, entries: Iterable[bytes], number: int, most: int) -> None:
        """As `remember`, of many at once; of too many, some."""
        some = dict.fromkeys(islice(entries, min(most, GENERATION)), number)
        if len(self.recent) + len(some) > GENERATION:
            self._older, self.recent = self.recent, {}
        self.recent.update(some)

    def __len__(self) -> int:
        return len(self.recent) + len(self._older)
