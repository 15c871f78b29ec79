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

from sidecar.alerts import printable
from sidecar.wire import cell
from sidecar.wire import stacks as layout

IN_USE: Final = "the interpreter was held, and the application uses faulthandler's timer itself"
NO_TIMER: Final = "the interpreter was held, and this Python cannot look into it meanwhile"
_WHY: Final = {layout.TIMER_IN_USE: IN_USE, layout.NO_TIMER: NO_TIMER}
_HEADER: Final = struct.Struct(f"={layout.HEADER_WORDS}Q")
# The start of a slice is known to this much.
_GRAIN: Final = cell.SLOT_BITS


def left_stack(path: Path, began: int, ident: int) -> tuple[int, list[str], str]:
    """The newest stack of a thread that was taken after `began`: when at the earliest, and its lines, outermost first.

    Whether that slice still runs is the caller's to look at, after this. Without a stack, 0, no lines, and the reason
    if one is known.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return 0, [], ""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return 0, [], ""
        return _newest(descriptor, began, ident)
    except (OSError, struct.error):
        return 0, [], ""
    finally:
        os.close(descriptor)


def _newest(descriptor: int, began: int, ident: int) -> tuple[int, list[str], str]:
    header = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
    taken, due = header[layout.TAKEN], header[layout.DUE]
    places = [
        (due, layout.DUMP_TEXT, layout.MAX_SIZE - layout.DUMP_TEXT),
        (taken, layout.TAKEN_TEXT, min(header[layout.TAKEN_BYTES], layout.DUMP_TEXT - layout.TAKEN_TEXT)),
    ]
    for at, offset, length in sorted(places, reverse=True):
        if at <= began + _GRAIN:
            continue
        text = os.pread(descriptor, length, offset)
        lines = [f"{printable(file)}:{line} {printable(name)}" for file, line, name in layout.frames(text, ident)]
        again = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0))
        if lines and (again[layout.TAKEN], again[layout.DUE]) == (taken, due):
            return at, lines[::-1], ""
    return 0, [], _WHY.get(header[layout.ASIDE], "")
