"""The sidecar's log: one logfmt line an event on standard error, through structlog.

What it refuses: control characters, line breaks and direction overrides in values (they are escaped,
so no line can be forged), and to take the sidecar down when nobody reads standard error any more.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import structlog

from .alerts import printable

MAX_VALUE: Final = 4096  # characters


def configure() -> None:
    """Send every `structlog.get_logger(...)` of this process there. For the process's entry point alone."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            escape_values,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: _StandardError(),
        cache_logger_on_first_use=True,
    )


def escape_values(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: make every value one printable line."""
    for key, value in event.items():
        if not isinstance(value, bool | int | float | None):
            event[key] = printable(str(value), MAX_VALUE)
    return event


class _StandardError:
    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed, or a pipe without a reader
            print(line, file=sys.stderr, flush=True)

    debug = info = warning = error = critical = msg
