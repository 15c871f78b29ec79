"""How an alert reads in a message to a receiver: Alertmanager's terms, bounded and printable.

The evidence comes from another process. What it refuses: control characters (but the line breaks of a stack, which are
ours), text without a bound, and a label that Alertmanager would reject.
"""

from __future__ import annotations

from typing import Final

from sidecar import conventions

from .alert import Alert, printable
from .outbox import Notice

MAX_LABEL: Final = 256  # characters
MAX_ANNOTATION: Final = 2048
MAX_STACK: Final = 16_384


def shown_labels(alert: Alert) -> dict[str, str]:
    """The labels, with the severity; empty ones left out, for Alertmanager takes an empty label for none."""
    shown = {name: printable(value, MAX_LABEL) for name, value in alert.labels.items() if value}
    return {"severity": conventions.severity(alert.name), **shown}


def shown_annotations(notice: Notice) -> dict[str, str]:
    """The annotations, with the number of changes that are told only in sum."""
    shown = {
        name: _stack(value) if name == "stack" else printable(value, MAX_ANNOTATION)
        for name, value in notice.alert.annotations.items()
    }
    if notice.suppressed:
        shown["suppressed_changes"] = str(notice.suppressed)
    return shown


def _stack(text: str) -> str:
    lines = "\n".join(printable(line) for line in text.split("\n"))
    # The innermost frames come last, and say most.
    return lines if len(lines) <= MAX_STACK else "…" + lines[-MAX_STACK + 1 :]
