"""Which process is this? Both sides of the cell tell a process from a later one with the same pid by its start time.

Linux only: without `/proc` there is no answer, and nothing that depends on it is trusted.
"""

from __future__ import annotations

import os
from pathlib import Path


def stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time (fields 3 and 22 of `/proc/<pid>/stat`) of a process; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the command in parentheses, and may itself hold spaces and parentheses.
    fields = text[text.rfind(b")") + 2 :].split()
    return fields[0].decode("ascii"), int(fields[19])


def own_start() -> int:
    """Start time of this process; 0 when the system does not tell."""
    found = stat(os.getpid())
    return 0 if found is None else found[1]
