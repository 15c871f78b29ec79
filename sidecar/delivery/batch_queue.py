"""The queue between the senders' answers and the destinations: on disk, bounded in bytes.

A batch is on disk, synced, before its sender is told "taken", and stays there until its fate is known at every
destination; a process that is killed loses nothing of what it has taken, and the next one goes on where it ended. One
sync covers every batch that waits at that moment: the first sender to come writes for all, and who comes meanwhile
waits for the next write.

What it refuses: a batch beyond the bound; everything after `close`; and, while the disk fails, everything, for there
is no second, silent queue in memory. What is on disk can still be delivered then, which frees the disk.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from sidecar.configuration.ownership import FolderLock, private_folder
from sidecar.configuration.settings import ConfigurationError
from sidecar.ledger import SOLE, Ledger

from .batch import Batch
from .disk import Folder
from .frames import AROUND_BYTES, FOOTER_BYTES, FRAME_BYTES
from .outlet import Outlet
from .recovery import recover
from .segments import Segment, Writer
from .stock import Line, Stock

KEY: Final = "TENANTSCOPE_STATE_DIR"
FOLDER_NAME: Final = "queue"
MAX_BYTES: Final = 256 * 1024 * 1024
SEGMENT_BYTES: Final = 8 * 1024 * 1024

# Why a batch was not taken.
FULL: Final = "queue_full"
DISK: Final = "queue_disk"
SHUTDOWN: Final = "shutdown"

_NO_ROOM: Final = ("enospc", "edquot")

log = structlog.get_logger("sidecar.delivery")


@dataclass(frozen=True, slots=True)
class Way:
    """A destination as the queue knows it.

    Attributes:
        name: how far it has come is noted under it; the ledger has an account of this name.
        joins: whether small batches are joined into larger ones for it.
        may_lose: whether it loses its oldest records when the queue is full and another destination has had them;
            if not, the senders are put off.
    """

    name: str = SOLE
    joins: bool = False
    may_lose: bool = True


@dataclass(slots=True)
class _Offer:
    """A batch whose sender waits."""

    batch: Batch
    settled: bool = False
    refusal: str | None = None


class BatchQueue:
    """Many threads offer; each destination has an outlet. What an earlier process left comes first.

    Args:
        state_dir: the queue's files are in a folder in it. ledger: is told what was found there.
        max_bytes: of all files together. ways: the destinations. open_folder: for tests.

    Attributes:
        outlets: by the destination's name.

    Raises:
        ConfigurationError: the folder is not ours alone, or another sidecar owns it.
    """

    def __init__(
        self,
        state_dir: Path,
        ledger: Ledger,
        max_bytes: int = MAX_BYTES,
        *,
        ways: Sequence[Way] = (Way(),),
        open_folder: Callable[[Path], Folder] = Folder,
    ) -> None:
        path = private_folder(private_folder(state_dir, KEY) / FOLDER_NAME, KEY)
        self._owner = FolderLock(path, KEY)
        folder: Folder | None = None
        try:
            self._folder = folder = open_folder(path)
            found = recover(folder, tuple(way.name for way in ways))
        except BaseException as error:
            if folder is not None:
                folder.leave()
            self._owner.release()
            if isinstance(error, OSError):
                raise ConfigurationError(f"{KEY}: cannot read {str(path)!r}: {error.strerror}") from None
            raise
        self._max_bytes = max_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 8) - FOOTER_BYTES  # a segment that has them is finished
        self._writer = Writer(self._folder, found.next_number)
        lines = [Line(way.name, ledger.account(way.name), way.may_lose) for way in ways]
        self._stock = Stock(self._folder, self._writer, found, lines)
        self._lock = self._stock.lock
        self._settled = threading.Condition(self._lock)  # for those who offer
        self._waiting: list[_Offer] = []
        self._reserved = 0  # bytes that are on their way to the disk
        self._writing = False
        self._fault: str | None = None
        self._missing = 0  # bytes that the failing disk could not take
        self._released = False
        self.outlets = {
            way.name: Outlet(self._stock, line, self._folder, joins=way.joins)
            for way, line in zip(ways, lines, strict=True)
        }
        for line in lines:
            for stretch in line.stretches:
                for signal, records in stretch.held.items():
                    line.account.recovered(signal, records)
        for how, size in found.lost.items():
            ledger.lost(how, size)
        if found.segments or +found.lost:
            log.info("queue recovered", records=self.records, **{f"{how}_bytes": n for how, n in found.lost.items()})

    # Offering -----------------------------------------------------------------------------------------------
    def offer(self, batch: Batch) -> str | None:
        """Take the batch: None when it is safe on disk, otherwise the word that says why it was not taken."""
        given_up: list[Segment] = []
        try:
            with self._lock:
                return self._offer(batch, given_up)
        finally:
            self._stock.remove(given_up)

    def _offer(self, batch: Batch, given_up: list[Segment]) -> str | None:
        if self._stock.closed:
            return SHUTDOWN
        size = FRAME_BYTES + len(batch.payload)
        while self._bytes() + self._beginning() + size > self._max_bytes:
            segments = self._stock.overtake()
            if not segments:
                return FULL
            given_up += segments
        offer = _Offer(batch)
        self._waiting.append(offer)
        self._reserved += size
        while not offer.settled:
            if self._writing:
                self._settled.wait()
            else:
                self._write()
        if offer.refusal is not None and self._fault in _NO_ROOM:
            given_up += self._stock.overtake()  # a destination that is away must not fill the disk for the others
        return offer.refusal

    @property
    def ready(self) -> bool:
        """Whether the disk takes what it is given; one that failed is asked again, for as much as it did not take."""
        with self._lock:
            if self._fault is not None and not self._writing and not self._stock.closed:
                self._write()
            return self._fault is None

    def _write(self) -> None:
        """Write what waits. To be called with the lock, which others may have meanwhile."""
        group, self._waiting = self._waiting, []
        batches = [offer.batch for offer in group]
        size = sum(FRAME_BYTES + len(batch.payload) for batch in batches)
        fault, written = DISK, None
        reserved = size + (AROUND_BYTES if self._writer.active is None else 0)
        self._reserved += reserved - size
        self._writing = True
        self._lock.release()
        try:
            written = self._writer.write(batches, size if group else self._missing, self._segment_bytes)
        except OSError as error:
            fault = errno.errorcode.get(error.errno or 0, "EIO").lower()
        finally:
            self._lock.acquire()
            self._writing = False
            self._reserved -= reserved
            if written is None:
                self._failed(fault, size)
            else:
                self._written(*written, batches)
            for offer in group:
                offer.settled, offer.refusal = True, DISK if written is None else None
            self._settled.notify_all()
            self._stock.changed.notify_all()

    def _written(self, segment: Segment, end: int, batches: list[Batch]) -> None:
        self._stock.add(segment, end, batches)
        if end >= self._segment_bytes:
            self._writer.seal()
        if self._fault is not None:
            log.info("the queue's disk works again")
        self._fault, self._missing = None, 0

    def _failed(self, fault: str, size: int) -> None:
        if self._fault is None:  # one line when it begins, one when it ends; the ledger counts what is between
            log.error("the queue's disk fails, exports are put off", reason=fault)
        self._fault, self._missing = fault, max(size, self._missing)

    # Ending -------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Refuse new batches; those inside can still be taken."""
        with self._lock:
            self._stock.closing.set()
            self._stock.changed.notify_all()

    def release(self) -> None:
        """Give the folder up; what is inside stays on disk for the next process. Idempotent; nobody may take then."""
        self.close()
        with self._lock:
            self._settled.wait_for(lambda: not self._writing and not self._waiting)
            self._writer.finish()
            released, self._released = self._released, True
        if not released:
            for outlet in self.outlets.values():
                outlet.leave()
            self._stock.note()
            self._folder.leave()
            self._owner.release()

    @property
    def records(self) -> int:
        """Records inside; one that several destinations wait for is one."""
        with self._lock:
            return self._stock.records()

    def wait_until_empty(self, timeout: float) -> bool:
        """Wait until every batch has met its fate at every destination, at most `timeout` seconds."""
        with self._lock:
            return self._stock.changed.wait_for(lambda: all(line.empty for line in self._stock.lines), timeout)

    def _beginning(self) -> int:
        """Bytes around the frames, if what is offered now may be the first in a segment."""
        active = self._writer.active
        if active is None:
            return 0 if self._writing else AROUND_BYTES
        return AROUND_BYTES if active.end + self._reserved >= self._segment_bytes else 0

    def _bytes(self) -> int:
        return self._reserved + self._stock.size()
