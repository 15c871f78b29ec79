"""A loop under watch as `/status` shows it."""

from __future__ import annotations

from typing import Any

from sidecar.alerts import printable
from sidecar.wire import cell as layout

from .mode import CANNOT
from .watched import Watched


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
        "cannot": list(CANNOT[cell.mode]),
        "tenants": [
            {
                "tenant": printable(totals.tenant),
                "loop_seconds": totals.loop_ns / 1e9,
                "slices": totals.slices,
                "longest_seconds": totals.longest_ns / 1e9,
                "delay_suffered_seconds": totals.suffered_ns / 1e9,
                "delay_caused_seconds": totals.caused_ns / 1e9,
                "waits": totals.waits,
            }
            for totals in cell.totals()
        ],
        "running": {
            "tenant": printable(cell.name(running & layout.SLOT_BITS)),
            "seconds": max(0, cell.as_of(now) - (running & layout.START_BITS)) / 1e9,
        }
        if running
        else None,
        "heartbeat_age_seconds": max(0, now - header[layout.HEARTBEAT]) / 1e9,
    }
