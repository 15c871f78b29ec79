"""Who is redacted now: one request at a time for each processor that redacts, the others wait for their turn.

Threads that compute at the same time take the interpreter from each other every millisecond. All of them end late, and
each change of threads costs what the processor had in its caches. One after the other, each ends as early as it could,
and the last no later. Whose turn it is goes by what each sender has had (`shares.py`).

A request that takes longer than a slice keeps its hand, and counts no longer: the next one is worked on beside it. So
nobody waits long for a large request of somebody else, nor for ever for one that hangs.

What it refuses: nothing. How many come here, the places bound (`turns.py`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from .shares import Shares

#: Longer than most requests take, and short enough to wait for.
SLICE_SECONDS: Final = 0.025


class Waiting:
    """One request that waits for a hand, or has one.

    Attributes:
        since: seconds on the clock, when it got its hand; None while it waits.
    """

    def __init__(self, sender: str) -> None:
        self.sender = sender
        self.since: float | None = None
        self.called = threading.Lock()  # released when there is something to look at
        self.called.acquire()


class Hands:
    """Shares hands among senders. Thread-safe.

    Args:
        count: requests that are worked on at once.
        clock: seconds, monotonic.
    """

    def __init__(self, count: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._lock = threading.Lock()
        self._working: dict[Waiting, None] = {}  # in the order in which they got their hands
        self._line: dict[str, deque[Waiting]] = {}
        self._shares = Shares(clock)

    @contextmanager
    def at_work(self, sender: str) -> Iterator[None]:
        """Have a hand for what is in the block; waits for one."""
        waiting = self.ask(sender)
        try:
            while waiting.since is None:
                waiting.called.acquire(timeout=self.look())
            yield
        finally:
            self.leave(waiting)

    def ask(self, sender: str) -> Waiting:
        """Stand in line, without waiting: it has a hand now or later."""
        waiting = Waiting(sender)
        with self._lock:
            if sender not in self._line:
                self._line[sender] = deque()
                self._shares.came(sender)
            self._line[sender].append(waiting)
            self._grant()
        return waiting

    def look(self) -> float:
        """See whether somebody's slice is over; seconds until the next one's is."""
        with self._lock:
            self._grant()
            return min(self._left(), default=SLICE_SECONDS)

    def leave(self, waiting: Waiting) -> None:
        """Give the hand back, or stand in line no more."""
        with self._lock:
            if waiting.since is None:
                self._line[waiting.sender].remove(waiting)
                self._stood(waiting.sender)
            else:
                del self._working[waiting]
                self._shares.left(waiting.sender)
            self._grant()

    def _grant(self) -> None:
        while self._line:
            if len(self._left()) >= self._count:
                return
            sender = self._shares.next(self._line)
            waiting = self._line[sender].popleft()
            self._stood(sender)
            waiting.since = self._clock()
            self._working[waiting] = None
            waiting.called.release()

    def _left(self) -> list[float]:
        """What is left of each slice that is not over."""
        now = self._clock()
        ends = [working.since + SLICE_SECONDS - now for working in self._working if working.since is not None]
        return [left for left in ends if left > 0]

    def _stood(self, sender: str) -> None:
        if not self._line[sender]:
            del self._line[sender]
