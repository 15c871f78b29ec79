"""The ledger: what became of every record, per signal, exact at every moment.

A record is a span, a metric data point or a log record. It arrives once, is held until its fate is known, and
has one fate: forwarded, rejected (the sender or the upstream was told no) or dropped (given up here). One
lock covers every movement, so that no reader ever sees a record in two places or in none:

    received = forwarded + rejected + dropped + queued

The counts are those of this process. What an earlier one left in the queue on disk is received anew, and counted as
recovered besides: over processes, received - recovered is what senders sent.

A sender who is refused and tries again sends new records as far as the ledger goes: each arrival is
accounted. What it refuses: to hold anything but counts. Reasons are words of our own, never text from
outside.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from . import conventions
from .conventions import SIGNALS, Signal


@dataclass(slots=True)
class _Account:
    """The counts of one signal."""

    received: int = 0
    forwarded: int = 0
    queued: int = 0
    recovered: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    redactions: Counter[tuple[str, str]] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    kept: int = 0


class Ledger(Collector):
    """Counts records and requests; a collector of `prometheus_client`. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: Final[dict[Signal, _Account]] = {signal: _Account() for signal in SIGNALS}
        self._retries = 0
        self._lost: Counter[str] = Counter({"torn": 0, "corrupt": 0})

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
            account = self._accounts[signal]
            account.received += records
            account.queued += records - sum(dropped.values())
            account.dropped.update(dropped)
            account.redactions.update(redactions or {})

    def recovered(self, signal: Signal, records: int) -> None:
        """Records were found in the queue on disk; they are received anew, and held from now on."""
        with self._lock:
            account = self._accounts[signal]
            account.received += records
            account.recovered += records
            account.queued += records

    def lost(self, how: str, size: int) -> None:
        """So many bytes of the queue on disk were not what was written; nobody knows what was in them."""
        with self._lock:
            self._lost[how] += size

    def forwarded(self, signal: Signal, records: int, rejected: int = 0) -> None:
        """Held records left: the destination took `records` of them and refused `rejected` of them."""
        with self._lock:
            account = self._accounts[signal]
            account.queued -= records + rejected
            account.forwarded += records
            if rejected:
                account.rejected["upstream_partial"] += rejected

    def rejected(self, signal: Signal, records: int, reason: str) -> None:
        """Held records were refused for good."""
        with self._lock:
            account = self._accounts[signal]
            account.queued -= records
            account.rejected[reason] += records

    def kept(self, signal: Signal, records: int) -> None:
        """Rejected records were kept as dead letters."""
        with self._lock:
            self._accounts[signal].kept += records

    def dropped(self, signal: Signal, records: int, reason: str) -> None:
        """Held records were given up."""
        with self._lock:
            account = self._accounts[signal]
            account.queued -= records
            account.dropped[reason] += records

    def answered(self, signal: Signal, status: str, refused: str = "") -> None:
        """A request was answered with this gRPC status, in lower case; and why, when it was refused whole."""
        with self._lock:
            self._accounts[signal].requests[status] += 1
            if refused:
                self._accounts[signal].refused[refused] += 1

    def retried(self) -> None:
        """The destination put an attempt off."""
        with self._lock:
            self._retries += 1

    # Readings -----------------------------------------------------------------------------------------------
    def records(self) -> dict[str, dict[str, int]]:
        """Per signal: received, forwarded, rejected, dropped, queued; all read at one moment."""
        with self._lock:
            return {
                signal: {
                    "received": account.received,
                    "forwarded": account.forwarded,
                    "rejected": account.rejected.total(),
                    "dropped": account.dropped.total(),
                    "queued": account.queued,
                }
                for signal, account in self._accounts.items()
            }

    def reasons(self) -> dict[str, dict[str, dict[str, int]]]:
        """Per signal: rejected and dropped records by reason."""
        with self._lock:
            return {
                signal: {"rejected": dict(account.rejected), "dropped": dict(account.dropped)}
                for signal, account in self._accounts.items()
            }

    def redactions(self) -> dict[str, dict[str, dict[str, int]]]:
        """Per signal and action (`drop`, `mask`): values by reason."""
        with self._lock:
            table: dict[str, dict[str, dict[str, int]]] = {signal: {} for signal in self._accounts}
            for signal, account in self._accounts.items():
                for (action, reason), values in sorted(account.redactions.items()):
                    table[signal].setdefault(action, {})[reason] = values
            return table

    def collect(self) -> Iterator[Family]:
        """For `/metrics`: every family read at one moment, so that the equation holds within one scrape."""
        received, recovered, forwarded, rejected, kept, dropped, requests, refused, redactions, retries, lost = (
            CounterMetricFamily(metric.name, metric.description, labels=metric.labels)
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
        queued = GaugeMetricFamily(
            conventions.QUEUED.name, conventions.QUEUED.description, labels=conventions.QUEUED.labels
        )
        with self._lock:
            for signal, account in self._accounts.items():
                received.add_metric((signal,), account.received)
                recovered.add_metric((signal,), account.recovered)
                forwarded.add_metric((signal,), account.forwarded)
                kept.add_metric((signal,), account.kept)
                queued.add_metric((signal,), account.queued)
                for reason, count in account.rejected.items():
                    rejected.add_metric((signal, reason), count)
                for reason, count in account.dropped.items():
                    dropped.add_metric((signal, reason), count)
                for status, count in account.requests.items():
                    requests.add_metric((signal, status), count)
                for reason, count in account.refused.items():
                    refused.add_metric((signal, reason), count)
                for (action, reason), count in account.redactions.items():
                    redactions.add_metric((signal, action, reason), count)
            retries.add_metric((), self._retries)
            for how, size in self._lost.items():
                lost.add_metric((how,), size)
        yield from (
            received, recovered, forwarded, rejected, kept, dropped, queued, requests, refused, redactions, retries,
            lost,
        )  # fmt: skip
