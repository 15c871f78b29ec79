"""Does a process run, or is it held for a reason that is nobody's fault?"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Final

from sidecar.wire import process

_TRACER: Final = re.compile(rb"^TracerPid:\t(\d+)$", re.MULTILINE)


class Standing(Enum):
    """What the system says of a process."""

    RUNS = "runs"
    HELD = "held"  # stopped by a signal, or under a debugger
    GONE = "gone"


def standing(pid: int, start: int) -> Standing:
    """Of the process with this pid and start time; a later process with the same pid is another one."""
    found = process.stat(pid)
    if found is None or found[1] != start or found[0] in "ZX":
        return Standing.GONE
    if found[0] in "Tt":
        return Standing.HELD
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return Standing.GONE
    tracer = _TRACER.search(status)
    return Standing.HELD if tracer is not None and tracer[1] != b"0" else Standing.RUNS
