"""Draws the table of tenants, as wide as there is room for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.table import Table
from rich.text import Text

from .tenants import Row
from .words import duration

_BAR: Final = 12
_NAME: Final = 28  # columns that a tenant's name may take
_MUCH: Final = 0.15  # share of a loop that is worth a colour
_WAITING: Final = 0.1  # seconds of waiting per second that are


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    cell: Callable[[Row], Text]
    left: bool = False


def tenants_table(rows: Iterable[Row], columns: Sequence[str], room: int, give_up: Sequence[str] = ()) -> Table:
    """A table of `rows`.

    Args:
        columns: names of `COLUMNS`, from left to right.
        room: how wide it may become.
        give_up: what goes first when it is too wide; `bar` is the bar beside the share.
    """
    rows = list(rows)
    shown = {name: _drawn(name, rows) for name in columns}
    for name in give_up:
        if sum(map(_width, shown.values())) <= room:
            break
        if name == "bar" and "bar" in shown:
            shown = {("share" if key == "bar" else key): cells for key, cells in shown.items()}
            shown["share"] = _drawn("share", rows)
        else:
            shown.pop(name, None)
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in shown:
        table.add_column(
            COLUMNS[name].title, no_wrap=True, justify="left" if COLUMNS[name].left else "right", overflow="ellipsis"
        )
    for cells in zip(*(cells[1:] for cells in shown.values()), strict=True):
        table.add_row(*cells)
    return table


def _drawn(name: str, rows: Iterable[Row]) -> list[Text]:
    """A column, its title first."""
    column = COLUMNS[name]
    return [Text(column.title), *map(column.cell, rows)]


def _width(cells: Iterable[Text]) -> int:
    return max(cell.cell_len for cell in cells) + 2


def _name(row: Row) -> Text:
    name = Text(row.tenant, "bold red" if row.loop_share >= _MUCH else "cyan")
    name.truncate(_NAME, overflow="ellipsis")
    return name


def _share(row: Row) -> Text:
    return Text(f"{row.loop_share:6.1%}", "bold red" if row.loop_share >= _MUCH else "")


def _bar(row: Row) -> Text:
    full = min(_BAR, round(row.loop_share * _BAR))
    colour = "red" if row.loop_share >= _MUCH else "green"
    return Text.assemble(("━" * full, colour), ("─" * (_BAR - full), "bright_black"), " ", _share(row))


def _seconds(seconds: float, rate: float = 0.0) -> Text:
    return Text(f"{seconds:,.2f} s", "yellow" if rate >= _WAITING else "")


def _bad(count: int, style: str) -> Text:
    return Text(f"{count:,}", style if count else "")


COLUMNS: Final = {
    "tenant": _Column("tenant", _name, left=True),
    "bar": _Column("has the loop", _bar),
    "share": _Column("has the loop", _share),
    "loop": _Column("loop time", lambda row: _seconds(row.loop_seconds)),
    "waited": _Column("waited", lambda row: _seconds(row.delay_suffered_seconds, row.suffered_rate)),
    "made wait": _Column("made wait", lambda row: _seconds(row.delay_caused_seconds, row.caused_rate)),
    "queue": _Column("in queue", lambda row: Text(duration(row.queue_mean))),
    "waits": _Column("waits", lambda row: Text(f"{row.waits:,}")),
    "messages": _Column("messages", lambda row: Text(f"{row.messages:,}")),
    "messages/s": _Column("msgs/s", lambda row: Text(f"{row.messages_per_second:,.1f}")),
    "tokens": _Column("tokens", lambda row: Text(f"{row.tokens:,}")),
    "errors": _Column("errors", lambda row: _bad(row.errors, "yellow")),
    "spans": _Column("spans", lambda row: Text(f"{row.spans:,}")),
    "findings": _Column("findings", lambda row: _bad(row.findings, "bold red")),
}
