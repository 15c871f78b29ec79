"""Is a process frozen, as `docker pause` and a suspended pod do it? Its state does not tell: it looks as if it slept.

Its control group tells, in both versions of them, where its files can be seen from here. What it refuses: to say that a
process is frozen when that cannot be looked up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sidecar.wire import process

ROOT: Final = Path("/sys/fs/cgroup")
_SECOND: Final = (ROOT, ROOT / "unified")  # where version 2 is mounted, alone or beside version 1
_FIRST: Final = ROOT / "freezer"


def frozen(pid: int) -> bool:
    """Whether it is, or is about to be."""
    try:
        groups = process.read(f"/proc/{pid}/cgroup").decode().splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if not controllers and any("frozen 1" in _text(root, path, "cgroup.events") for root in _SECOND):
            return True
        if "freezer" in controllers.split(",") and _text(_FIRST, path, "freezer.state").strip() in (
            "FROZEN",
            "FREEZING",
        ):
            return True
    return False


def _text(root: Path, group: str, name: str) -> str:
    """A file of a control group; empty when it is not to be seen, as that of a group above our own is not."""
    try:
        return process.read(f"{root}{group}/{name}").decode("ascii", "replace")
    except OSError:
        return ""
