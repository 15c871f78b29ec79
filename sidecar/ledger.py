"""The ledger: what became of every record, per signal and destination, exact at every moment.

A record is a span, a metric data point or a log record. It arrives once, is held until its fate is known, and
has one fate at each destination: forwarded, rejected (the sender or the destination was told no) or dropped (given up
here). One lock covers every movement, so that no reader ever sees a record in two places or in none. For every
destination:

    received + recovered = forwarded + rejected + dropped + queued

What was rejected or dropped on the way in never got as far as a destination: it is counted once, and belongs to the
equation of each. `received` is what senders sent to this process; `recovered` is what an earlier process had left in
the queue on disk for the destination.

A sender who is refused and tries again sends new records as far as the ledger goes: each arrival is
accounted. What it refuses: to hold anything but counts. Reasons are words of our own, never text from
outside.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from . import conventions
from .conventions import SIGNALS, Signal

#: The name of a destination where there is no other.
SOLE: Final = "upstream"


@dataclass(slots=True)
class _Intake:
    """The counts of one signal on the way in."""

    received: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    redactions: Counter[tuple[str, str]] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Fates:
    """The counts of one signal at one destination."""

    recovered: int = 0
    forwarded: int = 0
    queued: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


class Account:
    """One destination's part of the ledger. Thread-safe."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.fates: Final[dict[Signal, _Fates]] = {signal: _Fates() for signal in SIGNALS}
        self.retries = 0

    def recovered(self, signal: Signal, records: int) -> None:
        """Records were found in the queue on disk; they are held from now on."""
        with self._lock:
            self.fates[signal].recovered += records
            self.fates[signal].queued += records

    def forwarded(self, signal: Signal, records: int, rejected: int = 0) -> None:
        """Held records left: the destination took `records` of them and refused `rejected` of them."""
        with self._lock:
            fates = self.fates[signal]
            fates.queued -= records + rejected
            fates.forwarded += records
            if rejected:
                fates.rejected["upstream_partial"] += rejected

    def rejected(self, signal: Signal, records: int, reason: str) -> None:
        """Held records were refused by the destination for good."""
        with self._lock:
            self.fates[signal].queued -= records
            self.fates[signal].rejected[reason] += records

    def dropped(self, signal: Signal, records: int, reason: str) -> None:
        """Held records were given up."""
        with self._lock:
            self.fates[signal].queued -= records
            self.fates[signal].dropped[reason] += records

    def kept(self, signal: Signal, records: int) -> None:
        """Rejected records were kept as dead letters."""
        with self._lock:
            self.fates[signal].kept += records

    def retried(self) -> None:
        """The destination put an attempt off."""
        with self._lock:
            self.retries += 1


