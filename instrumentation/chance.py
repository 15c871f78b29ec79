"""Random numbers of our own: the generator of `random` is the application's, which may have seeded it.

What it refuses: to give a forked child the numbers of its parent, which would be ids that two processes share.
"""

from __future__ import annotations

import os
import random
from typing import Final

_OWN: Final = random.Random()  # noqa: S311  # seeded by the system; nothing secret is made of it
os.register_at_fork(after_in_child=_OWN.seed)

#: Between two numbers, as `random.uniform`.
between: Final = _OWN.uniform


def span_id() -> int:
    """64 bits, never all 0, which OpenTelemetry takes for no id."""
    return _OWN.getrandbits(64) or 1


def trace_id() -> int:
    """128 bits, never all 0."""
    return _OWN.getrandbits(128) or 1
