"""What a process finds in the queue's folder when it starts: the footers of segments, and what of others is whole.

A segment with a footer was whole when it was finished, and is believed: a start must not take longer the more waits.
Each of its batches is checked when it is read to be delivered; one that is damaged by then costs the rest of the
segment, counted in records. A segment that was not finished, or of which a destination has had a part, is read from the
first cursor on.

Whole batches are kept, up to the first one of each such segment that is not what was written. A crash in the middle of
a write leaves such an end in the last segment: it is cut off, nobody was told that it had been taken. Anywhere else it
is damage: the rest of the segment is given up, and the file put aside when what is whole in it has been delivered.

What it refuses: to stop a start for what a file holds, and to lose bytes without counting them.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from . import cursor, frames
from .disk import Folder, lasting
from .frames import HEADER_BYTES, Damaged
from .segments import Segment, Stretch, retire

TORN: Final = "torn"
CORRUPT: Final = "corrupt"
_NAME: Final = re.compile(r"(\d{12})\.(queue|corrupt)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a process found of those before it.

    Attributes:
        segments: with something to deliver, in order.
        stretches: what each destination is still to get of them, in order.
        next_number: higher than that of any segment so far.
        lost: bytes that could not be recovered, as `torn` or `corrupt`.
    """

    segments: Sequence[Segment]
    stretches: Mapping[str, Sequence[Stretch]]
    next_number: int
    lost: Counter[str]


def recover(folder: Folder, destinations: tuple[str, ...]) -> Recovered:
    """Look through the folder: what is whole is kept, what is not is counted. Raises OSError for what may pass."""
    cursors = cursor.load(folder, destinations)
    found = [(int(match[1]), match[2]) for match in map(_NAME.fullmatch, folder.names()) if match]
    numbers = sorted(number for number, kind in found if kind == "queue")
    highest = max([0, *(number for number, _ in found), *(at.number for at in cursors.values() if at is not None)])
    lost: Counter[str] = Counter()
    segments = []
    stretches: dict[str, list[Stretch]] = {name: [] for name in destinations}
    for number in numbers:
        segment = Segment(number, b"")
        waiting = {name: at for name, at in cursors.items() if at is None or at.number <= number}
        held = _examine(folder, segment, waiting, lost, last=number == numbers[-1]) if waiting else {}
        if held:
            segments.append(segment)
            for name, stretch in held.items():
                stretches[name].append(stretch)
        else:
            retire(folder, segment)
    return Recovered(segments, stretches, highest + 1, lost)


def _examine(
    folder: Folder,
    segment: Segment,
    cursors: Mapping[str, cursor.Cursor | None],
    lost: Counter[str],
    *,
    last: bool,
) -> dict[str, Stretch]:
    """What each destination is still to get of a segment, as far as that is whole."""
    segment.end = segment.size = 0
    held: dict[str, Stretch] = {}
    footer = None
    descriptor = -1
    try:
        descriptor = folder.open(segment.name)
        segment.size = folder.size(descriptor)

        def read(offset: int, length: int) -> bytes:
            return folder.read(descriptor, offset, length)

        segment.id = frames.read_header(read, segment.size)
        for name, at in cursors.items():
            here = at is not None and (at.number, at.segment) == (segment.number, segment.id)
            held[name] = Stretch(segment, at.offset if at is not None and here else HEADER_BYTES, Counter())
        footer = frames.read_footer(read, segment.id, segment.size)
        end = segment.size if footer is None else footer[0]
        segment.end = min(stretch.start for stretch in held.values())
        if footer is not None and all(stretch.start in (HEADER_BYTES, end) for stretch in held.values()):
            segment.end = end  # nothing is left to be read
            for stretch in held.values():
                stretch.held += footer[1] if stretch.start == HEADER_BYTES else Counter()
        while segment.end < end:
            frame = frames.read_frame(read, segment.id, segment.end, end)
            for stretch in held.values():
                if stretch.start <= segment.end:
                    stretch.held[frame.batch.signal] += frame.batch.records
            segment.end = frame.end
    except (Damaged, OSError) as damage:
        if isinstance(damage, OSError) and not lasting(damage):
            raise
        # Only the last segment can be torn by a crash; the others were complete when their successor was begun, and
        # so was one that was finished.
        torn = last and footer is None and isinstance(damage, Damaged) and damage.torn
        segment.sound = torn
        lost[TORN if torn else CORRUPT] += max(0, segment.size - segment.end)
        if torn:
            with contextlib.suppress(OSError):
                folder.truncate(descriptor, segment.end)
                segment.size = segment.end
    finally:
        if descriptor >= 0:
            folder.close(descriptor)
    return {name: stretch for name, stretch in held.items() if stretch.start < segment.end}
