"""A batch, and what a destination can say about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sidecar.conventions import Signal


@dataclass(frozen=True, slots=True)
class Batch:
    """One redacted OTLP request.

    Attributes:
        payload: bytes of an Export*ServiceRequest that may leave the machine.
        records: how many spans, data points or log records it holds.
        id: the same each time the batch is delivered, also by the next process; empty before it is in the queue.
    """

    signal: Signal
    payload: bytes
    records: int
    id: str = ""


class RetryLater(Exception):  # noqa: N818  # a verdict, not an error
    """The destination cannot take the batch now.

    Attributes:
        reason: a word of ours.
        after: the destination asks for at least so many seconds; None when it did not say.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Refused(Exception):  # noqa: N818  # a verdict, not an error
    """The destination will never take the batch.

    Attributes:
        reason: a word of ours.
        divisible: it may take parts of the batch: what it will not have is in one of them, or is their number.
    """

    def __init__(self, reason: str, *, divisible: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.divisible = divisible


class Destination(Protocol):
    """Where batches go. Called by one thread, but for `close`."""

    def probe(self) -> None:
        """Find out whether batches could be taken. Raises RetryLater."""

    def deliver(self, batch: Batch) -> int:
        """Hand the batch over; how many of its records were refused. Raises RetryLater, Refused."""

    def close(self) -> None:
        """Let go; a delivery in progress ends soon, with RetryLater. Idempotent, from any thread."""
