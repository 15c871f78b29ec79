"""What is counted of policies: records by version, reloads by outcome, and what one that is tried would have done."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final

from prometheus_client.metrics_core import Metric as Family

from sidecar import conventions
from sidecar.conventions import Signal
from sidecar.redaction import Redacted

#: Versions that are counted one by one in the life of a process; later ones are `other`.
MAX_COUNTED: Final = 32
OTHER: Final = "other"

APPLIED, UNCHANGED, REFUSED = "applied", "unchanged", "refused"


class Counts:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digests: set[str] = set()
        self._records: Counter[tuple[str, str]] = Counter()
        self._reloads: Counter[str] = Counter({APPLIED: 0, UNCHANGED: 0, REFUSED: 0})
        self._tried: Counter[tuple[str, str]] = Counter()
        self._tried_actions: Counter[tuple[str, str, str]] = Counter()

    def redacted(self, signal: Signal, digest: str, records: int) -> None:
        """So many records were redacted by the policy of this digest."""
        with self._lock:
            if digest not in self._digests and len(self._digests) >= MAX_COUNTED:
                digest = OTHER
            else:
                self._digests.add(digest)
            self._records[signal, digest] += records

    def reloaded(self, outcome: str) -> None:
        """A reload ended so."""
        with self._lock:
            self._reloads[outcome] += 1

    def tried(self, signal: Signal, redacted: Redacted | None) -> None:
        """What the policy that is tried would have done with a request; None: it could not read it."""
        with self._lock:
            if redacted is None:
                self._tried[signal, "malformed"] += 1
                return
            self._tried[signal, "kept"] += redacted.records_out
            self._tried[signal, "dropped"] += redacted.records_in - redacted.records_out
            for (action, reason), count in redacted.actions.items():
                self._tried_actions[signal, action, reason] += count

    def of_trial(self) -> dict[str, dict[str, int]]:
        """For `/status`: records by signal and outcome, redactions by signal, action and reason."""
        with self._lock:
            return {
                "records": {" ".join(key): count for key, count in sorted(self._tried.items())},
                "redactions": {" ".join(key): count for key, count in sorted(self._tried_actions.items())},
            }

    def families(self) -> list[Family]:
        """For `/metrics`."""
        families: list[Family] = []
        with self._lock:
            for metric, counts in (
                (conventions.POLICY_RECORDS, dict(self._records)),
                (conventions.POLICY_RELOADS, {(outcome,): count for outcome, count in self._reloads.items()}),
                (conventions.TRIAL_RECORDS, dict(self._tried)),
                (conventions.TRIAL_REDACTIONS, dict(self._tried_actions)),
            ):
                counted = metric.family()
                for labels, count in counts.items():
                    counted.add_metric(labels, count)
                families.append(counted)
        return families
