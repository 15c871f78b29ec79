"""Draws a `Look`: header, loops, tenants, stalls, alerts; as many rows of each as there is room for.

Everything is a fixed number of lines, none is wrapped, so that the picture always fits and never jumps.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tenantscope.view.status import WAYS_TO_END, Loop, Status
from tenantscope.view.table import tenants_table
from tenantscope.view.tenants import Row
from tenantscope.view.words import counted, duration, more, short

from .news import firing, news
from .poller import Look

ORDERS: Final[dict[str, Callable[[Row], tuple[float, ...]]]] = {
    "share": lambda row: (row.loop_share, row.loop_seconds),
    "waited": lambda row: (row.delay_suffered_seconds,),
    "made-wait": lambda row: (row.delay_caused_seconds,),
    "messages": lambda row: (row.messages_per_second, row.messages),
    "errors": lambda row: (row.errors,),
}
_COLUMNS: Final = ("tenant", "bar", "loop", "waited", "made wait", "waits", "queue", "messages/s", "errors", "tokens")
_GIVE_UP: Final = ("tokens", "waits", "loop", "bar", "errors", "queue", "messages/s")
_BUSY: Final = 0.9  # utilisation of a loop that is worth a colour
_HELD: Final = 0.1  # seconds that a slice may take before it is
_SILENT: Final = 1.0  # seconds without a heartbeat that are; it comes every 0.05
_MARKS: Final = {"cell_alone": "*", "heartbeats": "~"}  # of loops that are watched in a lesser way
_NARROW: Final = 72  # columns of a terminal below which names are cut short
_LOOP_NARROW: Final = 15  # columns for a loop's name then
_HOLDER: Final = 18  # and at least so many for who has it


@dataclass(frozen=True, slots=True)
class View:
    """How to look.

    Attributes:
        order: a key of `ORDERS`.
        tenants: a pattern as a shell has it; tenants that it does not match have no row.
        paused: whether this picture stands still.
        keys: whether there are keys to tell about.
    """

    order: str = "share"
    tenants: str = "*"
    paused: bool = False
    keys: bool = False


def sorted_rows(look: Look, view: View) -> list[Row]:
    """The tenants to be shown, the first first."""
    rank = ORDERS[view.order]
    chosen = [row for row in look.rows if fnmatch.fnmatchcase(row.tenant, view.tenants)]
    return sorted(chosen, key=lambda row: (*(-number for number in rank(row)), row.tenant))


def draw(look: Look, view: View, where: str, now: float, width: int, height: int) -> RenderableType:
    """The picture.

    Args:
        where: the sidecar's address.
        now: seconds of the clock that `Look.answered_at` is of.
        width: columns of the terminal.
        height: lines of the terminal.
    """
    if look.status is None:
        return _clipped(_waiting(look, where, view, height), width)
    header, footer = _header(look, look.status, view, where, now), _footer(view)
    below = news(look.status, width, max(1, height // 3))
    found = look.status.loops
    limits = _limits(found)
    room = height - len(header) - len(below) - len(footer) - len(limits) - 5  # blank lines, headings of two tables
    loops = _most(len(found), max(2, room // 4))
    more_loops = more(len(found) - loops, "loops")
    rows = sorted_rows(look, view)
    shown = _most(len(rows), max(2, room - loops - len(more_loops)))
    more_rows = more(len(rows) - shown, "tenants")
    body: list[RenderableType] = [
        *header,
        Text(),
        _loop_table(look, found[:loops], width),
        *more_loops,
        *limits,
        Text(),
        tenants_table(rows[:shown], _columns(rows), width, _GIVE_UP),
        *more_rows,
        Text(),
        *below,
    ]
    free = room - loops - len(more_loops) - shown - len(more_rows)
    return _clipped([*body, *(Text() for _ in range(free if footer else 0)), *footer], width)


def _most(there: int, room: int) -> int:
    """How many rows to show when one line of the room must say how many more there are."""
    return there if there <= room else room - 1


def _clipped(parts: Iterable[RenderableType], width: int) -> Group:
    fitting = []
    for part in parts:
        if isinstance(part, Text):
            part.no_wrap = True
            part.truncate(width, overflow="ellipsis")
        fitting.append(part)
    return Group(*fitting)


def _columns(rows: Iterable[Row]) -> Sequence[str]:
    """With the findings when there are any: they are rare, and nothing matters more."""
    return (*_COLUMNS, "findings") if any(row.findings for row in rows) else _COLUMNS


def _header(look: Look, status: Status, view: View, where: str, now: float) -> list[Text]:
    stalled, alarms = sum(stall.active for stall in status.stalls), len(firing(status.alerts))
    lines = [
        Text.assemble(
            ("PAUSED  ", "bold yellow") if view.paused else "",
            ("tenantscope", "bold"),
            f" {status.version}, sidecar pid {status.pid} at {where.removeprefix('http://')}",
            f" → {status.destination}" if status.destination else "",
        ),
        _records(status),
        Text.assemble(
            f"{counted(len(status.loops), 'loop')}, {counted(len(look.rows), 'tenant')}, ",
            (f"{counted(stalled, 'stall')} now, ", "bold red" if stalled else ""),
            (f"{counted(alarms, 'alert')} firing", "bold red" if alarms else ""),
        ),
    ]
    if look.error:
        lines.append(Text(f"no answer for {duration(max(0.0, now - look.answered_at))}: {look.error}", "bold yellow"))
    if status.store_fault:
        what = f"the store cannot be read ({status.store_fault})"
        lines.append(Text(f"{what}: totals and findings are missing", "bold yellow"))
    if status.faults:
        what = counted(status.faults, "value")
        lines.append(Text(f"{what} of the status made no sense and count as empty", "yellow"))
    return lines


def _records(status: Status) -> Text:
    sums = {word: sum(counts.get(word, 0) for counts in status.records.values()) for word in ("received", *WAYS_TO_END)}
    line = Text(f"{counted(sums['received'], 'record')} received")
    for word in WAYS_TO_END:
        if sums[word] or word in ("forwarded", "dropped"):
            line.append(f", {sums[word]:,} {word}", "yellow" if sums[word] and word in ("rejected", "dropped") else "")
    return line


def _loop_table(look: Look, loops: Iterable[Loop], width: int) -> Table:
    narrow = width < _NARROW
    name = _LOOP_NARROW if narrow else width // 3
    # What the other columns leave; they have numbers of known length.
    holder = max(_HOLDER, width - name - (27 if narrow else 31))
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("loop of", no_wrap=True, overflow="ellipsis", max_width=name)
    table.add_column("pid", justify="right", no_wrap=True)
    table.add_column("who has it now", no_wrap=True, overflow="ellipsis", min_width=_HOLDER, max_width=holder)
    table.add_column("busy", justify="right", no_wrap=True, min_width=4)
    table.add_column("beat" if narrow else "heartbeat", justify="right", no_wrap=True, min_width=6 if narrow else 10)
    for loop in loops:
        busy = look.utilization.get(loop.key)
        age = f"{duration(loop.heartbeat_age_seconds)}{'' if narrow else ' ago'}{_MARKS.get(loop.mode, '')}"
        table.add_row(
            Text.assemble(loop.service or "?", ("" if narrow else f" {loop.instance[:8]}", "dim")),
            str(loop.pid),
            _holder(loop, holder),
            Text("" if busy is None else f"{busy:.0%}", "bold red" if (busy or 0) >= _BUSY else ""),
            Text(age, "yellow" if loop.heartbeat_age_seconds >= _SILENT else "dim"),
        )
    return table


def _limits(loops: Iterable[Loop]) -> list[Text]:
    """What the way in which some of the loops are watched cannot tell."""
    found = {loop.mode: loop.cannot for loop in loops if loop.cannot}
    return [
        Text(f" {_MARKS.get(mode, '')} {mode.replace('_', ' ')}: {'; '.join(cannot)}", "dim")
        for mode, cannot in sorted(found.items())[: len(_MARKS)]
    ]


def _holder(loop: Loop, room: int) -> Text:
    """Who, and for how long: a long name is cut, the time is not."""
    if loop.running is None:
        return Text("idle", "dim")
    held = loop.running.seconds >= _HELD
    since = f" {duration(loop.running.seconds)}"
    name = Text(loop.running.tenant, "bold red" if held else "cyan")
    name.truncate(max(1, room - len(since)), overflow="ellipsis")
    return name.append(since, "bold red" if held else "")


def _footer(view: View) -> list[Text]:
    if not view.keys:
        return []
    order = f"sorted by {view.order}" + ("" if view.tenants == "*" else f", tenants {short(ascii(view.tenants))}")
    return [
        Text.assemble(("q", "bold"), " quit  ", ("s", "bold"), " sort  ", ("p", "bold"), " pause   ", (order, "dim"))
    ]


def _waiting(look: Look, where: str, view: View, height: int) -> list[Text]:
    lines = [Text(f"asking the sidecar at {where} …", "dim")]
    if look.error:
        lines = [*map(Text, absent(look.error, where)), Text(), Text("Asking again until it does.", "dim")]
    footer = _footer(view)
    return [*lines, *(Text() for _ in range(height - len(lines) - len(footer) if footer else 0)), *footer]


def absent(error: str, where: str) -> list[str]:
    """What to say when there is no sidecar, and what to do then."""
    return [
        f"The sidecar at {where} does not answer: {error}.",
        "  start one here    tenantscope sidecar",
        "  another address   tenantscope top --admin http://127.0.0.1:PORT",
        "  another machine   ssh -L 8889:127.0.0.1:8889 HOST, then tenantscope top",
    ]
