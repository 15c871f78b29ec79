"""The stacks file: where a process leaves the stacks of its loops for a watchdog that cannot read its memory.

One file beside its cells. A process whose interpreter is busy answers late. So it takes stacks ahead of time, when a
slice has lasted for a part of the threshold. Who reads decides whose they are: a stack that was taken at `t` is of the
slice that began before `t` and runs still.

| bytes | content |
| --- | --- |
| words | unsigned 64-bit, native order; times are nanoseconds of `CLOCK_MONOTONIC` |
| `TAKEN`, `TAKEN_BYTES` | when the text at `TAKEN_TEXT` was written, and how long it is; 0 while it is written |
| `TAKEN_TEXT` .. end of file | the stacks |

The text is written as Python's `faulthandler` writes it: `Thread 0x<ident> (most recent call first):`, then a line
`  File "<file>", line <line> in <function>` a frame, ASCII only. Nothing else in it is ever read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

TAKEN: Final = 0
TAKEN_BYTES: Final = 1
HEADER_WORDS: Final = 8

TAKEN_TEXT: Final = HEADER_WORDS * 8
SIZE: Final = 32 * 1024
MAX_FRAMES: Final = 64
SUFFIX: Final = ".stacks"

_FRAME: Final = re.compile(rb'  File "([^\n]{1,2048})", line (\d{1,9}) in ([^\n]{1,2048})\n')
_OURS: Final = "/instrumentation/loop/"


def name(pid: int, process_start: int) -> str:
    """The file's name in the folder of the process's cells."""
    return f"{pid}-{process_start}-all{SUFFIX}"


def heading(ident: int) -> str:
    """The line above a thread's frames."""
    return f"Thread 0x{ident:016x} (most recent call first):\n"


def frames(text: bytes, ident: int) -> Iterator[tuple[str, int, str]]:
    """File, line and function of the frames of a thread, innermost first, our own left out; nothing when not there.

    Stops at the first line that is not a frame, so that whatever else a text holds is never taken for one.
    """
    found = re.search(rb"^(?:Current thread|Thread) 0x0*%x [^\n]*\n" % ident, text, re.MULTILINE)
    at = len(text) if found is None else found.end()
    for _ in range(MAX_FRAMES):
        frame = _FRAME.match(text, at)
        if frame is None:
            return
        at = frame.end()
        file = frame[1].decode("ascii", "replace")
        if not ours(file):
            yield file, int(frame[2]), frame[3].decode("ascii", "replace")


def ours(file: str) -> bool:
    """Whether this is a file of the accounting, whose frames say nothing of a stall."""
    return _OURS in file
