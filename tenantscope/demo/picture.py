"""What the demo knows at a moment: the sidecar's `/status`, added up by tenant, and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

_SHARE_OVER: Final = 5.0  # seconds that the live table's loop share looks back

Json = dict[str, Any]


@dataclass(slots=True)
class Row:
    """One tenant. Times are seconds; `loop_share` is the part of the time in which the tenant had the
    loop, 0 to 1."""

    tenant: str
    loop_share: float = 0.0
    loop_seconds: float = 0.0
    longest_seconds: float = 0.0
    delay_suffered_seconds: float = 0.0
    delay_caused_seconds: float = 0.0
    messages: int = 0
    tokens: int = 0
    errors: int = 0
    spans: int = 0
    findings: int = 0


class Picture:
    """Takes one status after the other.

    Args:
        tenants: who has a row from the start, in this order; others follow as they appear.
    """

    def __init__(self, tenants: Iterable[str] = ()) -> None:
        self._order = list(tenants)
        self._status: Json = {}
        self._loops: dict[tuple[object, object], Json] = {}
        self._history: deque[tuple[float, dict[str, float]]] = deque()
        self._began: float | None = None

    def take(self, status: Json, now: float) -> None:
        """The newest status, read at `now` (seconds of a monotonic clock)."""
        self._status = status
        for loop in status.get("loops", ()):  # a loop that was closed keeps its last figures
            self._loops[loop["pid"], loop["loop_id"]] = loop
        if self._loops and self._began is None:
            self._began = now
        self._history.append((now, self._loop_seconds()))
        while len(self._history) > 2 and now - self._history[1][0] >= _SHARE_OVER:
            self._history.popleft()

    @property
    def ready(self) -> bool:
        """Whether the sidecar watches a loop."""
        return bool(self._loops)

    @property
    def records(self) -> dict[str, dict[str, int]]:
        """Counts of records, by signal."""
        records: dict[str, dict[str, int]] = self._status.get("records", {})
        return records

    @property
    def stalls(self) -> list[Json]:
        """All stalls, newest last."""
        stalls: list[Json] = self._status.get("stalls", [])
        return stalls

    @property
    def alerts(self) -> list[Json]:
        """All alerts, newest last."""
        alerts: list[Json] = self._status.get("alerts", [])
        return alerts

    @property
    def active_stalls(self) -> list[Json]:
        """Stalls that last at this moment."""
        return [stall for stall in self.stalls if stall["active"]]

    @property
    def longest_stall(self) -> Json | None:
        """The stall that held a loop for the longest time."""
        return max(self.stalls, key=lambda stall: float(stall["seconds"]), default=None)

    def rows(self, *, recent: bool) -> list[Row]:
        """A row a tenant; the loop share is that of the last seconds, or that of the whole run."""
        rows = {tenant: Row(tenant) for tenant in self._order}
        for loop in self._loops.values():
            for entry in loop["tenants"]:
                row = rows.setdefault(entry["tenant"], Row(entry["tenant"]))
                row.loop_seconds += entry["loop_seconds"]
                row.longest_seconds = max(row.longest_seconds, entry["longest_seconds"])
                row.delay_suffered_seconds += entry["delay_suffered_seconds"]
                row.delay_caused_seconds += entry["delay_caused_seconds"]
        for entry in self._status.get("tenants", ()):
            row = rows.setdefault(entry["tenant"], Row(entry["tenant"]))
            for name in ("messages", "tokens", "errors", "spans", "findings"):
                setattr(row, name, int(entry[name]))
        for row in rows.values():
            row.loop_share = self._share(row.tenant, recent)
        return [row for row in rows.values() if row.tenant in self._order or row.loop_seconds or row.spans]

    def as_json(self) -> Json:
        """The part of the demo's JSON file that comes from the sidecar."""
        rows = self.rows(recent=False)
        return {
            "tenants": [asdict(row) for row in rows],
            "spans_received": self.records.get("traces", {}).get("received", 0),
            "spans_forwarded": self.records.get("traces", {}).get("forwarded", 0),
            "records": self.records,
            "stalls": self.stalls,
            "alerts": self.alerts,
            "findings": [{"tenant": row.tenant, "count": row.findings} for row in rows if row.findings],
        }

    def _loop_seconds(self) -> dict[str, float]:
        seconds: dict[str, float] = {}
        for loop in self._loops.values():
            for entry in loop["tenants"]:
                seconds[entry["tenant"]] = seconds.get(entry["tenant"], 0.0) + entry["loop_seconds"]
        return seconds

    def _share(self, tenant: str, recent: bool) -> float:
        if not self._history or self._began is None:
            return 0.0
        now, seconds = self._history[-1]
        since, before = self._history[0] if recent else (self._began, {})
        if now <= since:
            return 0.0
        return min(1.0, (seconds.get(tenant, 0.0) - before.get(tenant, 0.0)) / (now - since))
