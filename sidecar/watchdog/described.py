"""A loop under watch as `/status` shows it."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from sidecar.alerts import printable
from sidecar.wire import cell as layout

from .cell import CellReader
from .mode import CANNOT, CANNOT_READ, Mode
from .watched import Watched

MAX_PAIRS: Final = 32
OTHER: Final = "other"


def described(watched: Watched, now: int) -> dict[str, Any]:
    """What one loop's cell says.

    Raises:
        RefusedError: it has become unreadable.
    """
    cell = watched.cell
    header = cell.header()
    running = header[layout.RUNNING]
    return {
        "service": watched.service,
        "instance": watched.instance,
        "host": watched.host,
        "pid": cell.pid,
        "loop_id": cell.loop_id,
        "mode": cell.mode.value,
        "cannot": _cannot(watched),
        "tenants": [
            {
                "tenant": printable(totals.tenant),
                "loop_seconds": totals.loop_ns / 1e9,
                "slices": totals.slices,
                "longest_seconds": totals.longest_ns / 1e9,
                "delay_suffered_seconds": totals.suffered_ns / 1e9,
                "delay_caused_seconds": totals.caused_ns / 1e9,
                "waits": totals.waits,
                "queue_seconds": totals.queued_ns / 1e9,
                "queued": totals.queued,
            }
            for totals in cell.totals()
        ],
        "pairs": _pairs(cell) if isinstance(cell, CellReader) else [],
        "running": {
            "tenant": printable(cell.whose(running)),
            "seconds": max(0, cell.as_of(now) - (running & layout.START_BITS)) / 1e9,
        }
        if running
        else None,
        "heartbeat_age_seconds": max(0, now - header[layout.HEARTBEAT]) / 1e9,
    }


def _pairs(cell: CellReader) -> list[dict[str, Any]]:
    """Who made whom wait, the longest first; the last one stands for all others."""
    pairs, rest = cell.pairs()
    # By name: what the policy masks may be several tenants under one.
    waited: Counter[tuple[str, str]] = Counter()
    for culprit, victim, wait in pairs:
        waited[printable(cell.name(culprit)), printable(cell.name(victim))] += wait
    shown = waited.most_common(MAX_PAIRS)
    rest += sum(waited.values()) - sum(wait for _, wait in shown)
    return [
        {"culprit": culprit, "victim": victim, "seconds": wait / 1e9}
        for (culprit, victim), wait in [*shown, *([((OTHER, OTHER), rest)] if rest else [])]
    ]


def _cannot(watched: Watched) -> list[str]:
    cannot = list(CANNOT[watched.cell.mode])
    if watched.cell.mode is Mode.CELL and watched.unreadable:
        cannot.append(CANNOT_READ + watched.unreadable)
    return cannot
