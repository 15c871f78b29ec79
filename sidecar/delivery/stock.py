"""What is in the queue: the segments, and for each destination the line of what it is still to get of them.

One lock for all of it. A segment is removed when every line is past it. When there is no room, a line that has been
overtaken by another one may lose its oldest segment: what nobody has delivered yet is never given up for room.

What it refuses: to remove a segment before it is noted on disk that it has been dealt with.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from sidecar.conventions import Signal
from sidecar.ledger import Account

from . import cursor
from .batch import Batch
from .disk import Folder
from .frames import FOOTER_BYTES
from .recovery import Recovered
from .segments import Segment, Stretch, Writer, retire

#: Why a record that was taken is not delivered to a destination: it was too slow, and others had it.
OVERTAKEN: Final = "queue_overtaken"

log = structlog.get_logger("sidecar.delivery")


@dataclass(slots=True)
class Taken:
    """What a line has given out and not heard of again: up to `end` of the stretch.

    Attributes:
        held: records of it. met: those of them that have met their fate before the rest.
    """

    stretch: Stretch
    end: int
    held: Counter[Signal]
    met: int = 0


@dataclass(slots=True)
class Line:
    """What one destination is still to get.

    Attributes:
        name: of the destination. account: of its records.
        may_lose: whether it loses its oldest records when there is no room, and another line is past them.
        stretches: in order, the last one may be of the segment that is being written.
        next_number: no segment after those that the line is past has a lower number.
    """

    name: str
    account: Account
    may_lose: bool
    stretches: deque[Stretch] = field(default_factory=deque)
    next_number: int = 0
    taken: Taken | None = None
    losing: bool = False

    @property
    def empty(self) -> bool:
        """Whether everything has been dealt with."""
        return all(stretch.start >= stretch.segment.end for stretch in self.stretches)

    def is_past(self, segment: Segment) -> bool:
        """Whether the line needs nothing more of the queue's oldest segment."""
        first = self.stretches[0] if self.stretches else None
        return first is None or first.segment is not segment or first.start >= segment.end


class Stock:
    """Segments and lines. Whatever reads or changes them holds `lock`.

    Attributes:
        changed: something came in, or was dealt with, or the queue is closed.
        closing: set when the queue is closed, for those who wait for nothing else.
    """

    def __init__(self, folder: Folder, writer: Writer, found: Recovered, lines: Sequence[Line]) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.closing = threading.Event()
        self.lines = tuple(lines)
        self.segments = deque(found.segments)
        self._size = sum(segment.size for segment in self.segments)
        self._folder = folder
        self._writer = writer
        self._noting = threading.Lock()  # taken before `lock`
        for line in self.lines:
            line.stretches.extend(found.stretches[line.name])
            line.next_number = found.next_number

    @property
    def closed(self) -> bool:
        """Whether nothing more comes in."""
        return self.closing.is_set()

    # With the lock ------------------------------------------------------------------------------------------
    def size(self) -> int:
        """Bytes of all files."""
        return self._size

    def records(self) -> int:
        """Records inside; one that several destinations wait for is one."""
        held: Counter[int] = Counter()
        for line in self.lines:
            for stretch in line.stretches:
                number = stretch.segment.number
                held[number] = max(held[number], stretch.held.total())
        return held.total()

    def add(self, segment: Segment, end: int, batches: Sequence[Batch]) -> None:
        """These batches are in the segment now, up to `end`."""
        known = bool(self.segments) and self.segments[-1] is segment
        if not known:
            self.segments.append(segment)
            for line in self.lines:
                line.stretches.append(Stretch(segment, segment.end, Counter()))
        self._size += end - segment.end if known else end + FOOTER_BYTES
        segment.end, segment.size = end, end + FOOTER_BYTES
        for line in self.lines:
            for batch in batches:
                line.stretches[-1].held[batch.signal] += batch.records

    def advance(self, line: Line) -> list[Segment]:
        """The line leaves what it is through with; the segments that no line needs any more, to be removed."""
        while line.stretches and line.stretches[0].start >= line.stretches[0].segment.end:
            if line.stretches[0].segment is self._writer.active:
                break
            line.next_number = line.stretches.popleft().segment.number + 1
        return self._unneeded()

    def overtake(self) -> list[Segment]:
        """Give the oldest segment up for the lines that others have overtaken; empty when it cannot be given up."""
        if not self.segments or self.segments[0] is self._writer.active:
            return []
        oldest = self.segments[0]
        late = [line for line in self.lines if not line.is_past(oldest)]
        if len(late) == len(self.lines) or not all(line.may_lose for line in late):
            return []
        for line in self.lines:
            if not line.stretches or line.stretches[0].segment is not oldest:
                continue
            stretch = line.stretches.popleft()
            line.next_number = oldest.number + 1
            held = stretch.held
            if line.taken is not None and line.taken.stretch is stretch:
                held = held - line.taken.held  # these are on their way, and have a fate of their own
            for signal, records in held.items():
                line.account.dropped(signal, records, OVERTAKEN)
            if line in late and not line.losing:  # one line when it begins; the ledger counts the rest
                log.error("a destination is too far behind and loses its oldest records", destination=line.name)
                line.losing = True
        return self._unneeded()

    def _unneeded(self) -> list[Segment]:
        needed = {line.stretches[0].segment.number for line in self.lines if line.stretches}
        first = min(needed, default=None)
        unneeded = []
        while self.segments and (first is None or self.segments[0].number < first):
            if self.segments[0] is self._writer.active:
                break
            unneeded.append(self.segments.popleft())
            self._size -= unneeded[-1].size
        return unneeded

    # Without it ---------------------------------------------------------------------------------------------
    def note(self) -> None:
        """Note on disk how far delivery is. A disk that fails costs a second delivery after a crash, not data."""
        with self._noting:
            with self.lock:
                positions = {line.name: _position(line) for line in self.lines}
            try:
                cursor.save(self._folder, positions)
            except OSError as error:
                log.debug("progress could not be noted", error=type(error).__name__)

    def remove(self, segments: Sequence[Segment]) -> None:
        """Remove files that nobody needs, and note it first."""
        if segments:
            self.note()
        for segment in segments:
            retire(self._folder, segment)


def _position(line: Line) -> cursor.Cursor:
    if not line.stretches:
        return cursor.Cursor(line.next_number, b"", 0)
    first = line.stretches[0]
    return cursor.Cursor(first.segment.number, first.segment.id, first.start)
