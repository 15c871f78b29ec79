"""The watchdog's judgement, without threads and clocks: what does one look at all cells say?

`Poll.step` looks at the running slice of every loop and returns the alerts that follow. A slice that began longer ago
than the threshold is a stall; it ends when the cell shows another slice, or none. Every change of verdict happens in
`step`, so alerts come in order; other threads only leave notes (a stack came, a stream ended).

What it refuses: to call a process stalled that is stopped or under a debugger, to let one unreadable cell keep it from
the others, and to wait for anybody.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sidecar.alerts import Alert, printable
from sidecar.wire import cell as layout

from .cell import CellReader, RefusedError
from .stacks import left_stack
from .stall import CELL_LOST, LINK_LOST, LOOP_CLOSED, PROCESS_DIED, Stall
from .standing import Standing, standing

STACK_WAIT_NS: Final = 8_000_000  # what the alert waits for its stack
CHECK_NS: Final = 100_000_000  # how often each process is looked up in the system
LINK_GRACE_NS: Final = 100_000_000  # what a stream that ended waits for the end of its process
REMEMBERED: Final = 256


@dataclass(slots=True)
class Watched:
    """A loop under watch.

    Attributes:
        ask: sends the question for a stack to the loop's process: (stall id, loop id, RUNNING word).
        leaving: why it is to be watched no more; set by any thread, acted upon by `step`.
        excused_until: a slice is not overdue before this plus the threshold: its process was held.
    """

    service: str
    instance: str
    cell: CellReader
    ask: Callable[[int, int, int], None]
    leaving: str | None = None
    stall: Stall | None = None
    excused_until: int = 0
    check_at: int = 0
    part_at: int | None = None


class Poll:
    """All loops under watch, and their stalls.

    Args:
        stall_ns: how long a slice may last.
        runbook_url: base URL of the runbooks, or empty.
        look_up: what the system says of a process (pid, start time).
        wall: the present time, for the alerts.
    """

    def __init__(
        self,
        stall_ns: int,
        runbook_url: str = "",
        look_up: Callable[[int, int], Standing] = standing,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._stall_ns = stall_ns
        self._runbook_url = runbook_url
        self._look_up = look_up
        self._wall = wall
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._loops: dict[tuple[int, int], Watched] = {}
        self._stalls: deque[Stall] = deque(maxlen=REMEMBERED)

    def __len__(self) -> int:
        return len(self._loops)

    def add(self, watched: Watched) -> None:
        """Watch a loop. Announced again (after a reconnect), the newest announcement counts and a stall goes on."""
        key = (watched.cell.pid, watched.cell.loop_id)
        with self._lock:
            before = self._loops.get(key)
            if before is not None:
                if before.cell.process_start == watched.cell.process_start:
                    watched.stall = before.stall
                before.cell.close()
            self._loops[key] = watched

    def leave(self, watched: Watched, why: str) -> None:
        """Watch this announcement's loop no more; `step` does it."""
        watched.leaving = why

    def add_stack(self, stall_id: int, ask: Callable[[int, int, int], None], lines: list[str], why_not: str) -> None:
        """The answer to a question for a stack: lines, or why there are none. Only whom we asked may answer.

        A stall that is over takes it too: the evidence is still worth having.
        """
        with self._lock:
            for stall in reversed(self._stalls):
                if stall.id == stall_id and stall.asked is ask:
                    _take_stack(stall, lines, why_not)

    def step(self, now: int) -> list[Alert]:
        """Look at every loop once; returns the alerts that follow, in order."""
        alerts: list[Alert] = []
        with self._lock:
            for key, watched in list(self._loops.items()):
                try:
                    self._look(watched, now, alerts)
                except RefusedError:
                    watched.leaving = CELL_LOST
                if watched.leaving is not None and not self._waits(watched, now):
                    self._part(watched, now, alerts)
                    del self._loops[key]
        return alerts

    def _waits(self, watched: Watched, now: int) -> bool:
        """A killed process's sockets are closed before it is seen to be gone: leave it the time."""
        if watched.leaving != LINK_LOST:
            return False
        if self._look_up(watched.cell.pid, watched.cell.process_start) is Standing.GONE:
            return False
        if watched.part_at is None:
            watched.part_at = now + LINK_GRACE_NS
        return now < watched.part_at

    def _look(self, watched: Watched, now: int, alerts: list[Alert]) -> None:
        header = watched.cell.header()
        running = header[layout.RUNNING]
        stall = watched.stall
        if stall is not None and stall.running != running:
            # The writer updates BEAT at the end of a long slice, before it takes the slice away.
            beat = header[layout.BEAT]
            self._end(watched, stall, beat if stall.began < beat <= now else now, now, alerts)
            stall = None
        if watched.leaving is not None and watched.leaving != LINK_LOST:
            return
        if header[layout.CLOSED]:
            watched.leaving = LOOP_CLOSED
            return
        if stall is None:
            if running and self._overdue(watched, running, now):
                self._begin(watched, running, now)
        elif stall.alerted is None or now >= stall.look_at:
            self._look_for_stack(watched, stall, now)
        stall = watched.stall
        if stall is not None and stall.alerted is None and (stall.stack or now >= stall.alert_by):
            self._fire(stall, now, alerts)
        if now >= watched.check_at:
            watched.check_at = now + CHECK_NS
            if self._look_up(watched.cell.pid, watched.cell.process_start) is Standing.GONE:
                watched.leaving = PROCESS_DIED

    def _overdue(self, watched: Watched, running: int, now: int) -> bool:
        began = max(running & layout.START_BITS, watched.excused_until)
        if now - began < self._stall_ns:
            return False
        found = self._look_up(watched.cell.pid, watched.cell.process_start)
        if found is Standing.HELD:
            # Not the slice's doing; and once it is let go, it gets the whole threshold again.
            watched.excused_until = now
        return found is Standing.RUNS

    def _begin(self, watched: Watched, running: int, now: int) -> None:
        # What was read may have been torn or have changed while the process was looked up; what stands is read twice.
        if watched.cell.header()[layout.RUNNING] != running:
            return
        began = running & layout.START_BITS
        stall = Stall(
            id=next(self._ids),
            tenant=printable(watched.cell.name(running & layout.SLOT_BITS)),
            service=watched.service,
            instance=watched.instance,
            pid=watched.cell.pid,
            running=running,
            began=began,
            began_at=self._wall() - timedelta(microseconds=(now - began) / 1000),
            alert_by=now + STACK_WAIT_NS,
            suffered=watched.cell.suffered(),
            asked=watched.ask,
            ident=watched.cell.header()[layout.IDENT],
        )
        watched.stall = stall
        self._stalls.append(stall)
        self._look_for_stack(watched, stall, now)
        if not stall.stack:
            watched.ask(stall.id, watched.cell.loop_id, running)

    def _look_for_stack(self, watched: Watched, stall: Stall, now: int) -> None:
        """Take what the process left. While a stall lasts, the newest counts: the slice may have gone on elsewhere."""
        stall.look_at = now + CHECK_NS
        at, lines, why_not = left_stack(watched.cell.stacks, max(stall.began, stall.stack_at), stall.ident)
        if lines:
            # Looked at after the stack was read: a slice that began before the stack and runs now is the stack's.
            if watched.cell.header()[layout.RUNNING] == stall.running:
                stall.stack, stall.stack_at, stall.stack_unavailable = tuple(lines), at, None
        elif why_not and not stall.stack:
            stall.stack_unavailable = why_not

    def _fire(self, stall: Stall, now: int, alerts: list[Alert]) -> None:
        stall.alerted = now
        alerts.append(stall.alert(now, self._runbook_url))

    def _end(self, watched: Watched, stall: Stall, ended: int, now: int, alerts: list[Alert]) -> None:
        if stall.alerted is None:
            self._fire(stall, now, alerts)
        try:
            suffered = watched.cell.suffered()
        except RefusedError:
            suffered = {}
        stall.victims = tuple(
            printable(watched.cell.name(slot))
            for slot, suffering in suffered.items()
            if suffering > stall.suffered.get(slot, 0)
        )
        stall.ended = ended
        stall.ended_at = stall.began_at + timedelta(microseconds=(ended - stall.began) / 1000)
        watched.stall = None
        alerts.append(stall.alert(now, self._runbook_url))

    def _part(self, watched: Watched, now: int, alerts: list[Alert]) -> None:
        stall = watched.stall
        if stall is not None:
            why = watched.leaving or LINK_LOST
            if self._look_up(watched.cell.pid, watched.cell.process_start) is Standing.GONE:
                why = PROCESS_DIED  # what came first, the end of its stream or our look, does not matter
            stall.outcome = why
            self._end(watched, stall, now, now, alerts)
        watched.cell.close()

    def loops(self, now: int) -> list[dict[str, Any]]:
        """Every loop under watch, as in `/status`."""
        with self._lock:
            found = []
            for watched in self._loops.values():
                try:
                    found.append(_described(watched, now))
                except RefusedError:
                    continue  # the next step parts with it
            return found

    def stalls(self, now: int) -> list[dict[str, Any]]:
        """The last stalls, newest last, as in `/status`."""
        with self._lock:
            return [stall.as_dict(now) for stall in self._stalls]


def _take_stack(stall: Stall, lines: list[str], why_not: str) -> None:
    if stall.stack:
        return
    if lines:
        stall.stack, stall.stack_unavailable = tuple(lines), None
    else:
        stall.stack_unavailable = why_not or "the process sent no frames"


def _described(watched: Watched, now: int) -> dict[str, Any]:
    header = watched.cell.header()
    running = header[layout.RUNNING]
    return {
        "service": watched.service,
        "instance": watched.instance,
        "pid": watched.cell.pid,
        "loop_id": watched.cell.loop_id,
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
            for totals in watched.cell.totals()
        ],
        "running": {
            "tenant": printable(watched.cell.name(running & layout.SLOT_BITS)),
            "seconds": max(0, now - (running & layout.START_BITS)) / 1e9,
        }
        if running
        else None,
        "heartbeat_age_seconds": max(0, now - header[layout.HEARTBEAT]) / 1e9,
    }
