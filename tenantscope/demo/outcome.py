"""What a run has shown, and whether it may be called good."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenantscope.view.status import WAYS_TO_END

from .handover import Report
from .picture import Picture


@dataclass(slots=True)
class Outcome:
    """The end of a run.

    Attributes:
        picture: the sidecar's last word.
        planted: distinct canaries that were planted.
        leaked: each canary that got out, with the place it was found in.
        searched: bytes that were searched, by place.
        report: what the application says that it did, to compare with.
        failures: why the run is not good; empty when it is.
        kept: the folder of the run, if it was kept.
    """

    picture: Picture
    planted: int
    leaked: Mapping[str, str]
    searched: Mapping[str, int]
    report: Report
    failures: list[str] = field(default_factory=list)
    kept: Path | None = None

    @property
    def round_trips(self) -> tuple[float, float] | None:
        """Median and maximum of the victim's round trips in seconds; None if it made none."""
        trips = self.report.round_trips
        return (statistics.median(trips), max(trips)) if trips else None

    def judge(self, unread: Iterable[str] = ()) -> None:
        """Add what speaks against the run; `unread` are places that could not be searched."""
        if self.leaked:
            self.failures.append(f"canaries leaked: {len(self.leaked)}")
        self.failures += [f"{place} could not be searched, so nothing is known about leaks there" for place in unread]
        dropped = {reason: count for reason, count in self.report.faults.items() if reason.startswith("export.")}
        if dropped:
            self.failures.append(f"the application dropped telemetry: {dropped}")
        if not self.picture.records.get("traces", {}).get("received"):
            self.failures.append("the sidecar received no spans")
        for signal, counts in self.picture.records.items():
            known = sum(counts.get(word, 0) for word in WAYS_TO_END)
            if counts.get("received") != known:
                self.failures.append(
                    f"{signal}: {counts.get('received')} records received, but only {known} accounted for"
                )
            if counts.get("queued"):
                self.failures.append(f"{signal}: {counts['queued']} records are still queued")

    def as_json(self) -> dict[str, Any]:
        """What `--json` writes."""
        return self.picture.as_json() | {
            "canaries_planted": self.planted,
            "canaries_leaked": len(self.leaked),
            "leaks": dict(self.leaked),
            "bytes_searched": dict(self.searched),
            "application": {
                "sent": self.report.sent,
                "team_runs": self.report.team_runs,
                "errors": self.report.errors,
                "blocking_calls": len(self.report.blocked),
            },
            "failures": self.failures,
        }
