"""The queue between the senders' answers and the destination: on disk, bounded in bytes.

A batch is on disk, synced, before its sender is told "taken", and stays there until its fate is known; a process that
is killed loses nothing of what it has taken, and the next one goes on where it ended. One sync covers every batch that
waits at that moment: the first sender to come writes for all, and who comes meanwhile waits for the next write.

At least once: what was delivered and not yet noted is delivered again after a crash, under the same batch id.

What it refuses: a batch beyond the bound; everything after `close`; and, while the disk fails, everything, for there
is no second, silent queue in memory. What is on disk can still be delivered then, which frees the disk.
"""

from __future__ import annotations

import errno
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from sidecar.accounting import Ledger
from sidecar.ownership import FolderLock, private_folder
from sidecar.settings import ConfigurationError

from . import cursor
from .batch import Batch
from .disk import Folder, lasting
from .frames import FRAME_BYTES, Damaged, Frame
from .recovery import recover
from .segments import Reader, Segment, Writer

KEY: Final = "TENANTSCOPE_STATE_DIR"
FOLDER_NAME: Final = "queue"
MAX_BYTES: Final = 256 * 1024 * 1024
SEGMENT_BYTES: Final = 8 * 1024 * 1024
NOTE_BATCHES: Final = 64  # after so many, or so many seconds without work, progress is noted on disk
NOTE_SECONDS: Final = 0.2
READ_AGAIN_SECONDS: Final = 1.0

# Why a batch was not taken; and, the last one, why one that was taken cannot be delivered.
FULL: Final = "queue_full"
DISK: Final = "queue_disk"
SHUTDOWN: Final = "shutdown"
DAMAGED: Final = "queue_corrupt"

log = structlog.get_logger("sidecar.delivery")


@dataclass(slots=True)
class _Offer:
    """A batch whose sender waits."""

    batch: Batch
    settled: bool = False
    refusal: str | None = None


