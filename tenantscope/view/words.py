"""Small words that every picture needs: durations, counts, names that may be long."""

from __future__ import annotations

from typing import Final

from rich.text import Text

_NAME: Final = 24


def duration(seconds: float) -> str:
    """`seconds` as `45 ms`, `1.2 s` or `310 s`."""
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:,.0f} s"


def counted(count: int, what: str) -> str:
    """`1 loop`, `2,000 loops`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def short(text: str) -> str:
    """A name, cut where it would push everything else off the line."""
    return text if len(text) <= _NAME else f"{text[: _NAME - 1]}…"


def more(left: int, what: str) -> list[Text]:
    """A line that says how many are not shown; none when all are."""
    return [Text(f" and {left:,} more {what}", "dim")] if left > 0 else []
