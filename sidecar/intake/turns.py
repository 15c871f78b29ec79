"""Whose turn it is: a few requests are worked on at once, and those who wait get the next place by what they have had.

A place is held from before a request's body is read until it is answered. Among those who wait, the one who has had the
least gets the next place (`shares.py`); what it pays is the seconds for which places are held, while they pass.

What it refuses: to give one sender the last places, to let one have more requests waiting than there is room left for
the others, to let anybody wait longer than a sender has patience for, and to let a body that trickles in hold a place
that somebody waits for. What is remembered of senders is bounded.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Self

from .shares import Shares

PLACES: Final = 8
#: That wait, all senders together. Nothing of their bodies has been read.
ROOM: Final = 64
PATIENCE_SECONDS: Final = 4.0
#: A body that somebody waits behind must be there by then.
DAWDLING_SECONDS: Final = 1.0
#: A request whose body is there takes longer only if something hangs: the disk, a worker.
PULSE_SECONDS: Final = 30.0


class Crowded(Exception):  # noqa: N818  # a verdict, not an error
    """There is no room for another request of this sender."""


class Turn(AbstractContextManager["Turn"]):
    """One request's turn; a context manager that gives the place back.

    Attributes:
        granted: set when it has a place.
    """

    def __init__(self, turns: Turns, sender: str, cut: Callable[[], object]) -> None:
        self._turns = turns
        self.sender = sender
        self.cut = cut
        self.granted = threading.Event()
        self.since = 0.0  # seconds on the clock, when it got its place
        self.reading = True

    def read(self) -> None:
        """The body is there: what is still to be done is up to us, and never cut off."""
        self.reading = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._turns.leave(self)


class Turns:
    """Shares places among senders. Thread-safe.

    Args:
        places: requests that are worked on at once.
        room: requests that may wait.
        clock: seconds, monotonic.
    """

    def __init__(self, places: int = PLACES, room: int = ROOM, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        #: One sender may have so many places, and never the last ones.
        self._most = max(1, places - max(1, places // 4))
        self._room = room
        self._clock = clock
        self._lock = threading.Lock()
        self._working: dict[Turn, None] = {}  # in the order in which they got their places
        self._waiting: dict[str, deque[Turn]] = {}
        self._waiters = 0
        self._shares = Shares(clock)

    def take(self, sender: str, cut: Callable[[], object] = lambda: None) -> Turn:
        """Wait for a place.

        Args:
            cut: ends the request from outside; asked for while its body has not been read and others wait.

        Raises:
            Crowded: too many of this sender wait, or no place came free in time.
        """
        turn = self.ask(sender, cut)
        deadline = self._clock() + PATIENCE_SECONDS
        while not turn.granted.wait(DAWDLING_SECONDS / 4):
            self._hurry()
            if self._clock() >= deadline:
                self.leave(turn)
                raise Crowded
        return turn

    def ask(self, sender: str, cut: Callable[[], object] = lambda: None) -> Turn:
        """Stand in line, without waiting: `granted` is set now or later. Raises `Crowded`."""
        turn = Turn(self, sender, cut)
        with self._lock:
            line = self._waiting.get(sender)
            # As many as there is room for after them: the first may fill half, the next half of what is left.
            if (0 if line is None else len(line)) >= self._room - self._waiters:
                raise Crowded
            if line is None:
                self._waiting[sender] = line = deque()
                self._shares.came(sender)
            line.append(turn)
            self._waiters += 1
            self._grant()
        return turn

    def leave(self, turn: Turn) -> None:
        """Give the place back, or stand in line no more; idempotent."""
        with self._lock:
            if turn in self._working:
                del self._working[turn]
                self._shares.left(turn.sender)
            elif turn in (line := self._waiting.get(turn.sender, ())):
                line.remove(turn)  # type: ignore[union-attr]
                self._stood(turn.sender)
            self._grant()

    @property
    def longest(self) -> float:
        """Seconds since the oldest request was read that is still worked on; 0 when there is none."""
        with self._lock:
            return max((self._clock() - turn.since for turn in self._working if not turn.reading), default=0.0)

    def _grant(self) -> None:
        while len(self._working) < self._places:
            able = [sender for sender in self._waiting if self._shares.served(sender) < self._most]
            if not able:
                return
            sender = self._shares.next(able)
            turn = self._waiting[sender].popleft()
            self._stood(sender)
            turn.since = self._clock()
            self._working[turn] = None
            turn.granted.set()

    def _stood(self, sender: str) -> None:
        self._waiters -= 1
        if not self._waiting[sender]:
            del self._waiting[sender]

    def _hurry(self) -> None:
        """Cut off who has held a place the longest without having sent its request."""
        with self._lock:
            late = self._clock() - DAWDLING_SECONDS
            dawdler = next((turn for turn in self._working if turn.reading and turn.since <= late), None)
            if dawdler is not None:
                dawdler.reading = False  # once is enough
        if dawdler is not None:
            dawdler.cut()
