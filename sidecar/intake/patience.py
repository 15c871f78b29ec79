"""Patience: ends what takes longer than it may. One thread for all of it, which nobody has to wake.

All may take the same time, so whoever began first is due first, and whoever begins while the thread sleeps is not due
before it wakes: it sleeps until the first is due, and as long as one may take when there is none.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Patience:
    """Thread-safe; the thread runs from `start` to `stop`.

    Args:
        seconds: that something may take.
        clock: seconds, monotonic.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[object, tuple[float, Callable[[], object]]] = {}  # in the order in which they are due
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="patience", daemon=True)

    def start(self) -> None:
        """To be called once."""
        self._thread.start()

    def stop(self) -> None:
        """End nothing any more. Idempotent."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    @contextmanager
    def limits(self, end: Callable[[], object]) -> Iterator[None]:
        """Have `end` called, from another thread and once, if what is in the block takes too long."""
        key = object()
        with self._lock:
            self._running[key] = self._clock() + self._seconds, end
        try:
            yield
        finally:
            with self._lock:
                self._running.pop(key, None)

    def look(self) -> float:
        """End what is overdue; the seconds until there can be more."""
        overdue = []
        with self._lock:
            now = self._clock()
            for key, (due, end) in list(self._running.items()):
                if due > now:
                    break
                overdue.append(end)
                del self._running[key]
            wait = next((due - now for due, _ in self._running.values()), self._seconds)
        for end in overdue:
            with contextlib.suppress(Exception):  # one that cannot be ended must not keep the others alive
                end()
        return wait

    def _run(self) -> None:
        wait = self._seconds
        while not self._stopping.wait(wait):
            wait = self.look()
