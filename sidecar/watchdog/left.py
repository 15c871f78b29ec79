"""The reader's end of a stacks file: what a process left about a loop's thread, if it is of the slice in question.

What it refuses: a file that is not the user's own and closed to others, more of it than its bounds, and stacks of
another slice. No line of it is shown but file, line and function.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import Final

from sidecar.wire import cell
from sidecar.wire import stacks as layout
from sidecar.wire.frames import Frame

_HEADER: Final = struct.Struct(f"={layout.HEADER_WORDS}Q")
# The start of a slice is known to this much.
_GRAIN: Final = cell.SLOT_BITS


def left_stack(path: Path, began: int, ident: int) -> tuple[int, list[Frame]]:
    """The stack of a thread that was taken after `began`: when, and its frames, innermost first; 0 and none without.

    Whether that slice still runs is the caller's to look at, after this.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return 0, []
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return 0, []
        return _taken(descriptor, began, ident)
    except (OSError, struct.error):
        return 0, []
    finally:
        os.close(descriptor)


def _taken(descriptor: int, began: int, ident: int) -> tuple[int, list[Frame]]:
    header = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
    taken = header[layout.TAKEN]
    if taken <= began + _GRAIN:
        return 0, []
    length = min(header[layout.TAKEN_BYTES], layout.SIZE - layout.TAKEN_TEXT)
    text = os.pread(descriptor, length, layout.TAKEN_TEXT)
    frames = list(layout.frames(text, ident))
    again = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
    return (taken, frames) if frames and again[layout.TAKEN] == taken else (0, [])
