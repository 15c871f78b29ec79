"""What tenantscope says about itself: a count for everything it dropped or caught, and a log of its own.

The log is structlog's, written to standard error by this module alone: nothing passes through the application's
logging handlers, and no line holds more than names, numbers and exception *types*.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

_LINES_A_MINUTE: Final = 5

_counts: Counter[str] = Counter()
# Re-entered by finalizers and signal handlers, which run wherever the interpreter happens to be.
_lock = threading.RLock()
_log_context: Callable[[], dict[str, str]] | None = None


def count(reason: str, amount: int = 1) -> None:
    """Count a fault or a drop; read by the metric `tenantscope.faults` with `tenantscope.reason`. Never raises."""
    with _lock:
        _counts[reason] += amount


def counts() -> dict[str, int]:
    """All counts since the process started, by reason."""
    with _lock:
        return dict(_counts)


def after_fork() -> None:
    """In a forked child: the counts are the parent's, and another thread of it may have held the lock."""
    global _lock
    _lock = threading.RLock()
    _counts.clear()


def set_log_context(context: Callable[[], dict[str, str]] | None) -> None:
    """`context` yields the fields that every log line gets, such as `tenant.id`."""
    global _log_context
    _log_context = context


class _RateLimit:
    """At most `_LINES_A_MINUTE` lines an event; the next line that passes says how many did not."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.windows: dict[str, tuple[float, int]] = {}

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        name = str(event.get("event"))
        now = self._clock()
        began, lines = self.windows.get(name, (now, 0))
        if now - began >= 60:
            if lines > _LINES_A_MINUTE:
                event["suppressed"] = lines - _LINES_A_MINUTE
            began, lines = now, 0
        self.windows[name] = (began, lines + 1)
        if lines >= _LINES_A_MINUTE:
            raise structlog.DropEvent
        return event


def _add_context(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["logger"] = "tenantscope"
    if _log_context is not None:
        for key, value in _log_context().items():
            event.setdefault(key, value)
    return event


class _StandardError:
    """Finds `sys.stderr` anew for each line: the application, or a test, may have replaced it."""

    def msg(self, line: str) -> None:
        stream = sys.stderr
        try:
            if stream is None:  # a daemon without one; `print` would take standard output
                raise ValueError
            print(line, file=stream, flush=True)
        except Exception:  # closed, a pipe that nobody reads any more, or an object of the application's
            count("log.unwritable")

    debug = info = warning = error = critical = msg


_rate_limit = _RateLimit()
log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
    _StandardError(),
    processors=[
        _rate_limit,
        _add_context,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "logger", "event"], bool_as_flag=False),
    ],
    wrapper_class=structlog.make_filtering_bound_logger("info"),
)


def fault(where: str, error: BaseException) -> None:
    """An observer of ours failed: counted as `where`, logged by type at a limited rate.

    Raises:
        KeyboardInterrupt, SystemExit: `error` is one. Signal handlers raise them wherever the interpreter happens to
            be, also inside an observer, and they are meant for the application.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit):
        raise error
    try:
        count(f"fault.{where}")
        log.warning("observer failed, the event is dropped", where=where, error=type(error).__name__)
    except Exception:
        pass
