"""Verdicts that are not about one slice: stopped, dead, silent, saturated. What holds, since when, and when it is over.

A verdict is one alert however many loops of a process bear it out, and it is over only after a quiet time: what comes
and goes is told once. Pure: time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sidecar.alerts import Alert

from .cell import ProcessKey

STOPPED_QUIET_NS: Final = 1_000_000_000
DEAD_FOR_NS: Final = 300_000_000_000  # when nobody comes back in its place
DEAD_LEAST_NS: Final = 10_000_000_000

LATE_QUIET_NS: Final = 5_000_000_000  # heartbeats that come again must go on to

Key = tuple[str, ProcessKey]  # alert name, of which process


def alert_about(
    name: str, tenant: str, service: str, instance: str, summary: str, starts_at: datetime, runbook_url: str
) -> Alert:
    """A firing alert with the labels that all alerts have."""
    annotations = {"summary": summary}
    if runbook_url:
        annotations["runbook_url"] = f"{runbook_url.rstrip('/')}/{name}.md"
    return Alert(
        name=name,
        status="firing",
        labels={"alertname": name, "tenant_id": tenant, "service_name": service, "instance": instance},
        annotations=annotations,
        starts_at=starts_at,
    )


@dataclass(slots=True)
class _Verdict:
    alert: Alert
    began: int
    loops: set[int]  # that bear it out
    over_at: int | None = None


class Verdicts:
    """What holds at present. Not for more than one thread.

    Args:
        wall: the present time, for the alerts.
    """

    def __init__(self, wall: Callable[[], datetime]) -> None:
        self._wall = wall
        self._held: dict[Key, _Verdict] = {}
        self._changes: list[Alert] = []

    def hold(self, key: Key, loop_id: int, now: int, alert: Callable[[], Alert]) -> None:
        """This loop bears the verdict out; `alert` is made when it is new."""
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Verdict(alert(), now, set())
            self._changes.append(held.alert)
        held.loops.add(loop_id)
        held.over_at = None

    def holds(self, key: Key) -> bool:
        """Whether it holds, or is not over yet."""
        return key in self._held

    def ease(self, key: Key, loop_id: int, now: int, quiet_ns: int = 0) -> None:
        """This loop bears it out no more: it is over in `quiet_ns`, unless any loop does until then."""
        held = self._held.get(key)
        if held is None:
            return
        held.loops.discard(loop_id)
        if not held.loops:
            over_at = now + quiet_ns
            held.over_at = over_at if held.over_at is None else min(held.over_at, over_at)

    def returned(self, name: str, service: str, now: int) -> None:
        """The service is back: what `name` says of a process of it is over soon."""
        for (held_name, _), held in self._held.items():
            if held_name == name and held.alert.labels["service_name"] == service and held.over_at is not None:
                held.over_at = min(held.over_at, max(now, held.began + DEAD_LEAST_NS))

    def changes(self, now: int) -> list[Alert]:
        """The alerts that follow, in order."""
        changes, self._changes = self._changes, []
        for key, held in list(self._held.items()):
            if held.over_at is not None and now >= held.over_at:
                del self._held[key]
                changes.append(self._resolved(held, now))
        return changes

    def _resolved(self, held: _Verdict, now: int) -> Alert:
        annotations = {**held.alert.annotations, "duration_ms": f"{(now - held.began) / 1e6:.0f}"}
        return replace(held.alert, status="resolved", annotations=annotations, ends_at=self._wall())
