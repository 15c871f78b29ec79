"""What the console remembers of a sidecar: the newest look, and how tenants fared over the last minutes.

Bounded in time and in tenants: of each moment only the tenants with the largest figures are kept
apart, the rest is one.
What it refuses: to keep what a sidecar forgot; stalls, alerts and traces are asked for, not stored.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from tenantscope.top.poller import Look
from tenantscope.view.status import Status
from tenantscope.view.tenants import Row

MOMENTS: Final = 900  # one a second: a quarter of an hour
APART: Final = 12
REST: Final = "(others)"

Json = dict[str, Any]


class Memory:
    """Written by one thread, read by any.

    Args:
        wall: the time of day, in seconds since 1970, for people.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._lock = threading.Lock()
        self._look = Look()
        self._moments: deque[Json] = deque(maxlen=MOMENTS)

    def take(self, look: Look) -> None:
        """The newest look; one without an answer leaves a gap in the curves."""
        moment = {"at": round(self._wall(), 1), "tenants": {} if look.error else _figures(look.rows)}
        with self._lock:
            self._look = look
            self._moments.append(moment)

    def document(self) -> Json:
        """All of it, as JSON knows it."""
        with self._lock:
            look, moments = self._look, list(self._moments)
        status = look.status
        return {
            "error": look.error,
            "tenants": [asdict(row) for row in look.rows],
            "moments": moments,
            **({} if status is None else _of_status(status, look)),
        }


def _of_status(status: Status, look: Look) -> Json:
    waited: dict[tuple[str, str], float] = {}
    for loop in status.loops:
        for pair in loop.pairs:
            waited[pair.culprit, pair.victim] = waited.get((pair.culprit, pair.victim), 0.0) + pair.seconds
    return {
        "version": status.version,
        "destination": status.destination,
        "records": status.records,
        "loops": [
            {
                "service": loop.service,
                "instance": loop.instance,
                "pid": loop.pid,
                "utilization": look.utilization.get(loop.key),
                "running": None if loop.running is None else asdict(loop.running),
            }
            for loop in status.loops
        ],
        "stalls": [asdict(stall) for stall in reversed(status.stalls)],
        "alerts": [asdict(alert) for alert in reversed(status.alerts)],
        "findings": [asdict(finding) for finding in status.findings],
        "pairs": [
            {"culprit": culprit, "victim": victim, "seconds": seconds}
            for (culprit, victim), seconds in sorted(waited.items(), key=lambda each: -each[1])
        ],
    }


def _figures(rows: tuple[Row, ...]) -> dict[str, list[float]]:
    """By tenant: share of the loops, seconds per second that it waited, and that others waited for it."""
    figures = {row.tenant: [row.loop_share, row.suffered_rate, row.caused_rate] for row in rows}
    largest = sorted(figures, key=lambda tenant: -sum(figures[tenant]))
    apart = {tenant: [round(value, 4) for value in figures[tenant]] for tenant in largest[:APART]}
    rest = [figures[tenant] for tenant in largest[APART:]]
    if rest:
        apart[REST] = [round(sum(values), 4) for values in zip(*rest, strict=True)]
    return apart
