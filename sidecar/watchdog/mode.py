"""How a loop is watched, and what that way cannot tell."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Mode(StrEnum):
    """From the best to the least."""

    CELL = "cell"  # its cell is read, and its process looked up
    CELL_ALONE = "cell_alone"  # its cell is read; the process counts its pid in another namespace
    HEARTBEATS = "heartbeats"  # what its process says on the stream


#: For people; one line each.
CANNOT: Final[dict[Mode, tuple[str, ...]]] = {
    Mode.CELL: (),
    Mode.CELL_ALONE: (
        "its process is in another pid namespace: when it is stopped, or starved by the host, its loop looks stalled",
        "for the same reason there is no stack while the interpreter is held",
        "when it dies and leaves a forked child behind, it is seen as silent, not as dead",
    ),
    Mode.HEARTBEATS: (
        "while the interpreter is held nothing is told: that is seen as silence, not as a stall",
        "stopped, dead, starved and cut off look alike: as silence",
        "turns over their budget, waits over their target, time in queues and who waited for whom are not told",
    ),
}

#: The same of a loop whose process's memory may not be read.
CANNOT_READ: Final = "while the interpreter is held there is no stack: "

#: What an alert adds about a stall that was seen that way.
CAVEATS: Final[dict[Mode, str]] = {
    Mode.CELL: "",
    Mode.CELL_ALONE: " Whether the process is stopped or starved of CPU cannot be looked up from here.",
    Mode.HEARTBEATS: " The process says so itself, in its heartbeats.",
}
