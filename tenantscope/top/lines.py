"""A `Look` as one line of JSON, for scripts: the words of `/status`, rates beside the totals."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from tenantscope.view.status import Status
from tenantscope.view.tenants import longest_waits

from .news import firing
from .poller import Look
from .screen import View, sorted_rows


def line(look: Look, view: View, where: str, at: datetime) -> str:
    """One line without its end. `error` tells why there is nothing else, and is null when there is.

    `stalls` are those that last, `alerts` those that fire.
    """
    document: dict[str, Any] = {
        "at": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "admin": where,
        "error": look.error or None,
    }
    if look.status is not None and not look.error:
        document |= _known(look, look.status, view)
    return json.dumps(document)


def _known(look: Look, status: Status, view: View) -> dict[str, Any]:
    return {
        "version": status.version,
        "pid": status.pid,
        "destination": status.destination,
        "records": status.records,
        "store_fault": status.store_fault,
        "faults": status.faults,
        "loops": [
            {
                "service": loop.service,
                "instance": loop.instance,
                "pid": loop.pid,
                "loop_id": loop.loop_id,
                "running": None if loop.running is None else asdict(loop.running),
                "utilization": look.utilization.get(loop.key),
                "heartbeat_age_seconds": loop.heartbeat_age_seconds,
                "mode": loop.mode,
            }
            for loop in status.loops
        ],
        "tenants": [asdict(row) for row in sorted_rows(look, view)],
        "pairs": [asdict(pair) for pair in longest_waits(status)],
        "stalls": [asdict(stall) for stall in status.stalls if stall.active],
        "alerts": [asdict(alert) for alert in firing(status.alerts)],
    }
