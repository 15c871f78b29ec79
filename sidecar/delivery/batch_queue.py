"""The queue between the senders' answers and the destination: in memory, bounded in bytes and in records.

A batch is in the queue before its sender is told "taken", and stays in it until its fate is known, so the
bounds hold for everything that has been promised. What it refuses: a batch beyond a bound (unless the queue
is empty, for what never fits would be retried for ever), and everything after `close`.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from .batch import Batch

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_RECORDS: Final = 200_000


class BatchQueue:
    """First in, first out; many threads offer, one takes."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_records: int = MAX_RECORDS) -> None:
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._changed = threading.Condition()
        self._batches: deque[Batch] = deque()
        self._bytes = 0
        self._records = 0
        self._closed = False

    def offer(self, batch: Batch) -> bool:
        """Take the batch; False when it does not fit, or when the queue is closed. Never waits."""
        with self._changed:
            size = self._bytes + len(batch.payload)
            records = self._records + batch.records
            fits = size <= self._max_bytes and records <= self._max_records
            if self._closed or not (fits or not self._batches):
                return False
            self._batches.append(batch)
            self._bytes, self._records = size, records
            self._changed.notify_all()
            return True

    def head(self, timeout: float | None = None) -> Batch | None:
        """The oldest batch, which stays in the queue; None after `timeout` seconds, or closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._closed, timeout)
            return self._batches[0] if self._batches else None

    def done(self) -> None:
        """The oldest batch has met its fate."""
        with self._changed:
            batch = self._batches.popleft()
            self._bytes -= len(batch.payload)
            self._records -= batch.records
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse new batches; those inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        with self._changed:
            return self._closed

    @property
    def records(self) -> int:
        """Records inside."""
        with self._changed:
            return self._records

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait until every batch has met its fate, at most `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._batches, timeout)
