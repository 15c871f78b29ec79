"""What adds up for a tenant at the loops under watch: turns over their budget, and waits longer than its tier's target.

`TurnBudgetExceeded` holds when a turn of the tenant went over its budget, until none did for a minute.
`TenantLoopDelayHigh` holds when for a minute on end more than 1 % of the tenant's waits of the last 30 s were longer
than the target, until for a minute on end that was not so.

A wait is what `autogen.tenant.loop.delay` counts: a piece of ready work that stood behind another tenant's slice of
5 ms or more. Both verdicts are of one process, over all its loops. Inside a bucket of the histogram the waits are taken
to be spread evenly, as Prometheus does.

What it refuses: to name more than `MAX_HELD` tenants for one thing at a time (the others are counted), and to tell a
tenant's id to anybody but the table of limits: people are told the name that the policy allows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sidecar import conventions
from sidecar.alerts import Alert, printable
from sidecar.wire import cell as layout
from sidecar.wire.limits import Limits

from .cell import CellReader, ProcessKey, RefusedError, holders_in
from .verdict import Key, Verdicts, alert_about
from .watched import Watched

LOOK_NS: Final = 1_000_000_000
STEP_NS: Final = 5_000_000_000
STEPS: Final = 6  # of STEP_NS each: the window of the delay target
HOLD_NS: Final = 60_000_000_000
QUIET_NS: Final = 60_000_000_000
MAX_HELD: Final = 100
_ALLOWED: Final = 0.01  # share of the waits that may be longer than the target: its name is p99

_PROCESS: Final = 0  # who bears these verdicts out: the process, not one of its loops
_Loop = tuple[ProcessKey, int]  # and the loop's id


@dataclass(slots=True)
class _Waits:
    """Of one tenant in one process.

    Attributes:
        steps: (waits, those above the target) of the last steps.
        above_since: when more than allowed were above, at every look since; None: they were not at the last look.
        about: a loop that it waited at.
    """

    about: Watched
    target: float
    tenant: str
    steps: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=STEPS))
    above_since: int | None = None

    def share(self) -> float:
        """Of the window's waits, those above the target."""
        waits = sum(count for count, _ in self.steps)
        return sum(above for _, above in self.steps) / waits if waits else 0.0


@dataclass(slots=True)
class _Seen:
    """What a loop's cell said before: who has each slot, words by holder, and cumulative (waits, above) by holder."""

    overruns: dict[int, tuple[int, int]] = field(default_factory=dict)
    waits: dict[int, int] = field(default_factory=dict)
    delays: dict[int, tuple[int, float]] = field(default_factory=dict)