class Ledger(Collector):
    """Counts records and requests; a collector of `prometheus_client`. Thread-safe.

    Args:
        destinations: their names, one at least.
    """

    def __init__(self, destinations: Sequence[str] = (SOLE,)) -> None:
        self._lock = threading.Lock()
        self._intake: Final[dict[Signal, _Intake]] = {signal: _Intake() for signal in SIGNALS}
        self._accounts: Final = {name: Account(self._lock) for name in destinations}
        self._lost: Counter[str] = Counter({"torn": 0, "corrupt": 0})

    def account(self, destination: str = SOLE) -> Account:
        """The account of a destination."""
        return self._accounts[destination]

    # Movements ----------------------------------------------------------------------------------------------
    def arrived(
        self,
        signal: Signal,
        records: int,
        dropped: Mapping[str, int] | None = None,
        redactions: Mapping[tuple[str, str], int] | None = None,
    ) -> None:
        """`records` came in, redaction dropped some of them (by reason), the rest is held from now on."""
        dropped = dropped or {}
        with self._lock:
            intake = self._intake[signal]
            intake.received += records
            intake.dropped.update(dropped)
            intake.redactions.update(redactions or {})
            for account in self._accounts.values():
                account.fates[signal].queued += records - sum(dropped.values())

    def rejected(self, signal: Signal, records: int, reason: str) -> None:
        """Records that had arrived were refused to their sender."""
        with self._lock:
            self._intake[signal].rejected[reason] += records
            for account in self._accounts.values():
                account.fates[signal].queued -= records

    def lost(self, how: str, size: int) -> None:
        """So many bytes of the queue on disk were not what was written; nobody knows what was in them."""
        with self._lock:
            self._lost[how] += size

    def answered(self, signal: Signal, status: str, refused: str = "") -> None:
        """A request was answered with this gRPC status, in lower case; and why, when it was refused whole."""
        with self._lock:
            self._intake[signal].requests[status] += 1
            if refused:
                self._intake[signal].refused[refused] += 1

    # Readings -----------------------------------------------------------------------------------------------
    def records(self, destination: str | None = None) -> dict[str, dict[str, int]]:
        """The equation of a destination, by default of the first one, per signal; all read at one moment."""
        with self._lock:
            account = self._account(destination)
            return {
                signal: {
                    "received": intake.received,
                    "recovered": account.fates[signal].recovered,
                    "forwarded": account.fates[signal].forwarded,
                    "rejected": intake.rejected.total() + account.fates[signal].rejected.total(),
                    "dropped": intake.dropped.total() + account.fates[signal].dropped.total(),
                    "queued": account.fates[signal].queued,
                }
                for signal, intake in self._intake.items()
            }

    def reasons(self, destination: str | None = None) -> dict[str, dict[str, dict[str, int]]]:
        """Per signal: rejected and dropped records by reason, on the way in and at a destination (the first one)."""
        with self._lock:
            account = self._account(destination)
            return {
                signal: {
                    "rejected": dict(intake.rejected + account.fates[signal].rejected),
                    "dropped": dict(intake.dropped + account.fates[signal].dropped),
                }
                for signal, intake in self._intake.items()
            }

    def redactions(self) -> dict[str, dict[str, dict[str, int]]]:
        """Per signal and action (`drop`, `mask`): values by reason."""
        with self._lock:
            table: dict[str, dict[str, dict[str, int]]] = {signal: {} for signal in self._intake}
            for signal, intake in self._intake.items():
                for (action, reason), values in sorted(intake.redactions.items()):
                    table[signal].setdefault(action, {})[reason] = values
            return table

    def collect(self) -> Iterator[Family]:
        """For `/metrics`: every family read at one moment, so that the equation holds within one scrape."""
        received, recovered, forwarded, rejected, kept, dropped, requests, refused, redactions, retries, lost = (
            metric.family()
            for metric in (
                conventions.RECEIVED,
                conventions.RECOVERED,
                conventions.FORWARDED,
                conventions.REJECTED,
                conventions.DEAD_LETTERS,
                conventions.DROPPED,
                conventions.REQUESTS,
                conventions.REQUESTS_REFUSED,
                conventions.REDACTIONS,
                conventions.FORWARD_RETRIES,
                conventions.QUEUE_LOST,
            )
        )
        queued = conventions.QUEUED.family()
        with self._lock:
            for signal, intake in self._intake.items():
                received.add_metric((signal,), intake.received)
                for reason, count in intake.rejected.items():
                    rejected.add_metric((signal, reason, ""), count)
                for reason, count in intake.dropped.items():
                    dropped.add_metric((signal, reason, ""), count)
                for status, count in intake.requests.items():
                    requests.add_metric((signal, status), count)
                for reason, count in intake.refused.items():
                    refused.add_metric((signal, reason), count)
                for (action, reason), count in intake.redactions.items():
                    redactions.add_metric((signal, action, reason), count)
            for name, account in self._accounts.items():
                retries.add_metric((name,), account.retries)
                for signal, fates in account.fates.items():
                    recovered.add_metric((signal, name), fates.recovered)
                    forwarded.add_metric((signal, name), fates.forwarded)
                    kept.add_metric((signal, name), fates.kept)
                    queued.add_metric((signal, name), fates.queued)
                    for reason, count in fates.rejected.items():
                        rejected.add_metric((signal, reason, name), count)
                    for reason, count in fates.dropped.items():
                        dropped.add_metric((signal, reason, name), count)
            for how, size in self._lost.items():
                lost.add_metric((how,), size)
        yield from (
            received, recovered, forwarded, rejected, kept, dropped, queued, requests, refused, redactions, retries,
            lost,
        )  # fmt: skip

    def _account(self, destination: str | None) -> Account:
        return next(iter(self._accounts.values())) if destination is None else self._accounts[destination]
