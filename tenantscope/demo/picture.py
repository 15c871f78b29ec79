"""What the demo knows at a moment: the sidecar's status, added up by tenant, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any, Final

from tenantscope.view.status import Alert, Finding, Loop, Stall, Status
from tenantscope.view.tenants import History, Row

_SHARE_OVER: Final = 5.0  # seconds that the live table's loop share looks back

Json = dict[str, Any]


class Picture:
    """Takes one status after the other.

    Args:
        tenants: who has a row from the start, in this order; others follow as they appear.
    """

    def __init__(self, tenants: Iterable[str] = ()) -> None:
        self._order = list(tenants)
        self._status = Status()
        self._loops: dict[object, Loop] = {}
        self._history = History(_SHARE_OVER)
        self._began: float | None = None
        self._now = 0.0

    def take(self, status: Status, now: float) -> None:
        """The newest status, read at `now` (seconds of a monotonic clock)."""
        # A loop that was closed keeps its last figures, but nobody runs on it any more.
        self._loops = {key: replace(loop, running=None) for key, loop in self._loops.items()}
        self._loops |= {loop.key: loop for loop in status.loops}
        if self._loops and self._began is None:
            self._began = now
        self._status, self._now = replace(status, loops=tuple(self._loops.values())), now
        self._history.take(self._status, now)

    @property
    def ready(self) -> bool:
        """Whether the sidecar watches a loop."""
        return bool(self._loops)

    @property
    def records(self) -> dict[str, dict[str, int]]:
        """Counts of records, by signal."""
        return self._status.records

    @property
    def stalls(self) -> tuple[Stall, ...]:
        """All stalls, newest last."""
        return self._status.stalls

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """All alerts, newest last."""
        return self._status.alerts

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Rules of isolation that were seen broken."""
        return self._status.findings

    @property
    def active_stalls(self) -> list[Stall]:
        """Stalls that last at this moment."""
        return [stall for stall in self.stalls if stall.active]

    @property
    def longest_stall(self) -> Stall | None:
        """The stall that held a loop for the longest time."""
        return max(self.stalls, key=lambda stall: stall.seconds, default=None)

    def rows(self, *, recent: bool) -> list[Row]:
        """A row a tenant; the loop share is that of the last seconds, or that of the whole run."""
        found = self._history.rows()
        rows = {tenant: found.get(tenant, Row(tenant)) for tenant in self._order} | found
        lasted = 0.0 if self._began is None else self._now - self._began
        for row in rows.values():
            if not recent and lasted > 0:
                row.loop_share = min(1.0, row.loop_seconds / lasted)
                row.suffered_rate = row.delay_suffered_seconds / lasted
                row.caused_rate = row.delay_caused_seconds / lasted
        return [row for row in rows.values() if row.tenant in self._order or row.loop_seconds or row.spans]

    def as_json(self) -> Json:
        """The part of the demo's JSON file that comes from the sidecar."""
        rows = self.rows(recent=False)
        return {
            "tenants": [asdict(row) for row in rows],
            "spans_received": self.records.get("traces", {}).get("received", 0),
            "spans_forwarded": self.records.get("traces", {}).get("forwarded", 0),
            "records": self.records,
            "stalls": [asdict(stall) for stall in self.stalls],
            "alerts": [asdict(alert) for alert in self.alerts],
            "findings": [asdict(finding) for finding in self.findings],
        }