class TenantWatch:
    """Looks at the tenants' totals now and then. Pure: time is an argument; used by one thread.

    Args:
        limits: the table of limits; None watches budgets only.
        wall: the present time, for the alerts.
        runbook_url: base URL of the runbooks, or empty.
        withheld: told the name of an alert that was not raised, because too many are.
    """

    def __init__(
        self,
        limits: Limits | None,
        wall: Callable[[], datetime],
        runbook_url: str = "",
        withheld: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.use(limits)
        self._wall = wall
        self._runbook_url = runbook_url
        self._withheld = withheld
        self._verdicts = Verdicts(wall)
        self._held: dict[str, set[Key]] = {name: set() for name in conventions.TENANT_ALERTS}
        self._seen: dict[_Loop, _Seen] = {}
        self._waits: dict[Key, _Waits] = {}
        self._began = self._look_at = 0
        self._step_at = 0

    def use(self, limits: Limits | None) -> None:
        """Go by another table from now on; may be called from another thread."""
        self._limits = limits

    @property
    def _targets(self) -> bool:
        limits = self._limits
        return limits is not None and any(tier.delay_p99 is not None for tier in limits.tiers.values())

    def look(self, loops: Iterable[Watched], now: int) -> list[Alert]:
        """The alerts that follow from what the loops say now, in order. Looks once a second, whenever it is asked."""
        if now < self._look_at:
            return []
        self._began = now if self._look_at == 0 else self._began
        self._look_at = now + LOOK_NS
        is_step = self._targets and now >= self._step_at
        if is_step:
            self._step_at = now + STEP_NS
            for waits in self._waits.values():
                waits.steps.append((0, 0.0))
        present = set()
        for watched in loops:
            cell = watched.cell
            if not isinstance(cell, CellReader):  # heartbeats tell none of this
                continue
            loop = _loop(watched)
            present.add(loop)
            try:
                self._read(loop, watched, cell, now, is_step)
            except RefusedError:
                continue  # the poll parts with it
        if self._seen.keys() - present:
            self._part({loop: seen for loop, seen in self._seen.items() if loop in present}, now)
        if is_step:
            self._judge(now)
        alerts = self._verdicts.changes(now)
        for alert in alerts:
            if alert.status == "resolved":
                self._held[alert.name] = set(filter(self._verdicts.holds, self._held[alert.name]))
        return alerts

    def _part(self, left: dict[_Loop, _Seen], now: int) -> None:
        """Only these loops are left: what was said of a process without any is over."""
        self._seen = left
        processes = {process for process, _ in left}
        self._waits = {key: waits for key, waits in self._waits.items() if key[1] in processes}
        for held in self._held.values():
            for key in held:
                if key[1] not in processes:
                    self._verdicts.ease(key, _PROCESS, now)

    def _read(self, loop: _Loop, watched: Watched, cell: CellReader, now: int, is_step: bool) -> None:
        words = cell.slot_words()
        if not words:
            return
        step = layout.SLOT_WORDS
        holders = holders_in(words)
        overran = zip(words[layout.TURN_OVERRUNS :: step], words[layout.LOOP_OVERRUNS :: step], strict=True)
        overruns = {holder: pair for holder, pair in zip(holders, overran, strict=True) if any(pair)}
        waits_now = {holder: waits for holder, waits in zip(holders, words[layout.WAITS :: step], strict=True) if waits}
        seen = self._seen.get(loop)
        if seen is None:
            seen = self._seen[loop] = _Seen()
            if cell.header()[layout.CREATED] < self._began:  # what happened before we came is not news
                seen.overruns, seen.waits = overruns, waits_now
                for holder in waits_now if self._targets else ():
                    self._delays(cell, seen, holder)
                return
        if overruns != seen.overruns:
            self._overran(watched, seen, overruns, now)
            seen.overruns = overruns
        if is_step and waits_now != seen.waits:
            for holder, waits in waits_now.items():
                if waits != seen.waits.get(holder, 0):
                    self._waited(watched, cell, seen, holder)
            seen.waits = waits_now
            for holder in seen.delays.keys() - waits_now.keys():  # who has lost the slot
                del seen.delays[holder]

    # Turn budgets ---------------------------------------------------------------------------------------------------
    def _overran(self, watched: Watched, seen: _Seen, overruns: dict[int, tuple[int, int]], now: int) -> None:
        for holder, counts in overruns.items():
            grown = [after - before for after, before in zip(counts, seen.overruns.get(holder, (0, 0)), strict=True)]
            if max(grown) > 0:
                tenant = printable(watched.cell.name(holder))
                summary = (
                    f"A turn of tenant {tenant} on {watched.service} (pid {watched.cell.pid}) is over its budget of "
                    f"{' and of '.join(what for what, more in zip(_BUDGETS, grown, strict=True) if more > 0)}."
                )
                key = _key(conventions.TURN_BUDGET_EXCEEDED, watched, holder)
                if self._hold(conventions.TURN_BUDGET_EXCEEDED, key, watched, tenant, summary, now):
                    self._verdicts.ease(key, _PROCESS, now, QUIET_NS)

    # Delay targets --------------------------------------------------------------------------------------------------
    def _waited(self, watched: Watched, cell: CellReader, seen: _Seen, holder: int) -> None:
        before = seen.delays.get(holder, (0, 0.0))
        after = self._delays(cell, seen, holder)
        if after is None:
            return
        target, count, above = after
        key = _key(conventions.TENANT_LOOP_DELAY_HIGH, watched, holder)
        waits = self._waits.get(key)
        if waits is None:
            waits = self._waits[key] = _Waits(watched, target, "")
            waits.steps.append((0, 0.0))
        waits.about, waits.target, waits.tenant = watched, target, printable(cell.name(holder))
        step = waits.steps[-1]
        waits.steps[-1] = (step[0] + max(0, count - before[0]), step[1] + max(0.0, above - before[1]))

    def _delays(self, cell: CellReader, seen: _Seen, holder: int) -> tuple[float, int, float] | None:
        """Target, waits so far and those above it; None for a tenant without a target."""
        limits = self._limits
        tier = None if limits is None else limits.of(cell.tenant_id(holder))
        if tier is None or tier.delay_p99 is None:
            return None
        counts = cell.delays(holder)
        if counts is None:
            return None
        above = above_target(counts, tier.delay_p99)
        seen.delays[holder] = sum(counts), above
        return tier.delay_p99, sum(counts), above

    def _judge(self, now: int) -> None:
        worst_first = sorted(self._waits.items(), key=lambda entry: entry[1].share(), reverse=True)
        for key, waits in worst_first:
            share = waits.share()
            held = key in self._held[conventions.TENANT_LOOP_DELAY_HIGH]
            if share > _ALLOWED:
                waits.above_since = now if waits.above_since is None else waits.above_since
                if held or now - waits.above_since >= HOLD_NS:
                    watched = waits.about
                    summary = (
                        f"Tenant {waits.tenant} waits for an event loop of {watched.service} (pid {watched.cell.pid}): "
                        f"{share:.1%} of its waits of the last {STEPS * STEP_NS / 1e9:.0f} s were longer than "
                        f"{waits.target * 1000:g} ms, and 1 % may be. Other tenants held the loop."
                    )
                    self._hold(conventions.TENANT_LOOP_DELAY_HIGH, key, watched, waits.tenant, summary, now)
                continue
            waits.above_since = None
            if held:
                self._verdicts.ease(key, _PROCESS, now, HOLD_NS)
            elif not any(count for count, _ in waits.steps):
                del self._waits[key]

    def _hold(self, name: str, key: Key, watched: Watched, tenant: str, summary: str, now: int) -> bool:
        """Whether the verdict holds: not when too many do."""
        held = self._held[name]
        if key not in held and len(held) >= MAX_HELD:
            self._withheld(name)
            return False
        held.add(key)
        self._verdicts.hold(
            key,
            _PROCESS,
            now,
            lambda: alert_about(
                name, tenant, watched.service, watched.instance, summary, self._wall(), self._runbook_url
            ),
        )
        return True


_BUDGETS: Final = ("wall time", "event-loop time")


def above_target(counts: tuple[int, ...], target: float) -> float:
    """How many of the waits in a histogram (`layout.DELAY_BOUNDS_NS`) were longer than `target` seconds.

    Inside the bucket that holds the target they are taken to be spread evenly; beyond the last bound, all are longer.
    """
    target_ns = target * 1e9
    bounds = layout.DELAY_BOUNDS_NS
    bucket = bisect_left(bounds, target_ns)
    above = float(sum(counts[bucket + 1 :]))
    if bucket == len(bounds):
        return float(counts[-1])
    low = bounds[bucket - 1] if bucket else 0
    return above + counts[bucket] * (bounds[bucket] - target_ns) / (bounds[bucket] - low)


def _loop(watched: Watched) -> _Loop:
    return watched.cell.process, watched.cell.loop_id


def _key(name: str, watched: Watched, holder: int) -> Key:
    # A holder is one tenant for as long as its process lives, in all its loops.
    return f"{name}/{holder}", watched.cell.process
