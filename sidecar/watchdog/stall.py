"""A stall: one slice that is overdue. Culprit, duration, stack, victims, and how that reads in an alert."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sidecar import conventions
from sidecar.alerts import Alert

from .mode import CAVEATS, Mode
from .stacks import Found

NOT_READ: Final = "it was not read in time"
ENDED_BEFORE: Final = "the slice had ended when it was read"
ENDED_UNSEEN: Final = "the slice had ended when the watchdog looked"
NOT_KNOWN: Final = "not known"
SLICE_ENDED: Final = "the slice ended"
PROCESS_DIED: Final = "the process died while the tenant held the loop"
LOOP_CLOSED: Final = "the loop was closed while the tenant held it"
CELL_LOST: Final = "the loop's cell became unreadable"
SILENCED: Final = "its link is gone, and its loop gives no sign of life"

_NAMED_VICTIMS: Final = 20


@dataclass(slots=True)
class Stall:
    """One overdue slice. Times are nanoseconds of `CLOCK_MONOTONIC`, but for `began_at`.

    Attributes:
        id: unique in this watchdog.
        running: the cell's RUNNING word: which slice it is.
        began: start of the slice, to about 4 us.
        began_at: the same in wall-clock time.
        alert_by: when the alert goes out, with or without a stack.
        alerted: when it went out.
        suffered: what each slot had suffered before the slice ended, to tell the victims.
        awaited: whether its stack was asked for, and the answer is not here yet.
        host: as the process calls it.
        mode: how the loop is watched.
        stack_at: when the stack was taken, at the earliest; 0 without one.
        look_at: when to ask for one again, or for a newer one.
        ended: when the slice was over; None while it runs.
        outcome: why it is over.
        victims: who waited for it; None when that cannot be told.
    """

    id: int
    tenant: str
    service: str
    instance: str
    pid: int
    running: int
    began: int
    began_at: datetime
    suffered: dict[int, int]
    alert_by: int = 0
    awaited: bool = False
    host: str = ""
    mode: Mode = Mode.CELL
    look_at: int = 0
    stack_at: int = 0
    alerted: int | None = None
    ended: int | None = None
    ended_at: datetime | None = None
    outcome: str = SLICE_ENDED
    stack: tuple[str, ...] = ()
    stack_unavailable: str | None = NOT_READ
    victims: tuple[str, ...] | None = ()

    def seconds(self, now: int) -> float:
        """How long the slice lasted, so far or in all."""
        return ((now if self.ended is None else self.ended) - self.began) / 1e9

    def answered(self, found: Found, runs: bool) -> None:
        """The answer to a question for its stack; `runs`: the slice did, after the stack was taken."""
        self.awaited = False
        if found.lines and runs:
            self.stack, self.stack_at, self.stack_unavailable = found.lines, found.at, None
        elif not self.stack:
            self.stack_unavailable = found.why_not or ENDED_BEFORE
            if self.alerted is None:
                self.look_at = 0

    def fire(self, now: int, runbook_url: str) -> Alert:
        """The alert goes out."""
        self.alerted = now
        return self.alert(now, runbook_url)

    def as_dict(self, now: int) -> dict[str, Any]:
        """As in `/status`. `detected_after_ms` runs from the start of the slice to the alert."""
        return {
            "id": self.id,
            "tenant": self.tenant,
            "service": self.service,
            "instance": self.instance,
            "pid": self.pid,
            "host": self.host,
            "began_at": self.began_at.isoformat(),
            "seconds": self.seconds(now),
            "detected_after_ms": ((now if self.alerted is None else self.alerted) - self.began) / 1e6,
            "stack": list(self.stack),
            "stack_unavailable": self.stack_unavailable,
            "active": self.ended is None,
            "victims": list(self.victims or ()),
        }

    def alert(self, now: int, runbook_url: str) -> Alert:
        """The alert for the stall as it stands: firing, or resolved once it ended."""
        resolved = self.ended is not None
        annotations = {
            "summary": self._resolved_summary(now) if resolved else self._firing_summary(now),
            "duration_ms": f"{self.seconds(now) * 1000:.0f}",
            "stack": "\n".join(self.stack) if self.stack else f"not available: {self.stack_unavailable}",
        }
        if resolved:  # who waited is known when the loop gets back to them
            annotations["victims"] = NOT_KNOWN if self.victims is None else _listed(self.victims)
        if runbook_url:
            annotations["runbook_url"] = f"{runbook_url.rstrip('/')}/{conventions.EVENT_LOOP_STALLED}.md"
        return Alert(
            name=conventions.EVENT_LOOP_STALLED,
            status="resolved" if resolved else "firing",
            labels={
                "alertname": conventions.EVENT_LOOP_STALLED,
                "tenant_id": self.tenant,
                "service_name": self.service,
                "instance": self.instance,
            },
            annotations=annotations,
            starts_at=self.began_at,
            ends_at=self.ended_at,
        )

    def _firing_summary(self, now: int) -> str:
        where = f", in {self.stack[-1]}" if self.stack else ""
        return (
            f"Tenant {self.tenant} has held an event loop of {self.service} ({place(self.pid, self.host)}) for "
            f"{self.seconds(now):.2f} s{where}; no other tenant's work on it runs meanwhile.{CAVEATS[self.mode]}"
        )

    def _resolved_summary(self, now: int) -> str:
        victims = self.victims or ()
        waited = f"; {len(victims)} other tenants waited" if len(victims) > 1 else ""
        if len(victims) == 1:
            waited = f"; tenant {victims[0]} waited"
        ended = "" if self.outcome == SLICE_ENDED else f" It is over because {self.outcome}."
        return (
            f"Tenant {self.tenant} held an event loop of {self.service} ({place(self.pid, self.host)}) for "
            f"{self.seconds(now):.2f} s{waited}.{ended}"
        )


def place(pid: int, host: str) -> str:
    """Which process, for people."""
    return f"pid {pid} on {host}" if host else f"pid {pid}"


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMED_VICTIMS
    return ", ".join(names[:_NAMED_VICTIMS]) + (f" and {more} more" if more > 0 else "")
