"""What the watchdog says of a loop or its process beyond stalls: which verdict, in which words, and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sidecar import conventions
from sidecar.alerts import Alert, printable

from .pressure import Saturation
from .verdict import DEAD_FOR_NS, STOPPED_QUIET_NS, Key, Verdicts, alert_about
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
        self._ease(conventions.EVENT_LOOP_SILENT, watched, now)
        self._verdicts.returned(conventions.EVENT_LOOP_DEAD, watched.service, now)

    def stopped(self, watched: Watched, now: int) -> None:
        """Its process is held."""
        self._hold(
            conventions.EVENT_LOOP_STOPPED,
            watched,
            now,
            f"Process {watched.cell.pid} of {watched.service} is stopped or under a debugger; its event loops stand "
            "still, and nobody's code is to blame.",
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
            f"Process {watched.cell.pid} of {watched.service} is gone without closing its event loop: killed, out of "
            f"memory, or crashed.{last}",
        )
        self._ease(conventions.EVENT_LOOP_DEAD, watched, now, DEAD_FOR_NS)
        self.parted(watched, now)

    def silent(self, watched: Watched, now: int, why: str) -> None:
        """Its process lives, and nothing is heard of the loop."""
        self._hold(
            conventions.EVENT_LOOP_SILENT,
            watched,
            now,
            f"Nothing is heard of an event loop of {watched.service} (pid {watched.cell.pid}), still alive: {why}. "
            "Its stalls would not be seen.",
        )
        self._ease(conventions.EVENT_LOOP_SILENT, watched, now, DEAD_FOR_NS)
        self.parted(watched, now)

    def saturated(self, watched: Watched, now: int, found: Saturation) -> None:
        """Its timer is late again and again."""
        shares = ", ".join(f"{printable(tenant)} {share:.0%}" for tenant, share in found.shares)
        self._hold(
            conventions.EVENT_LOOP_SATURATED,
            watched,
            now,
            f"An event loop of {watched.service} (pid {watched.cell.pid}) has more to do than time: what is due waits "
            f"{found.lateness_ns / 1e9:.2f} s, and no single callback is to blame. Largest shares: {shares}.",
            printable(found.shares[0][0]) if found.shares else _UNKNOWN,
        )

    def relieved(self, watched: Watched, now: int) -> None:
        """Its timer is on time again."""
        self._ease(conventions.EVENT_LOOP_SATURATED, watched, now)

    def parted(self, watched: Watched, now: int) -> None:
        """It is watched no more: what it bore out is not known any longer."""
        self._ease(conventions.EVENT_LOOP_STOPPED, watched, now)
        self._ease(conventions.EVENT_LOOP_SATURATED, watched, now)

    def _hold(self, name: str, watched: Watched, now: int, summary: str, tenant: str = _UNKNOWN) -> None:
        def alert() -> Alert:
            return alert_about(
                name, tenant, watched.service, watched.instance, summary, self._wall(), self._runbook_url
            )

        self._verdicts.hold(_key(name, watched), watched.cell.loop_id, now, alert)

    def _ease(self, name: str, watched: Watched, now: int, quiet_ns: int = 0) -> None:
        self._verdicts.ease(_key(name, watched), watched.cell.loop_id, now, quiet_ns)


def _key(name: str, watched: Watched) -> Key:
    return name, watched.cell.pid, watched.cell.process_start
