"""The watchdog's judgement, without threads and clocks: what does one look at all cells say?

`Poll.step` looks at the running slices and returns the alerts that follow. A slice that began longer ago than the
threshold is a stall; it ends when the cell shows another slice, or none. So a loop need not be looked at before its
running slice could be overdue. What else can be said of a loop and its process is in `sayings`. Every change of verdict
happens in `step`, so alerts come in order; other threads only leave notes (a stack was found, a stream ended).

What it refuses: to call a process stalled that is stopped, under a debugger or without a CPU, to let an unreadable cell
keep it from the others, and to wait for anybody.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sidecar.alerts import Alert, printable
from sidecar.wire import cell as layout

from .cell import ProcessKey, RefusedError
from .described import described
from .hearing import listen
from .mode import Mode
from .pressure import Pressure, Saturation, Starved
from .sayings import Sayings
from .stacks import Answer, Asked, Found, ask
from .stall import CELL_LOST, LOOP_CLOSED, PROCESS_DIED, SILENCED, Stall
from .standing import Standing, System
from .tenants import TenantWatch
from .told import ToldCell
from .watched import Watched

STACK_WAIT_NS: Final = 8_000_000  # what the alert waits for its stack
CHECK_NS: Final = 20_000_000  # how often each process is looked up in the system
STARVED_SLICES: Final = 5  # thresholds that one slice lasts, for the most part without a CPU: starved
REFRESH_NS: Final = 100_000_000  # how often the stack of a stall that lasts is asked for anew, at most
REMEMBERED: Final = 256
MAX_LOOPS: Final = 256  # under watch, of all applications
MAX_TOLD: Final = 64  # of them those that are told of: anybody who reaches the listener can tell


class Poll:
    """All loops under watch, and their stalls.

    Args:
        stall_ns: how long a slice may last.
        runbook_url: base URL of the runbooks, or empty.
        system: what can be looked up of processes.
        wall: the present time, for the alerts.
        tenants: watches what adds up for tenants; None: nobody does.
        ask: has the stack of a stall found, and the answer called with it, by another thread.

    Attributes:
        stall_ns: as given.
    """

    def __init__(
        self,
        stall_ns: int,
        runbook_url: str = "",
        system: System | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        tenants: TenantWatch | None = None,
        ask: Callable[[Asked, Answer], None] = ask,
    ) -> None:
        self.stall_ns = stall_ns
        self._tenants = tenants
        self._runbook_url = runbook_url
        self._system = system or System()
        self._sayings = Sayings(wall, runbook_url)
        self._wall = wall
        self._ask = ask
        # Re-entered where a question is answered at once.
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._loops: dict[tuple[ProcessKey, int], Watched] = {}  # process, loop id
        self._stalls: deque[Stall] = deque(maxlen=REMEMBERED)

    def __len__(self) -> int:
        return len(self._loops)

    def add(self, watched: Watched) -> None:
        """Watch a loop. Announced again, by its stream or after that ended, a stall goes on.

        While the stream that announced it lives, no other may: paths of cells can be guessed, and who announces a loop
        names it. grpc does not tell which process is at the other end of a Unix socket, so the first is believed; the
        cell bounds what a wrong one can do, for only the application writes it.

        Raises:
            RefusedError: somebody else announced it, or there are too many.
        """
        key = (watched.cell.process, watched.cell.loop_id)
        with self._lock:
            before = self._loops.get(key)
            if before is None:
                self._make_room(watched)
            elif before.stream is not watched.stream and not before.cut_off:
                raise RefusedError("announced", "a stream that lives announced this loop before")
            else:
                watched.stall = before.stall
                watched.starvation = before.starvation
                watched.held = before.held
                if isinstance(watched.cell, ToldCell) and isinstance(before.cell, ToldCell):
                    watched.cell.go_on_from(before.cell)
                before.cell.close()
            self._loops[key] = watched

    def _make_room(self, watched: Watched) -> None:
        if len(self._loops) >= MAX_LOOPS:
            raise RefusedError("loops", f"{MAX_LOOPS} loops are under watch already")
        if watched.cell.mode is Mode.HEARTBEATS:
            told = sum(other.cell.mode is Mode.HEARTBEATS for other in self._loops.values())
            if told >= MAX_TOLD:
                raise RefusedError("loops", f"{MAX_TOLD} loops are watched by heartbeats already")

    def look_at(self, watched: Watched) -> None:
        """There is news of it."""
        watched.look_at = 0

    def withdrawn(self, watched: Watched) -> None:
        """It is said to be closed: see whether its cell says so, which is what counts. The word of a told one does."""
        if watched.cell.mode is Mode.HEARTBEATS:
            watched.leaving = LOOP_CLOSED
        watched.look_at = 0

    def cut_off(self, watched: Watched) -> None:
        """The stream that announced it ended. Its cell goes on telling, until the process does not."""
        watched.cut_off = True
        watched.look_at = 0

    def next_look(self) -> int | None:
        """When `step` has something to look at; a time in the past for as soon as possible, None without any loop."""
        with self._lock:
            return min((watched.look_at for watched in self._loops.values()), default=None)

    def step(self, now: int) -> list[Alert]:
        """Look at every loop once; returns the alerts that follow, in order."""
        alerts: list[Alert] = []
        with self._lock:
            for key, watched in list(self._loops.items()):
                if now < watched.look_at:
                    continue
                try:
                    self._look(watched, now, alerts)
                except RefusedError:
                    watched.leaving = CELL_LOST
                if watched.leaving is not None:
                    self._part(watched, now, alerts)
                    del self._loops[key]
            alerts += self._sayings.changes(now)
            if self._tenants is not None:
                alerts += self._tenants.look(self._loops.values(), now)
        return alerts

    def _look(self, watched: Watched, now: int, alerts: list[Alert]) -> None:
        header = watched.cell.header()
        seen = watched.cell.as_of(now)  # the header says nothing of what was later
        running = header[layout.RUNNING]
        stall = watched.stall
        if stall is not None and stall.running != running:
            # The writer updates BEAT at the end of a long slice, before it takes the slice away.
            beat = header[layout.BEAT]
            self._end(watched, stall, beat if stall.began < beat <= seen else max(stall.began, seen), now, alerts)
            stall = None
        if watched.leaving is not None:
            return
        if header[layout.CLOSED]:
            watched.leaving = LOOP_CLOSED
            return
        if stall is None:
            if running and self._overdue(watched, header, seen):
                self._begin(watched, running, now)
        elif now >= stall.look_at and not stall.awaited:
            self._ask_for_stack(watched, stall, now)
        stall = watched.stall
        if stall is not None and stall.alerted is None and (stall.stack or now >= stall.alert_by):
            alerts.append(stall.fire(now, self._runbook_url))
        self._listen(watched, header, now)
        if now >= watched.check_at or watched.just_cut_off(now):
            self._check(watched, header, now)
        if watched.stall is None and not watched.just_cut_off(now):
            # What is told of is looked at when there is news.
            told = watched.cell.mode is Mode.HEARTBEATS
            began = max(running & layout.START_BITS, watched.excused_until) if running and not told else now
            watched.look_at = min(began + self.stall_ns, watched.check_at)

    def _listen(self, watched: Watched, header: tuple[int, ...], now: int) -> None:
        """To the loop's own timer."""
        pressure = watched.pressure
        if pressure is None:
            self._sayings.arrived(watched, now)
            cell, thread = watched.cell, header[layout.THREAD]
            pressure = watched.pressure = Pressure(
                self.stall_ns, cell.totals, lambda: self._system.run_delay(watched.cell, thread)
            )
        if watched.stall is not None:
            pressure.stalled()
        found = pressure.look(header[layout.HEARTBEAT], header[layout.LATENESS])
        if isinstance(found, Saturation):
            self._sayings.saturated(watched, now, found)
        elif isinstance(found, Starved):
            self._sayings.starved(watched, now, found)
        elif not found:
            self._sayings.relieved(watched, now)

    def _check(self, watched: Watched, header: tuple[int, ...], now: int) -> None:
        """What the system says of the process, and whether anything is heard of it."""
        found = self._system.standing(watched.cell, header[layout.THREAD])
        if now >= watched.check_at:
            watched.check_at = (now // CHECK_NS + 1) * CHECK_NS  # together: waking up costs more than a look
        if watched.starvation.due(now):
            at, delay = self._system.reading(watched.cell, header[layout.THREAD])
            watched.starvation.read(at, header[layout.RUNNING] & layout.START_BITS, delay)
        if found is Standing.GONE:
            # It may have closed the loop in good order since we looked.
            watched.leaving = LOOP_CLOSED if watched.cell.header()[layout.CLOSED] else PROCESS_DIED
        elif found is Standing.HELD:
            self._hold(watched, now)
        else:
            if watched.held:
                watched.held = False
                self._sayings.runs(watched, now)
            if watched.cut_off and watched.cut_off_at is None:
                watched.cut_off_at = now
            listen(watched, now, self._sayings)

    def _overdue(self, watched: Watched, header: tuple[int, ...], now: int) -> bool:
        began = max(header[layout.RUNNING] & layout.START_BITS, watched.excused_until)
        if now - began < self.stall_ns:
            return False
        found = self._system.standing(watched.cell, header[layout.THREAD])
        if found is Standing.RUNS and self._system.traced(watched.cell):
            found = Standing.HELD
        if found is Standing.HELD:
            self._hold(watched, now)
        if found is not Standing.RUNS:
            return False
        # Neither is the time for which the host had no CPU for its thread.
        delay = self._system.run_delay(watched.cell, header[layout.THREAD])
        lacked = watched.starvation.during(began, delay)
        if lacked * 2 > now - began >= STARVED_SLICES * self.stall_ns:
            self._sayings.starved(watched, now, Starved(lacked, now - began))
        return now - began - lacked >= self.stall_ns

    def _hold(self, watched: Watched, now: int) -> None:
        """Not its slice's doing; and once it is let go, that gets the whole threshold again."""
        watched.held = True
        watched.excused_until = now
        self._sayings.stopped(watched, now)

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
            alert_by=now + (0 if watched.cell.mode is Mode.HEARTBEATS else STACK_WAIT_NS),
            suffered=watched.cell.suffered(),
            host=watched.host,
            mode=watched.cell.mode,
        )
        watched.stall = stall
        self._stalls.append(stall)
        self._ask_for_stack(watched, stall, now)

    def _ask_for_stack(self, watched: Watched, stall: Stall, now: int) -> None:
        """For a stall that lasts, anew when its age has doubled: the slice may have gone on elsewhere."""
        stall.look_at = now + max(REFRESH_NS, now - stall.began)
        stack = watched.cell.stack(max(stall.began, stall.stack_at))
        stall.awaited = True
        if isinstance(stack, Found):
            self._answered(stall, stack)
        else:
            self._ask(stack, lambda found: self._answered(stall, found))

    def _answered(self, stall: Stall, found: Found) -> None:
        """By any thread."""
        with self._lock:
            # Looked at after the stack was taken: a slice that began before and runs now is the stack's. By the cell
            # that is open now: the loop may have been announced again meanwhile.
            watched = next((each for each in self._loops.values() if each.stall is stall), None)
            try:
                runs = watched is not None and watched.cell.header()[layout.RUNNING] == stall.running
            except RefusedError:
                runs = False
            stall.answered(found, runs)

    def _end(self, watched: Watched, stall: Stall, ended: int, now: int, alerts: list[Alert]) -> None:
        if stall.alerted is None:
            alerts.append(stall.fire(now, self._runbook_url))
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
        why = watched.leaving
        if watched.stall is not None:
            watched.stall.outcome = why or LOOP_CLOSED
            self._end(watched, watched.stall, now, now, alerts)
        if why == PROCESS_DIED:
            self._sayings.dead(watched, now, watched.holder())
        elif why in (CELL_LOST, SILENCED) and self._system.standing(watched.cell) is not Standing.GONE:
            self._sayings.silent(watched, now, why)
        self._sayings.parted(watched, now)
        watched.cell.close()

    def loops(self, now: int) -> list[dict[str, Any]]:
        """Every loop under watch, as in `/status`."""
        with self._lock:
            found = []
            for watched in self._loops.values():
                try:
                    found.append(described(watched, now))
                except RefusedError:
                    continue  # the next step parts with it
            return found

    def stalls(self, now: int) -> list[dict[str, Any]]:
        """The last stalls, newest last, as in `/status`."""
        with self._lock:
            return [stall.as_dict(now) for stall in self._stalls]
