"""A loop under watch: what the watchdog knows of it between two looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sidecar.alerts import printable
from sidecar.wire import cell as layout

from .cell import Cell, RefusedError
from .pressure import Pressure
from .stall import Stall, place
from .standing import Starvation

_MOMENT_NS: Final = 1_000_000_000


@dataclass(slots=True)
class Watched:
    """A loop under watch.

    Attributes:
        stream: who announced it.
        host: as its process calls it.
        party: the client who announced it, by name, if it is to leave room for others; empty otherwise.
        leaving: why it is to be watched no more; set by any thread, acted upon by the next look.
        cut_off: whether its stream is gone; set by any thread.
        cut_off_at: when a look found that, None while there is a stream.
        held: whether the last look found its process stopped.
        excused_until: nothing is overdue before this plus its threshold: the process was held.
        look_at: when to look at the cell again; a time in the past for as soon as possible.
        check_at: when to look the process up in the system.
        pressure: how late its timer is; None before the first look.
        beat: when its timer ran, at the last look.
        long_slices: how many of its long slices were judged; None before the first look.
        judged_until: when the last of them ended.
        stalled: the last slice that was a stall, as `RUNNING` had it.
        unreadable: why stacks cannot be read from its process's memory; empty when they can; set by any thread.
    """

    service: str
    instance: str
    cell: Cell
    stream: object
    host: str = ""
    party: str = ""
    leaving: str | None = None
    cut_off: bool = False
    cut_off_at: int | None = None
    stall: Stall | None = None
    held: bool = False
    excused_until: int = 0
    look_at: int = 0
    check_at: int = 0
    pressure: Pressure | None = None
    beat: int = -1
    long_slices: int | None = None
    judged_until: int = 0
    stalled: int = 0
    unreadable: str = ""
    starvation: Starvation = field(default_factory=Starvation)

    def go_on_from(self, before: Watched) -> None:
        """The same loop, announced again."""
        self.stall = before.stall
        self.stalled = before.stalled
        self.starvation = before.starvation
        self.held = before.held
        self.excused_until = before.excused_until
        self.long_slices = before.long_slices
        self.judged_until = before.judged_until

    @property
    def place(self) -> str:
        """Which process, for people."""
        return place(self.cell.pid, self.host)

    def just_cut_off(self, now: int) -> bool:
        """Whether its stream ended a moment ago: the sockets of a killed process are closed before it is gone."""
        return self.cut_off and (self.cut_off_at is None or now - self.cut_off_at < _MOMENT_NS)

    def holder(self) -> str | None:
        """The tenant of the running slice; None without one."""
        try:
            running = self.cell.header()[layout.RUNNING]
            return printable(self.cell.whose(running)) if running else None
        except RefusedError:
            return None

    def quiet_since(self) -> int:
        """When it was last heard of in any way."""
        return max(self.cell.heard(), self.excused_until, self.cut_off_at or 0)
