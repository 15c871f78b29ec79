"""The lines about what hangs, what fires, who made whom wait, and what hung before; the most urgent first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.text import Text

from tenantscope.view.stalls import application_frames, frame
from tenantscope.view.status import Alert, Stall, Status
from tenantscope.view.tenants import longest_waits
from tenantscope.view.words import duration, more, short

_MOST: Final = 3  # of each kind
_FRAMES: Final = 3
_WIDE: Final = 72  # columns from which on a frame shows its folder


def news(status: Status, width: int, lines: int) -> list[Text]:
    """At most `lines` of them, for a terminal of `width` columns."""
    told = [*_lasting(status, width), *_alarms(status), *_waits(status), *_over(status)]
    told = told or [Text("○ no stall yet", "dim")]
    return told if len(told) <= lines else [*told[: lines - 1], Text("…", "dim")]


def firing(changes: Iterable[Alert]) -> list[Alert]:
    """The alerts whose last change was to fire; they are told apart by their labels."""
    last = {tuple(sorted(change.labels.items())): change for change in changes}
    return [change for change in last.values() if change.status == "firing"]


def _lasting(status: Status, width: int) -> list[Text]:
    stalls = [stall for stall in status.stalls if stall.active]
    lines = []
    for stall in stalls[-_MOST:]:
        lines.append(
            Text.assemble(
                ("● ", "bold red"),
                (short(stall.tenant), "bold red"),
                f" holds a loop of {short(stall.service)}, pid {stall.pid}: ",
                (duration(stall.seconds), "bold red"),
            )
        )
        lines += _stack(stall, width)
    return lines + more(len(stalls) - _MOST, "stalls that last")


def _stack(stall: Stall, width: int) -> list[Text]:
    frames = application_frames(stall.stack, _FRAMES)
    if not frames:
        return [Text(f"    no stack: {stall.stack_unavailable or 'being asked for'}", "dim")]
    lines = [f"    {frame(text, 2 if width >= _WIDE else 1)}" for text in frames]
    return [*(Text(line, "dim") for line in lines[:-1]), Text(lines[-1])]


def _alarms(status: Status) -> list[Text]:
    alarms = firing(status.alerts)
    lines = [
        Text.assemble(
            ("▲ ", "bold red"),
            (alarm.name, "bold red"),
            f" since {alarm.starts_at[11:19]} UTC: ",
            ", ".join(f"{name} {short(value)}" for name, value in alarm.labels.items() if name != "alertname"),
        )
        for alarm in alarms[-_MOST:]
    ]
    return lines + more(len(alarms) - _MOST, "alerts that fire")


def _waits(status: Status) -> list[Text]:
    return [
        Text.assemble(
            ("→ ", "dim"), (short(pair.culprit), "cyan"), " made ", (short(pair.victim), "cyan"),
            f" wait {duration(pair.seconds)} in all",
        )
        for pair in longest_waits(status)[:_MOST]
    ]  # fmt: skip


def _over(status: Status) -> list[Text]:
    stalls = [stall for stall in status.stalls if not stall.active]
    return [_past(stall) for stall in stalls[: -_MOST - 1 : -1]] + more(len(stalls) - _MOST, "stalls before")


def _past(stall: Stall) -> Text:
    line = Text.assemble(("○ ", "dim"), (short(stall.tenant), "cyan"), f" held a loop for {duration(stall.seconds)}")
    if stall.victims:
        others = f" and {len(stall.victims) - 1} more" if len(stall.victims) > 1 else ""
        line.append(f"; {short(stall.victims[0])}{others} waited")
    frames = application_frames(stall.stack, 1)
    return line.append(f"; {frame(frames[-1], 1)}", "dim") if frames else line
