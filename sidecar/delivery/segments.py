"""The queue's files: written at one end, read at the other.

One segment is written at a time, by one thread at a time. A write that fails takes its segment out of use: what the
disk holds after a failed sync is unknown, so the next write begins a new one. Each process begins its own, so a
segment's id and the offset of a batch in it name that batch for ever.

What it refuses: to hand out bytes that were not synced, and to remove a segment in which something is damaged; it is
put aside under another name, and the last few of these are kept.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from sidecar.conventions import Signal

from . import frames
from .batch import Batch
from .disk import Folder
from .frames import AROUND_BYTES, HEADER_BYTES, Frame

QUARANTINED: Final = 4  # files
AHEAD_BYTES: Final = 512 * 1024

log = structlog.get_logger("sidecar.delivery")


@dataclass(slots=True)
class Segment:
    """A file of the queue.

    Attributes:
        number: segments are delivered in the order of their numbers. id: random, in the file's header.
        end: offset of the end of what can be delivered. size: bytes of the file, with a footer that may be to come.
        sound: whether the whole file is what was written.
    """

    number: int
    id: bytes
    end: int = HEADER_BYTES
    size: int = AROUND_BYTES
    sound: bool = True

    @property
    def name(self) -> str:
        """Of the file."""
        return f"{self.number:012}.queue"


@dataclass(slots=True)
class Stretch:
    """What one destination is still to get of a segment: from offset `start` on, `held` records."""

    segment: Segment
    start: int
    held: Counter[Signal]


class Writer:
    """Writes segments, the first of them with this number.

    Attributes:
        active: the segment that the next write goes to; None when that will be a new one.
        next_number: of the segment after it.
    """

    def __init__(self, folder: Folder, number: int, identity: Callable[[int], bytes] = os.urandom) -> None:
        self._folder = folder
        self._identity = identity
        self._descriptor = -1
        self._held: Counter[Signal] = Counter()  # records in the active segment
        self.active: Segment | None = None
        self.next_number = number

    def write(self, batches: Sequence[Batch], room: int, full: int) -> tuple[Segment, int]:
        """Write and sync the batches, all or none; the segment they are in, and its new end.

        Args:
            room: bytes that must be free when a new segment is begun.
            full: a segment that has come so far is complete, and gets its footer with the same sync.

        Raises:
            OSError: none of them is in the queue.
        """
        try:
            segment = self.active or self._begin(room)
            pieces: list[bytes] = []
            for batch in batches:
                pieces += (frames.frame_head(segment.id, batch), batch.payload)
                self._held[batch.signal] += batch.records
            end = segment.end + sum(map(len, pieces))
            if end >= full:
                pieces.append(frames.footer(segment.id, end, self._held))
            self._folder.write(self._descriptor, *pieces)
            self._folder.sync(self._descriptor)
        except OSError:
            self._abandon()
            raise
        return segment, end

    def seal(self) -> None:
        """The next write begins a new segment."""
        if self._descriptor >= 0:
            self._folder.close(self._descriptor)
        self._descriptor, self.active = -1, None
        self._held.clear()

    def finish(self) -> None:
        """Nothing more is written: the active segment gets its footer now. One that has none is read more slowly."""
        if self.active is not None and self.active.end > HEADER_BYTES:
            try:
                self._folder.write(self._descriptor, frames.footer(self.active.id, self.active.end, self._held))
                self._folder.sync(self._descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    self._folder.truncate(self._descriptor, self.active.end)
        self.seal()

    def _begin(self, room: int) -> Segment:
        segment = Segment(self.next_number, self._identity(frames.ID_BYTES))
        self.next_number += 1
        self._descriptor = self._folder.create(segment.name)
        self.active = segment
        self._folder.reserve(self._descriptor, AROUND_BYTES + room)
        self._folder.write(self._descriptor, frames.header(segment.id))
        self._folder.sync_names()
        return segment

    def _abandon(self) -> None:
        """Leave the segment with what was synced before; without anything, no segment at all."""
        if self.active is not None:
            with contextlib.suppress(OSError):
                if self.active.end > HEADER_BYTES:
                    self._folder.truncate(self._descriptor, self.active.end)
                else:
                    self._folder.remove(self.active.name)
        self.seal()


class Reader:
    """Reads one segment after the other, for one destination; and ahead, for it asks for little and often."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._descriptor = -1
        self._open: Segment | None = None
        self._ahead, self._at = b"", 0  # what was read and not yet given out, and where in the file it stands
        self._end = 0

    def read(self, segment: Segment, start: int, end: int) -> Frame:
        """The frame at `start`. Raises Damaged, OSError."""
        if self._open is not segment:
            self.close()
            self._descriptor = self._folder.open(segment.name)
            self._open = segment
        self._end = end
        try:
            return frames.read_frame(self._read, segment.id, start, end)
        except frames.Damaged:
            self._ahead = b""  # it may be read as it was written the next time
            raise

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            self._folder.close(self._descriptor)
        self._descriptor, self._open = -1, None
        self._ahead = b""

    def _read(self, offset: int, length: int) -> bytes:
        start = offset - self._at
        if not 0 <= start <= len(self._ahead):
            self._ahead, self._at, start = b"", offset, 0
        missing = start + length - len(self._ahead)
        if missing > 0:
            rest = self._ahead[start:]
            self._ahead, self._at, start = rest + self._look_ahead(offset + len(rest), missing), offset, 0
        stop = start + length
        found = self._ahead[start:stop]
        if stop >= len(self._ahead):
            self._ahead = b""
        return found

    def _look_ahead(self, offset: int, length: int) -> bytes:
        most = max(length, min(AHEAD_BYTES, self._end - offset))
        try:
            return self._folder.read(self._descriptor, offset, most)
        except OSError:
            if most == length:
                raise
            return self._folder.read(self._descriptor, offset, length)  # it may be further on that it cannot be read


def retire(folder: Folder, segment: Segment) -> None:
    """Remove a segment that has been dealt with, or put it aside when it is damaged."""
    try:
        if segment.sound:
            folder.remove(segment.name)
        else:
            quarantine(folder, segment.number)
    except FileNotFoundError:
        pass  # removed already: a write into it failed before anything was in it
    except OSError as error:
        # It has been delivered: the cursor says so, and the next start tries again.
        log.warning("a delivered part of the queue cannot be removed", name=segment.name, error=type(error).__name__)


def quarantine(folder: Folder, number: int) -> None:
    """Put a damaged segment aside. Raises OSError."""
    aside = f"{number:012}.corrupt"
    folder.rename(f"{number:012}.queue", aside)
    log.error("a part of the queue is damaged; it is put aside", put_aside=str(folder.path / aside))
    for old in sorted(name for name in folder.names() if name.endswith(".corrupt"))[:-QUARANTINED]:
        folder.remove(old)
