"""The watchdog's judgement, without threads and clocks: what does one look at all cells say?

`Poll.step` looks at the running slices and returns the alerts that follow. A slice that began longer ago than the
threshold is a stall; it ends when the cell shows another slice, or none. So a loop need not be looked at before its
running slice could be overdue. What else can be said of a loop and its process is in `sayings`. Every change of verdict
happens in `step`, so alerts come in order; other threads only leave notes (a stack was found, a stream ended).

What it refuses: to call a process stalled that is stopped, under a debugger or without a CPU, to let an unreadable cell
keep it from the others, and to wait for anybody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from sidecar.alerts import Alert
from sidecar.wire import cell as layout

from .cell import ProcessKey, RefusedError
from .described import described
from .hearing import listen
from .mode import Mode
from .parties import leaves_room
from .pressure import Pressure, Saturation, Starved
from .sayings import Sayings
from .stacks import Answer, Asked, ask
from .stall import CELL_LOST, LOOP_CLOSED, PROCESS_DIED, SILENCED, Stall
from .stalls import Stalls
from .standing import Standing, System
from .tenants import TenantWatch
from .told import ToldCell
from .watched import Watched

CHECK_NS: Final = 20_000_000  # how often each process is looked up in the system
QUIET_NS: Final = 1_000_000_000  # without a beat of its timer: a process may be frozen, which its state does not tell
STARVED_SLICES: Final = 5  # thresholds that one slice lasts, for the most part without a CPU: starved
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
        next_look: when there is something to look at, as of the last step, unless there is news before; a time in the
            past for as soon as possible, None without any loop.
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
        self.next_look: int | None = None
        self._tenants = tenants
        self._system = system or System()
        self._sayings = Sayings(wall, runbook_url)
        # Re-entered where a question is answered at once.
        self._lock = threading.RLock()
        self._loops: dict[tuple[ProcessKey, int], Watched] = {}  # process, loop id
        self._stalls = Stalls(runbook_url, wall, ask, self._whose, self._lock, self._system.clock)

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
                watched.go_on_from(before)
                if isinstance(watched.cell, ToldCell) and isinstance(before.cell, ToldCell):
                    watched.cell.go_on_from(before.cell)
                before.cell.close()
            self._loops[key] = watched

    def _whose(self, stall: Stall) -> Watched | None:
        return next((watched for watched in self._loops.values() if watched.stall is stall), None)

    def _make_room(self, watched: Watched) -> None:
        parties = [other.party for other in self._loops.values()]
        if not leaves_room(watched.party, parties, MAX_LOOPS):
            raise RefusedError("loops", f"as many of {MAX_LOOPS} loops as may be are under watch already")
        if watched.cell.mode is Mode.HEARTBEATS:
            told = [other.party for other in self._loops.values() if other.cell.mode is Mode.HEARTBEATS]
            if not leaves_room(watched.party, told, MAX_TOLD):
                raise RefusedError("loops", f"as many of {MAX_TOLD} loops as may be are watched by heartbeats already")

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

    def step(self, now: int) -> list[Alert]:
        """Look at every loop that is due once; returns the alerts that follow, in order."""
        alerts: list[Alert] = []
        soonest = None
        with self._lock:
            for key, watched in list(self._loops.items()):
                if now >= watched.look_at:
                    try:
                        self._look(watched, now, alerts)
                    except RefusedError:
                        watched.leaving = CELL_LOST
                    if watched.leaving is not None:
                        self._part(watched, now, alerts)
                        del self._loops[key]
                        continue
                if soonest is None or watched.look_at < soonest:
                    soonest = watched.look_at
            self.next_look = soonest
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
            ended = beat if stall.began < beat <= seen else max(stall.began, seen)
            self._stalls.end(watched, stall, ended, now, alerts)
        if header[layout.LONG_SLICES] != watched.long_slices:
            self._look_back(watched, header, now, alerts)
        if watched.leaving is not None:
            return
        if header[layout.CLOSED]:
            watched.leaving = LOOP_CLOSED
            return
        if watched.stall is None and running and self._overdue(watched, header, seen):
            self._stalls.begin(watched, running, now)
        if watched.stall is not None:
            self._stalls.go_on(watched, watched.stall, now, alerts)
        if header[layout.HEARTBEAT] != watched.beat or watched.stall is not None:
            self._listen(watched, header, now)
        if now >= watched.check_at or watched.just_cut_off(now):
            self._check(watched, header, now)
        if watched.stall is None and not watched.just_cut_off(now):
            # What is told of is looked at when there is news.
            told = watched.cell.mode is Mode.HEARTBEATS
            began = max(running & layout.START_BITS, watched.excused_until) if running and not told else now
            watched.look_at = min(began + self.stall_ns, watched.check_at)

    def _look_back(self, watched: Watched, header: tuple[int, ...], now: int, alerts: list[Alert]) -> None:
        """At the slices that ended since the last look: one that was overdue and not seen while it ran is a stall.

        Slices of a loop follow each other, so a cell that lies can claim no more stalls than there was time for.
        """
        first, count = watched.long_slices, header[layout.LONG_SLICES]
        watched.long_slices = count
        if first is None:  # what happened before we came is not news
            return
        for running, ended, lacked in watched.cell.long_slices(first, count):
            began = running & layout.START_BITS
            if began + layout.SLOT_BITS < watched.judged_until or not began < ended <= now:
                continue
            watched.judged_until = ended
            began = max(began, watched.excused_until)
            if running == watched.stalled or ended - began < self.stall_ns:
                continue
            if lacked is None:  # what the thread has lacked since the slice ended counts, too
                lacked = self._lacked(watched, header, began)
            if ended - began - lacked < self.stall_ns or self._system.traced(watched.cell):
                continue
            if watched.pressure is not None:
                watched.pressure.stalled()
            self._stalls.missed(watched, running, ended, now, alerts)

    def _listen(self, watched: Watched, header: tuple[int, ...], now: int) -> None:
        """To the loop's own timer."""
        pressure = watched.pressure
        if pressure is None:
            self._sayings.arrived(watched, now)
            cell, thread = watched.cell, header[layout.THREAD]
            pressure = watched.pressure = Pressure(
                self.stall_ns, cell.totals, lambda: self._system.run_delay(watched.cell, thread)
            )
        watched.beat = header[layout.HEARTBEAT]
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
        if found is Standing.RUNS and (watched.held or now - header[layout.HEARTBEAT] >= QUIET_NS):
            found = Standing.HELD if self._system.frozen(watched.cell) else found
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
        if found is Standing.RUNS and (self._system.traced(watched.cell) or self._system.frozen(watched.cell)):
            found = Standing.HELD
        if found is Standing.HELD:
            self._hold(watched, now)
        if found is not Standing.RUNS:
            return False
        lacked = self._lacked(watched, header, began)
        if lacked * 2 > now - began >= STARVED_SLICES * self.stall_ns:
            self._sayings.starved(watched, now, Starved(lacked, now - began))
        return now - began - lacked >= self.stall_ns

    def _lacked(self, watched: Watched, header: tuple[int, ...], began: int) -> int:
        """For how long the host had no CPU for the loop's thread since `began`: that is not its tenant's time."""
        return watched.starvation.during(began, self._system.run_delay(watched.cell, header[layout.THREAD]))

    def _hold(self, watched: Watched, now: int) -> None:
        """Not its slice's doing; and once it is let go, that gets the whole threshold again."""
        watched.held = True
        watched.excused_until = now
        self._sayings.stopped(watched, now)

    def _part(self, watched: Watched, now: int, alerts: list[Alert]) -> None:
        why = watched.leaving
        if watched.stall is not None:
            watched.stall.outcome = why or LOOP_CLOSED
            self._stalls.end(watched, watched.stall, now, now, alerts)
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
            return self._stalls.as_dicts(now)
