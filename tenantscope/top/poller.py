"""Asks the sidecar at an interval, from a thread of its own: a slow answer must not make the keys wait."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tenantscope.view.client import Admin, NoAnswerError, StrangerError
from tenantscope.view.status import LoopKey, Status
from tenantscope.view.tenants import History, Row


@dataclass(frozen=True, slots=True)
class Look:
    """What is known after one question.

    Attributes:
        status: the newest status; None when there never was one.
        rows: the tenants of it; rates are over the time between the last two statuses.
        utilization: of loops that the last two statuses knew, 0 to 1.
        answered_at: when the status came, in seconds of the monotonic clock.
        error: why there is no answer now; empty when there is.
        refused: the sidecar answers, and not to us: it has a list of clients, and does not find our token in it.
    """

    status: Status | None = None
    rows: tuple[Row, ...] = ()
    utilization: dict[LoopKey, float] = field(default_factory=dict)
    answered_at: float = 0.0
    error: str = ""
    refused: bool = False


class Poller:
    """One sidecar, asked again and again.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, admin: Admin, clock: Callable[[], float] = time.monotonic) -> None:
        self._admin = admin
        self._clock = clock
        self._history = History()
        self._last = Look()

    def look(self) -> Look:
        """Ask once. Not to be called by two threads."""
        try:
            status = self._admin.status()
        except NoAnswerError as error:
            last = self._last
            refused = isinstance(error, StrangerError)
            self._last = Look(last.status, last.rows, last.utilization, last.answered_at, str(error), refused)
        else:
            now = self._clock()
            self._history.take(status, now)
            rows = tuple(self._history.rows().values())
            self._last = Look(status, rows, self._history.utilization(), now)
        return self._last

    @contextlib.contextmanager
    def following(self, interval: float, tell: Callable[[Look], object]) -> Iterator[None]:
        """Inside, look every `interval` seconds and `tell`, from another thread.

        A question that is on its way at the end is not waited for.
        """
        over = threading.Event()

        def follow() -> None:
            due = self._clock()
            while not over.is_set():
                look = self.look()
                tell(look)
                due = max(due + interval, self._clock())
                over.wait(due - self._clock())

        threading.Thread(target=follow, name="poller", daemon=True).start()
        try:
            yield
        finally:
            over.set()
