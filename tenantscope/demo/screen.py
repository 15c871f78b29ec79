"""Draws the demo: a banner, a table that stays live, a summary; all from a `Picture` and an `Outcome`.

Headless, or when the output is no terminal, the table gives way to a plain line every few seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tenantscope.view.stalls import frame
from tenantscope.view.status import WAYS_TO_END
from tenantscope.view.table import tenants_table
from tenantscope.view.tenants import Row

from .handover import CAST, VICTIM
from .outcome import Outcome
from .picture import Picture

_LINE_EVERY: Final = 3.0  # seconds between lines when there is no live table
_FRAMES: Final = 6
_COLUMNS: Final = ("tenant", "bar", "waited", "made wait", "messages", "tokens", "errors", "spans")
_GIVE_UP: Final = ("bar", "spans", "tokens")


class Screen:
    """One run's output.

    Args:
        headless: no live table even on a terminal.
    """

    def __init__(self, headless: bool) -> None:
        self._console = Console(highlight=False, file=sys.stdout)
        self._live: Live | None = None
        self._plain = headless or not self._console.is_terminal
        self._next_line = _LINE_EVERY
        self._url = ""

    def title(self) -> None:
        """The first line, before anything is started."""
        self._console.print(Text("tenantscope demo", "bold"), "· five tenants on one AutoGen runtime, one event loop")

    def banner(self, seconds: float, url: str) -> None:
        """What is about to be seen, and where else, in at most 15 lines.

        Args:
            url: the console's address.
        """
        self._url = url
        # Never wrapped, so that a terminal knows it for an address.
        self._console.print(Text.assemble("in a browser: ", (url, "bold underline"), "\n"), soft_wrap=True)
        cast = Table.grid(padding=(0, 2))
        for tenant, part in CAST.items():
            cast.add_row(Text(f"  {tenant}", "bold cyan"), part)
        self._console.print(cast)
        self._console.print(
            "\nSecrets are planted wherever the application keeps content, and searched for in\n"
            "all that leaves it, and in all that the sidecar keeps, says and shows.\n"
            "`waited`: how long a tenant's work was ready and stood behind that of others;\n"
            "`made wait`: how long theirs stood behind its own, summed up over all of them.\n"
            f"{seconds:g} seconds; Ctrl-C ends it sooner, `--seconds 300` gives it longer.\n"
        )

    def open(self) -> None:
        """Begin to draw."""
        if not self._plain:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()

    def close(self) -> None:
        """Stop drawing and leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """One line, above the table."""
        self._console.print(Text(text, "dim"))

    def draw(self, picture: Picture, elapsed: float, seconds: float, doing: str = "") -> None:
        """The picture of this moment, `elapsed` seconds into a run of `seconds`."""
        if self._live is not None:
            heading, table = (
                _heading(picture, elapsed, seconds, doing),
                self._table(picture.rows(recent=True)),
            )
            # Again, for a small terminal has scrolled the banner away.
            where = Text(f"in a browser: {self._url}", "dim", no_wrap=True, overflow="ellipsis")
            self._live.update(Group(heading, "", table, "", *_stall_lines(picture), where), refresh=True)
        elif elapsed >= self._next_line:
            self._next_line = elapsed + _LINE_EVERY
            self._console.print(_line(picture, elapsed, seconds))

    def failed(self, why: str) -> None:
        """The run could not be finished."""
        self.close()
        self._console.print(Text(f"FAILED: {why}", "bold red"), soft_wrap=True)

    def summary(self, outcome: Outcome) -> None:
        """What the run has shown."""
        self.close()
        self._console.print(self._table(outcome.picture.rows(recent=False)))
        facts = Table.grid(padding=(0, 2))
        facts.add_column(style="bold", no_wrap=True)
        facts.add_column()
        for name, fact in _facts(outcome):
            facts.add_row(name, fact)
        self._console.print(Padding(facts, (1, 1)))
        if outcome.kept is not None:
            self._console.print(f"Kept: {outcome.kept}\n", soft_wrap=True)
        if outcome.failures:
            for failure in outcome.failures:
                self.failed(failure)
        else:
            self._console.print(Text("OK: nothing leaked, and every record is accounted for.", "bold green"))

    def _table(self, rows: Iterable[Row]) -> Table:
        return tenants_table(rows, _COLUMNS, self._console.width, _GIVE_UP)


