"""What the watchdog says of a loop or its process beyond stalls: which verdict, in which words, and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sidecar import conventions
from sidecar.alerts import Alert, printable
from sidecar.wire import cell as layout

from .mode import Mode
from .pressure import Saturation, Starved
from .verdict import DEAD_FOR_NS, LATE_QUIET_NS, STOPPED_QUIET_NS, Key, Verdicts, alert_about
from .watched import Watched

_UNKNOWN = "unknown"


class Sayings:
    """Turns what was found about a loop into verdicts.

    Args:
        wall: the present time, for the alerts.
        runbook_url: base URL of the runbooks, or empty.
    """

    def __init__(self, wall: Callable[[], datetime], runbook_url: str) -> None:
        self._wall = wall
        self._runbook_url = runbook_url
        self._verdicts = Verdicts(wall)

    def changes(self, now: int) -> list[Alert]:
        """The alerts that follow, in order."""
        return self._verdicts.changes(now)

    def arrived(self, watched: Watched, now: int) -> None:
        """A loop was announced: its process speaks, and its service is there."""
        # A link that comes and goes is told of once.
        quiet_ns = LATE_QUIET_NS if watched.cell.mode is Mode.HEARTBEATS else 0
        self._ease(conventions.EVENT_LOOP_SILENT, watched, now, quiet_ns)
        self._verdicts.returned(conventions.EVENT_LOOP_DEAD, watched.service, now)

    def stopped(self, watched: Watched, now: int) -> None:
        """Its process is held."""
        self._hold(
            conventions.EVENT_LOOP_STOPPED,
            watched,
            now,
            f"A process of {watched.service} ({watched.place}) is stopped, frozen or under a debugger; its event loops "
            "stand still, and nobody's code is to blame.",
        )

    def runs(self, watched: Watched, now: int) -> None:
        """Its process is not held."""
        self._ease(conventions.EVENT_LOOP_STOPPED, watched, now, STOPPED_QUIET_NS)

    def dead(self, watched: Watched, now: int, holder: str | None) -> None:
        """Its process is gone, and did not take its leave; `holder` is the tenant who had the loop then."""
        last = "" if holder is None else f" Tenant {holder} had the loop at that moment."
        self._hold(
            conventions.EVENT_LOOP_DEAD,
            watched,
            now,
            f"A process of {watched.service} ({watched.place}) is gone without closing its event loop: killed, out of "
            f"memory, or crashed.{last}",
        )
        self._ease(conventions.EVENT_LOOP_DEAD, watched, now, DEAD_FOR_NS)
        self.parted(watched, now)

    def silent(self, watched: Watched, now: int, why: str) -> None:
        """Its process lives, as far as can be known, and nothing is heard of the loop."""
        self._silent(watched, now, why)
        self._ease(conventions.EVENT_LOOP_SILENT, watched, now, DEAD_FOR_NS)
        self.parted(watched, now)

    def late(self, watched: Watched, now: int) -> None:
        """It is told of in heartbeats, and none came for some time."""
        self._silent(watched, now, "its heartbeats stay away")

    def heard(self, watched: Watched, now: int) -> None:
        """Heartbeats come."""
        self._ease(conventions.EVENT_LOOP_SILENT, watched, now, LATE_QUIET_NS)

    def _silent(self, watched: Watched, now: int, why: str) -> None:
        loop = f"an event loop of {watched.service} ({watched.place})"
        if watched.cell.mode is not Mode.HEARTBEATS:
            summary = f"Nothing is heard of {loop}, still alive: {why}. Its stalls would not be seen."
        else:
            summary = (
                f"Nothing is heard of {loop} for {(now - watched.cell.heard()) / 1e9:.1f} s: {why}. It is watched by "
                "heartbeats alone, so an interpreter that is held, a process that is stopped or dead, and a network "
                f"that is cut look alike.{_last_known(watched)}"
            )
        self._hold(conventions.EVENT_LOOP_SILENT, watched, now, summary)

    def saturated(self, watched: Watched, now: int, found: Saturation) -> None:
        """Its timer is late again and again."""
        shares = ", ".join(f"{printable(tenant)} {share:.0%}" for tenant, share in found.shares)
        self._hold(
            conventions.EVENT_LOOP_SATURATED,
            watched,
            now,
            f"An event loop of {watched.service} ({watched.place}) has more to do than time: what is due waits "
            f"{found.lateness_ns / 1e9:.2f} s, and no single callback is to blame. Largest shares: {shares}.",
            printable(found.shares[0][0]) if found.shares else _UNKNOWN,
        )

    def starved(self, watched: Watched, now: int, found: Starved) -> None:
        """Its thread is ready, and the host runs something else."""
        self._ease(conventions.EVENT_LOOP_SATURATED, watched, now)
        self._hold(
            conventions.EVENT_LOOP_STARVED,
            watched,
            now,
            f"The host has too little CPU for an event loop of {watched.service} ({watched.place}): its thread was "
            f"ready and had none for {found.lacked_ns / 1e9:.2f} s of {found.elapsed_ns / 1e9:.2f} s. What is due "
            "waits, and no tenant is to blame.",
        )

    def relieved(self, watched: Watched, now: int) -> None:
        """Its timer is on time again."""
        self._ease(conventions.EVENT_LOOP_SATURATED, watched, now)
        self._ease(conventions.EVENT_LOOP_STARVED, watched, now)

    def parted(self, watched: Watched, now: int) -> None:
        """It is watched no more: what it bore out is not known any longer."""
        self._ease(conventions.EVENT_LOOP_STOPPED, watched, now)
        self.relieved(watched, now)

    def _hold(self, name: str, watched: Watched, now: int, summary: str, tenant: str = _UNKNOWN) -> None:
        def alert() -> Alert:
            return alert_about(
                name, tenant, watched.service, watched.instance, summary, self._wall(), self._runbook_url
            )

        self._verdicts.hold(_key(name, watched), watched.cell.loop_id, now, alert)

    def _ease(self, name: str, watched: Watched, now: int, quiet_ns: int = 0) -> None:
        self._verdicts.ease(_key(name, watched), watched.cell.loop_id, now, quiet_ns)


def _last_known(watched: Watched) -> str:
    """Who had the loop when it was last heard of: a lead, and no proof."""
    running = watched.cell.header()[layout.RUNNING]
    if not running:
        return " It was idle when it was last heard of."
    had = (watched.cell.as_of(0) - (running & layout.START_BITS)) / 1e9
    tenant = printable(watched.cell.whose(running))
    return f" When it was last heard of, tenant {tenant} had had it for {max(0.0, had):.3f} s."


def _key(name: str, watched: Watched) -> Key:
    return name, watched.cell.process
