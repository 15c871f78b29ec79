"""What a process finds in the queue's folder when it starts: the files are looked through, from the cursor on.

Whole batches are kept, up to the first one of each segment that is not what was written. A crash in the middle of a
write leaves such an end in the last segment: it is cut off, nobody was told that it had been taken. Anywhere else it is
damage: the rest of the segment is given up, and the file put aside when what is whole in it has been delivered.

What it refuses: to stop a start for what a file holds, and to lose bytes without counting them.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from . import cursor, frames
from .disk import Folder, lasting
from .frames import HEADER_BYTES, Damaged
from .segments import Reader, Segment

TORN: Final = "torn"
CORRUPT: Final = "corrupt"
_NAME: Final = re.compile(r"(\d{12})\.(queue|corrupt)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a process found of those before it.

    Attributes:
        segments: with something to deliver, in order.
        next_number: higher than that of any segment so far.
        lost: bytes that could not be recovered, as `torn` or `corrupt`.
    """

    segments: Sequence[Segment]
    next_number: int
    lost: Counter[str]


def recover(folder: Folder) -> Recovered:
    """Look through the folder: what is whole is kept, what is not is counted. Raises OSError for what may pass."""
    position = cursor.load(folder)
    found = [(int(match[1]), match[2]) for match in map(_NAME.fullmatch, folder.names()) if match]
    numbers = sorted(number for number, kind in found if kind == "queue")
    first = 0 if position is None else position.number
    highest = max([first, *(number for number, _ in found)])
    lost: Counter[str] = Counter()
    segments = []
    for number in numbers:
        segment = Segment(number, b"")
        if number >= first:
            _examine(folder, segment, position, lost, last=number == numbers[-1])
        if segment.start < segment.end:
            segments.append(segment)
        else:
            Reader(folder).retire(segment)
    return Recovered(segments, highest + 1, lost)


def _examine(
    folder: Folder, segment: Segment, position: cursor.Cursor | None, lost: Counter[str], *, last: bool
) -> None:
    """Read a segment from the cursor, or from its beginning, as far as it is whole."""
    segment.end = segment.start = segment.size = 0
    descriptor = -1
    try:
        descriptor = folder.open(segment.name)
        segment.size = folder.size(descriptor)

        def read(offset: int, length: int) -> bytes:
            return folder.read(descriptor, offset, length)

        segment.id = frames.read_header(read, segment.size)
        at_cursor = position is not None and (position.number, position.segment) == (segment.number, segment.id)
        segment.end = segment.start = position.offset if position is not None and at_cursor else HEADER_BYTES
        while segment.end < segment.size:
            frame = frames.read_frame(read, segment.id, segment.end, segment.size)
            segment.held[frame.batch.signal] += frame.batch.records
            segment.end = frame.end
    except (Damaged, OSError) as damage:
        if isinstance(damage, OSError) and not lasting(damage):
            raise
        # Only the last segment can be torn by a crash; the others were complete when their successor was begun.
        torn = last and isinstance(damage, Damaged) and damage.torn
        segment.sound = torn
        lost[TORN if torn else CORRUPT] += max(0, segment.size - segment.end)
        if torn:
            with contextlib.suppress(OSError):
                folder.truncate(descriptor, segment.end)
                segment.size = segment.end
    finally:
        if descriptor >= 0:
            folder.close(descriptor)