def _heading(picture: Picture, elapsed: float, seconds: float, doing: str) -> Text:
    traces = picture.records.get("traces", {})
    counts = "   ".join(f"{traces.get(word, 0):,} {word}" for word in ("received", "forwarded", "queued"))
    return Text.assemble(
        (doing or f"{min(elapsed, seconds):4.0f} s of {seconds:g} s", "bold"),
        "   ",
        (f"spans: {counts}", "dim"),
    )


def _stall_lines(picture: Picture) -> list[RenderableType]:
    active = [
        Text.assemble(
            ("● ", "bold red"),
            (stall.tenant, "bold red"),
            f" holds the loop, {stall.seconds:.2f} s: ",
            (frame(stall.stack[-1], 1) if stall.stack else "(its stack is being asked for)", "bold"),
        )
        for stall in picture.active_stalls[-3:]
    ]
    past = f"stalls so far: {len(picture.stalls)}, alerts: {len(picture.alerts)}" if picture.stalls else "no stall yet"
    return [*active, Text(f"○ {past}", "dim")]


def _line(picture: Picture, elapsed: float, seconds: float) -> Text:
    traces = picture.records.get("traces", {})
    top = max(picture.rows(recent=True), key=lambda row: row.loop_share, default=Row("nobody"))
    return Text(
        f"{elapsed:4.0f} s of {seconds:g} s   spans received {traces.get('received', 0):,}   "
        f"stalls {len(picture.stalls)}   most of the loop: {top.tenant}, {top.loop_share:.0%}"
    )


def _facts(outcome: Outcome) -> Iterable[tuple[str, RenderableType]]:
    picture = outcome.picture
    yield "Longest stall", _longest_stall(picture)
    calls = len(outcome.report.blocked)
    yield "", f"stalls in all: {len(picture.stalls)}; the application made {calls} blocking calls"
    if outcome.round_trips:
        median, worst = outcome.round_trips
        told = f" got answers after {median * 1e3:.1f} ms (median) to {worst * 1e3:,.0f} ms (worst)"
        yield "The victim", Text.assemble((VICTIM, "cyan"), told)
    yield "Records", _records(picture)
    findings = [f"{found.rule}: {found.count} x {found.tenant}" for found in picture.findings]
    yield "Findings", ", ".join(findings) or "none"
    leaked = len(outcome.leaked)
    yield (
        "Secrets",
        Text.assemble(
            f"{outcome.planted:,} planted, ",
            (f"{leaked:,} leaked", "bold red" if leaked else "bold green"),
            f"; {sum(outcome.searched.values()) / 1e6:,.1f} MB searched in {len(outcome.searched)} places",
        ),
    )
    for canary, where in list(outcome.leaked.items())[:_FRAMES]:
        yield "", Text(f"{canary}: {where}", "red")


def _records(picture: Picture) -> RenderableType:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column()
    for word in ("received", "= forwarded", "+ rejected", "+ dropped", "+ queued"):
        table.add_column(word, justify="right", no_wrap=True)
    for signal, counts in picture.records.items():
        table.add_row(signal, *(f"{counts.get(word, 0):,}" for word in ("received", *WAYS_TO_END)))
    return table


def _longest_stall(picture: Picture) -> RenderableType:
    stall = picture.longest_stall
    if stall is None:
        return "none was seen"
    told = Text.assemble(
        (stall.tenant, "bold red"),
        f" held the loop for {stall.seconds:.2f} s; seen after {stall.detected_after_ms:.0f} ms",
    )
    frames = [Text(f"  {frame(text)}", "dim") for text in stall.stack[-_FRAMES:-1]]
    frames += [Text(f"  {frame(text)}", "bold") for text in stall.stack[-1:]]
    return Group(told, *(frames or [Text(f"  no stack: {stall.stack_unavailable}", "dim")]))