class BatchQueue:
    """First in, first out; many threads offer, one takes. What an earlier process left comes first.

    Args:
        state_dir: the queue's files are in a folder in it. ledger: is told what was found there.
        max_bytes: of all files together. open_folder: for tests.

    Raises:
        ConfigurationError: the folder is not ours alone, or another sidecar owns it.
    """

    def __init__(
        self,
        state_dir: Path,
        ledger: Ledger,
        max_bytes: int = MAX_BYTES,
        *,
        open_folder: Callable[[Path], Folder] = Folder,
    ) -> None:
        path = private_folder(private_folder(state_dir, KEY) / FOLDER_NAME, KEY)
        self._owner = FolderLock(path, KEY)
        try:
            self._folder = open_folder(path)
            found = recover(self._folder)
        except BaseException as error:
            self._owner.release()
            if isinstance(error, OSError):
                raise ConfigurationError(f"{KEY}: cannot read {str(path)!r}: {error.strerror}") from None
            raise
        self._ledger = ledger
        self._max_bytes = max_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 8)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # for who takes, and who waits for an empty queue
        self._settled = threading.Condition(self._lock)  # for those who offer
        self._segments = deque(found.segments)
        self._writer = Writer(self._folder, found.next_number)
        self._reader = Reader(self._folder)
        self._waiting: list[_Offer] = []
        self._reserved = 0  # bytes that are on their way to the disk
        self._writing = False
        self._fault: str | None = None
        self._missing = 0  # bytes that the failing disk could not take
        self._head: Frame | None = None
        self._next_number = found.next_number  # no segment after those that were removed has a lower one
        self._unnoted = 0
        self._closed = False
        self._released = False
        for segment in found.segments:
            for signal, records in segment.held.items():
                ledger.recovered(signal, records)
        for how, size in found.lost.items():
            ledger.lost(how, size)
        if found.segments or +found.lost:
            log.info("queue recovered", records=self.records, **{f"{how}_bytes": n for how, n in found.lost.items()})

    # Offering -----------------------------------------------------------------------------------------------
    def offer(self, batch: Batch) -> str | None:
        """Take the batch: None when it is safe on disk, otherwise the word that says why it was not taken."""
        size = FRAME_BYTES + len(batch.payload)
        with self._lock:
            if self._closed:
                return SHUTDOWN
            if self._bytes() + size > self._max_bytes:
                return FULL
            offer = _Offer(batch)
            self._waiting.append(offer)
            self._reserved += size
            while not offer.settled:
                if self._writing:
                    self._settled.wait()
                else:
                    self._write()
            return offer.refusal

    @property
    def ready(self) -> bool:
        """Whether the disk takes what it is given; one that failed is asked again, for as much as it did not take."""
        with self._lock:
            if self._fault is not None and not self._writing and not self._closed:
                self._write()
            return self._fault is None

    def _write(self) -> None:
        """Write what waits. To be called with the lock, which others may have meanwhile."""
        group, self._waiting = self._waiting, []
        batches = [offer.batch for offer in group]
        size = sum(FRAME_BYTES + len(batch.payload) for batch in batches)
        fault, written = DISK, None
        self._writing = True
        self._lock.release()
        try:
            written = self._writer.write(batches, size if group else self._missing)
        except OSError as error:
            fault = errno.errorcode.get(error.errno or 0, "EIO").lower()
        finally:
            self._lock.acquire()
            self._writing = False
            self._reserved -= size
            if written is None:
                self._failed(fault, size)
            else:
                self._written(*written, batches)
            for offer in group:
                offer.settled, offer.refusal = True, DISK if written is None else None
            self._settled.notify_all()
            self._changed.notify_all()

    def _written(self, segment: Segment, end: int, batches: list[Batch]) -> None:
        if not self._segments or self._segments[-1] is not segment:
            self._segments.append(segment)
        segment.end = segment.size = end
        for batch in batches:
            segment.held[batch.signal] += batch.records
        if end >= self._segment_bytes:
            self._writer.seal()
        if self._fault is not None:
            log.info("the queue's disk works again")
        self._fault, self._missing = None, 0

    def _failed(self, fault: str, size: int) -> None:
        if self._fault is None:  # one line when it begins, one when it ends; the ledger counts what is between
            log.error("the queue's disk fails, exports are put off", reason=fault)
        self._fault, self._missing = fault, max(size, self._missing)

    # Taking -------------------------------------------------------------------------------------------------
    def head(self, timeout: float | None = None) -> Batch | None:
        """The oldest batch, which stays in the queue; None after `timeout` seconds, or closed and empty."""
        if self._head is None:
            if self._unnoted and not self._wait_for_work(
                NOTE_SECONDS if timeout is None else min(timeout, NOTE_SECONDS)
            ):
                self._note()
            self._wait_for_work(timeout)
            self._head = self._next()
        return None if self._head is None else self._head.batch

    def done(self) -> None:
        """The oldest batch has met its fate."""
        with self._lock:
            frame, self._head = self._head, None
            if frame is None:
                raise ValueError("no batch was taken")
            self._segments[0].start = frame.end
            self._segments[0].held[frame.batch.signal] -= frame.batch.records
            self._changed.notify_all()
        self._unnoted += 1
        if self._unnoted >= NOTE_BATCHES:
            self._note()

    def _wait_for_work(self, timeout: float | None) -> bool:
        with self._lock:
            self._changed.wait_for(lambda: self._closed or not self._empty(), timeout)
            return not self._empty()

    def _next(self) -> Frame | None:
        while (segment := self._oldest()) is not None:
            try:
                return self._reader.read(segment, segment.end)
            except (Damaged, OSError) as damage:
                log.error("the queue cannot be read", name=segment.name, error=type(damage).__name__)
                if isinstance(damage, OSError) and not lasting(damage):
                    with self._lock:
                        self._changed.wait_for(lambda: self._closed, READ_AGAIN_SECONDS)
                    return None
                with self._lock:
                    lost, segment.held = segment.held, Counter()
                    segment.start, segment.sound = segment.end, False
                for signal, records in lost.items():
                    self._ledger.dropped(signal, records, DAMAGED)
        return None

    def _oldest(self) -> Segment | None:
        """The oldest segment with something to deliver; those before it are removed."""
        finished = []
        with self._lock:
            while self._segments and self._segments[0].start >= self._segments[0].end:
                if self._segments[0] is self._writer.active:
                    break
                finished.append(self._segments.popleft())
                self._next_number = finished[-1].number + 1
            oldest = None if self._empty() else self._segments[0]
        if finished:
            self._note()
        for segment in finished:
            self._reader.retire(segment)
        return oldest

    def _note(self) -> None:
        """Note on disk how far delivery is. A disk that fails costs a second delivery after a crash, not data."""
        with self._lock:
            first = self._segments[0] if self._segments else Segment(self._next_number, b"", 0)
            position = cursor.Cursor(first.number, first.id, first.start)
        self._unnoted = 0
        try:
            cursor.save(self._folder, position)
        except OSError as error:
            log.debug("progress could not be noted", error=type(error).__name__)

    def close(self) -> None:
        """Refuse new batches; those inside can still be taken."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()

    def release(self) -> None:
        """Give the folder up; what is inside stays on disk for the next process. Idempotent; nobody may take then."""
        self.close()
        with self._lock:
            self._settled.wait_for(lambda: not self._writing and not self._waiting)
            self._writer.seal()
            released, self._released = self._released, True
        if not released:
            self._oldest()
            self._note()
            self._reader.close()
            self._folder.leave()
            self._owner.release()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def records(self) -> int:
        """Records inside."""
        with self._lock:
            return sum(segment.held.total() for segment in self._segments)

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait until every batch has met its fate, at most `timeout` seconds."""
        with self._lock:
            return self._changed.wait_for(self._empty, timeout)

    def _empty(self) -> bool:
        return all(segment.start >= segment.end for segment in self._segments)

    def _bytes(self) -> int:
        return self._reserved + sum(segment.size for segment in self._segments)
