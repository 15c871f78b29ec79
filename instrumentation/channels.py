"""Whether gRPC may be used: not in a process that was forked after its parent used it.

gRPC's core has threads and locks of its own. A child that is forked while one of them is held finds it held for ever,
and what waits for it holds Python's global lock meanwhile: the whole child stands still, beyond the reach of any
time-out. It was seen once in 36 runs on a busy machine. No telemetry is worth that.
"""

from __future__ import annotations

_used = False
_forbidden = False


def opening() -> None:
    """To be called before each channel is made."""
    global _used
    _used = True


def after_fork() -> None:
    """In a forked child."""
    global _forbidden
    _forbidden = _used


def forbidden() -> bool:
    """Whether this process must not make a channel."""
    return _forbidden
