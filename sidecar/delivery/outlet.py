"""A destination's end of the queue: gives out the oldest batches that it has not had, one at a time.

Small requests that follow each other are joined into one, and whoever takes them waits a moment for more to come: a
call to the destination costs as much as one from a sender. Senders have had their answers by then. OTLP messages are
made for that: two of them, one after the other, are one with the resources of both. Who finds that a joined batch is
refused asks for its parts, so that no batch is refused for what is in another one.

At least once: what was delivered and not yet noted is delivered again after a crash, under the same batch id. A joined
batch has the id of its first part and the offset of its last one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import Final

import structlog

from .batch import Batch
from .disk import Folder, lasting
from .frames import Damaged, Frame
from .segments import Reader, Segment, Stretch
from .stock import OVERTAKEN, Line, Stock, Taken

NOTE_BATCHES: Final = 64  # after so many, or so many seconds without work, progress is noted on disk
NOTE_SECONDS: Final = 0.2
READ_AGAIN_SECONDS: Final = 1.0
# A receiver takes 4 MiB by default, and what it does not take it should not have to be sent again as a whole.
JOINED_BYTES: Final = 1024 * 1024
JOINED_RECORDS: Final = 8192
#: For which a batch waits for others to go with it.
COMPANY_SECONDS: Final = 0.02
#: Why a batch that was taken cannot be delivered.
DAMAGED: Final = "queue_corrupt"

log = structlog.get_logger("sidecar.delivery")


@dataclass(frozen=True, slots=True)
class _Found:
    """A frame, and where it begins."""

    segment: Segment
    start: int
    frame: Frame


class Outlet:
    """First in, first out, for one thread.

    Args:
        line: what the destination is still to get.
        joins: whether small batches are joined.
    """

    def __init__(self, stock: Stock, line: Line, folder: Folder, *, joins: bool) -> None:
        self._stock = stock
        self._line = line
        self._reader = Reader(folder)
        self._joins = joins
        self._head: Batch | None = None
        self._parts = 0  # of the head
        self._apart: tuple[Stretch, int] | None = None  # up to there nothing is joined
        self._ahead: _Found | None = None  # was read and did not fit
        self._waited = (0, 0)  # number of a segment, and offset in it: what is before has waited for company
        self._unnoted = 0

    def head(self, timeout: float | None = None) -> Batch | None:
        """The oldest batch, which stays in the queue; None after `timeout` seconds, or closed and empty.

        Without a timeout, one that is small may wait for company; with one, what is there is given out.
        """
        if self._head is None:
            if self._unnoted and not self._wait_for_work(
                NOTE_SECONDS if timeout is None else min(timeout, NOTE_SECONDS)
            ):
                self._note()
            if self._wait_for_work(timeout) and timeout is None and self._joins:
                self._wait_for_company()
            self._head = self._next()
        return self._head

    def done(self) -> None:
        """The oldest batch has met its fate."""
        with self._stock.lock:
            taken, self._line.taken = self._line.taken, None
            if taken is None:
                raise ValueError("no batch was taken")
            if self._is_first(taken.stretch):
                taken.stretch.start = taken.end
                taken.stretch.held.subtract(taken.held)
                self._line.losing = False
            self._stock.changed.notify_all()
        self._unnoted += self._parts
        self._head = None
        if self._unnoted >= NOTE_BATCHES:
            self._note()

    def partly_done(self, records: int) -> None:
        """So many records of the oldest batch have met their fate, and the others have not."""
        with self._stock.lock:
            if self._line.taken is not None:
                self._line.taken.met += records

    def separate(self) -> bool:
        """Put the oldest batch back, to be given out in the parts that it was joined from; False when it has none."""
        if self._parts < 2:
            return False
        with self._stock.lock:
            taken, self._line.taken = self._line.taken, None
            if taken is None:
                raise ValueError("no batch was taken")
            if not self._is_first(taken.stretch):
                self._give_up(taken)
        self._apart = taken.stretch, taken.end
        self._head = None
        return True

    @property
    def closed(self) -> bool:
        """Whether nothing more comes in."""
        return self._stock.closed

    def leave(self) -> None:
        """Nobody takes any more; what is inside stays."""
        with self._stock.lock:
            taken, self._line.taken = self._line.taken, None
            if taken is not None and not self._is_first(taken.stretch):
                self._give_up(taken)
        self._head = None
        self._front()
        self._reader.close()

    def _wait_for_work(self, timeout: float | None) -> bool:
        with self._stock.lock:
            self._stock.changed.wait_for(lambda: self._stock.closed or not self._line.empty, timeout)
            return not self._line.empty

    def _wait_for_company(self) -> None:
        """Once for all that is there: requests that cannot go with each other must not wait one after the other."""
        with self._stock.lock:
            first = islice(self._line.stretches, 2)  # a segment that ends here says nothing of the next one
            waiting = sum(stretch.segment.end - stretch.start for stretch in first)
            waited = any(
                (stretch.segment.number, stretch.start) < self._waited
                for stretch in self._line.stretches
                if stretch.start < stretch.segment.end
            )
        if waited or waiting >= JOINED_BYTES:
            return
        self._stock.closing.wait(COMPANY_SECONDS)  # nobody who comes has to wake it
        with self._stock.lock:
            if self._line.stretches:
                last = self._line.stretches[-1].segment
                self._waited = last.number, last.end

    def _next(self) -> Batch | None:
        while (stretch := self._front()) is not None:
            try:
                found = self._read(stretch)
            except (Damaged, OSError) as damage:
                if isinstance(damage, OSError) and not lasting(damage):
                    log.error("the queue cannot be read", name=stretch.segment.name, error=type(damage).__name__)
                    with self._stock.lock:
                        self._stock.changed.wait_for(lambda: self._stock.closed, READ_AGAIN_SECONDS)
                    return None
                self._lose(stretch, damage)
                continue
            batch = _joined(found)
            with self._stock.lock:
                if not self._is_first(stretch):
                    continue  # overtaken meanwhile
                self._line.taken = Taken(stretch, found[-1].end, Counter({batch.signal: batch.records}))
            self._parts = len(found)
            return batch
        return None

    def _read(self, stretch: Stretch) -> list[Frame]:
        """The oldest frame, and those that can be joined to it. Raises Damaged, OSError."""
        segment, end = stretch.segment, stretch.segment.end
        first = self._frame(segment, stretch.start, end)
        found, size, records = [first], len(first.batch.payload), first.batch.records
        alone = self._apart is not None and self._apart[0] is stretch and stretch.start < self._apart[1]
        while self._joins and not alone and found[-1].end < end and size < JOINED_BYTES:
            start = found[-1].end
            try:
                frame = self._frame(segment, start, end)
            except (Damaged, OSError):
                break  # it will be the oldest one soon
            size += len(frame.batch.payload)
            records += frame.batch.records
            if frame.batch.signal != first.batch.signal or size > JOINED_BYTES or records > JOINED_RECORDS:
                self._ahead = _Found(segment, start, frame)
                break
            found.append(frame)
        return found

    def _frame(self, segment: Segment, start: int, end: int) -> Frame:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.segment is segment and ahead.start == start:
            return ahead.frame
        return self._reader.read(segment, start, end)

    def _lose(self, stretch: Stretch, damage: Exception) -> None:
        """The rest of the stretch cannot be read, now or later."""
        with self._stock.lock:
            if not self._is_first(stretch):
                return  # overtaken meanwhile, which is counted
            lost, stretch.held = stretch.held, Counter()
            stretch.start, stretch.segment.sound = stretch.segment.end, False
        log.error("the queue cannot be read", name=stretch.segment.name, error=type(damage).__name__)
        for signal, records in lost.items():
            self._line.account.dropped(signal, records, DAMAGED)

    def _front(self) -> Stretch | None:
        """The oldest stretch with something to deliver; what every destination has had is removed."""
        with self._stock.lock:
            unneeded = self._stock.advance(self._line)
            front = None if self._line.empty else self._line.stretches[0]
        if unneeded:
            self._unnoted = 0
            self._reader.close()
        self._stock.remove(unneeded)
        return front

    def _is_first(self, stretch: Stretch) -> bool:
        return bool(self._line.stretches) and self._line.stretches[0] is stretch

    def _give_up(self, taken: Taken) -> None:
        """What was on its way when it was overtaken did not arrive either."""
        for signal, records in taken.held.items():  # of one signal
            self._line.account.dropped(signal, records - taken.met, OVERTAKEN)

    def _note(self) -> None:
        self._unnoted = 0
        self._stock.note()


def _joined(frames: list[Frame]) -> Batch:
    first, last = frames[0].batch, frames[-1].batch
    if first is last:
        return first
    offset = last.id.rpartition("-")[2]
    payload = b"".join(frame.batch.payload for frame in frames)
    return Batch(first.signal, payload, sum(frame.batch.records for frame in frames), f"{first.id}-{offset}")
