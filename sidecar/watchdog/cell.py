"""The reader's end of a cell: a file that another process writes, and that is trusted no further than checked.

Read with `pread`, not mapped: a file that shrinks under a mapping is a SIGBUS, under `pread` a short read. That costs a
microsecond a poll, and nothing that an application does to its own file can crash the watchdog.

Whether a file is a cell at all is for `opening` to say; whose a slot is, for `holders`. What this refuses: to read
beyond the file's end.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from sidecar.wire import cell as layout
from sidecar.wire import frames, stacks

from .holders import Holders, Shown
from .mode import Mode
from .stacks import Asked, Found

_HEADER: Final = struct.Struct(f"={layout.HEADER_WORDS}Q")
_READS: Final = 5  # of a table whose keys move meanwhile; then as it is


class RefusedError(Exception):
    """A cell can't be trusted, or not any more. `reason` is one of `opening.REASONS`; the message is for a person."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


#: Tells a process from all others: in whose counting, pid, start time.
ProcessKey = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Totals:
    """What a cell says about one tenant; times in nanoseconds."""

    tenant: str
    loop_ns: int
    slices: int
    longest_ns: int
    suffered_ns: int
    caused_ns: int
    waits: int
    queued_ns: int = 0
    queued: int = 0


class LongSlice(NamedTuple):
    """A long slice that has ended.

    Attributes:
        running: `RUNNING` as it was.
        ended: when it did.
        lacked: for how long at most its thread was ready and had no CPU, in nanoseconds; None when not known.
    """

    running: int
    ended: int
    lacked: int | None


class Cell(Protocol):
    """What is known of one loop, however it came here. Words and times as in `sidecar.wire.cell`, by our clock.

    Attributes:
        mode: how it came here.
        process: whose it is.
        pid: as the process counts itself.
        loop_id: of the loop within its process.
    """

    @property
    def mode(self) -> Mode: ...
    @property
    def process(self) -> ProcessKey: ...
    @property
    def pid(self) -> int: ...
    @property
    def loop_id(self) -> int: ...

    def header(self) -> tuple[int, ...]:
        """The header's words."""

    def as_of(self, now: int) -> int:
        """Until when the header tells: `now` for a cell that is read now."""

    def heard(self) -> int:
        """When the loop or its process last gave a sign of life."""

    def suffered(self) -> dict[int, int]:
        """What the holder of each slot has suffered so far, in nanoseconds, by `layout.holder`."""

    def totals(self) -> list[Totals]:
        """The totals of every tenant that had the loop or waited for it."""

    def name(self, holder: int) -> str:
        """The tenant who has or had a slot; `unknown` for a slot without a name, `other` when nobody knows any more."""

    def whose(self, running: int) -> str:
        """The tenant of a slice, by the word `RUNNING` as it was while it ran."""

    def long_slices(self, first: int, count: int) -> list[LongSlice]:
        """The long slices from the `first` up to the `count`-th, as far as they are still there, the oldest first."""

    def abandoned(self) -> bool:
        """Whether it is certain that no process has this cell any more."""

    def stack(self, since: int) -> Asked | Found:
        """The stack of its loop's thread, taken later than `since`: found, or what to ask for."""

    def close(self) -> None:
        """Give it up; once."""


class CellReader:
    """An opened and verified cell, see `Cell`. `opening.open_cell` makes it.

    Every method raises `RefusedError` when the file has shrunk.

    Attributes:
        process_start: checked against the system in mode `CELL`.
    """

    def __init__(
        self, descriptor: int, slots: int, mode: Mode, process: ProcessKey, loop_id: int, folder: Path, shown: Shown
    ) -> None:
        self._descriptor = descriptor
        self._slots = slots
        self._holders = Holders(lambda length, offset: _read(descriptor, length, offset), slots, shown)
        self.mode = mode
        self.process = process
        _, self.pid, self.process_start = process
        self.loop_id = loop_id
        self._stacks = folder / stacks.name(self.pid, self.process_start)

    def header(self) -> tuple[int, ...]:
        """The header's words."""
        return header_of(self._descriptor)

    def as_of(self, now: int) -> int:
        """It is read now."""
        return now

    def heard(self) -> int:
        """When its timer last ran."""
        return self.header()[layout.HEARTBEAT]

    def stack(self, since: int) -> Asked:
        """In the memory of its process, if that can be looked up from here, or as the process left it."""
        header = self.header()
        thread = frames.Thread(
            header[layout.PYTHON], header[layout.THREAD_STATE], header[layout.IDENT], header[layout.THREAD]
        )
        whose = (self.pid, self.process_start) if self.mode is Mode.CELL else None
        return Asked(whose, thread, self._stacks, since)

    def abandoned(self) -> bool:
        """Whether nobody holds the lock: the process holds it for as long as it maps the cell, however it ends."""
        return not locked(self._descriptor)

    def long_slices(self, first: int, count: int) -> list[LongSlice]:
        """Of the long slices from the `first` up to the `count`-th, those that are still there."""
        words = self._words(layout.long_word(self._slots, 0), layout.MAX_LONG * layout.LONG_WORDS)
        # What was written over meanwhile is of later ones, and is found at the next look.
        first = max(first, self.header()[layout.LONG_SLICES] - layout.MAX_LONG + 1, count - layout.MAX_LONG)
        places = (number % layout.MAX_LONG * layout.LONG_WORDS for number in range(first, count))
        found = (words[at : at + layout.LONG_WORDS] for at in places)
        return [LongSlice(began, end, None if lacked == layout.NOT_KNOWN else lacked) for began, end, lacked in found]

    def suffered(self) -> dict[int, int]:
        """What the holder of each slot has suffered so far, in nanoseconds."""
        words, step = self.slot_words(), layout.SLOT_WORDS
        return dict(zip(holders_in(words), words[layout.SUFFERED_NS :: step], strict=True))

    def totals(self) -> list[Totals]:
        """The totals of every tenant that had the loop or waited for it."""
        words = self.slot_words()
        found = []
        for slot, holder in enumerate(holders_in(words)):
            at = slot * layout.SLOT_WORDS
            told = words[at : at + 6] + words[at + layout.QUEUED_NS : at + layout.QUEUED + 1]
            if any(told):
                found.append(Totals(self.name(holder), *told))
        return found

    def name(self, holder: int) -> str:
        """The tenant who has or had a slot; `unknown` for a slot without a name, `other` when nobody knows any more."""
        return self._holders.name(holder)

    def whose(self, running: int) -> str:
        """The tenant of a slice, by the word `RUNNING` as it was while it ran."""
        return self._holders.whose(running)

    def close(self) -> None:
        """Give the file up; once."""
        os.close(self._descriptor)

    def tenant_id(self, holder: int) -> str:
        """The tenant's id itself, to look it up; people are shown `name`."""
        return self._holders.tenant_id(holder)

    def slot_words(self) -> tuple[int, ...]:
        """The slot table, as far as its slots have had names: `layout.SLOT_WORDS` a slot. Empty: not known just now."""
        return self._holders.table()

    def delays(self, holder: int) -> tuple[int, ...] | None:
        """How often a holder's ready work waited, by the bounds of `layout.DELAY_BOUNDS_NS`; None: not known."""
        return self._holders.delays(holder)

    def pairs(self) -> tuple[list[tuple[int, int, int]], int]:
        """(culprit, victim, nanoseconds) of each pair that the cell has, and what all others waited."""
        table, length = layout.pairs_word(self._slots), layout.PAIRS_HEADER + layout.MAX_PAIRS * layout.PAIR_WORDS
        for _ in range(_READS):
            words = self._words(table, length)
            change = words[layout.PAIRS_CHANGE]
            if not change % 2 and self._words(table, 1) == (change,):
                break
        entries = zip(words[layout.PAIRS_HEADER :: 2], words[layout.PAIRS_HEADER + 1 :: 2], strict=True)
        return [(*layout.holders_of(key), wait) for key, wait in entries if key], words[layout.PAIRS_REST_NS]

    def _words(self, first: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"={count}Q", _read(self._descriptor, count * 8, first * 8))


def holders_in(words: tuple[int, ...]) -> list[int]:
    """Who has the slots of a slot table."""
    return [layout.holder(slot, owner) for slot, owner in enumerate(words[layout.OWNER :: layout.SLOT_WORDS])]


def locked(descriptor: int) -> bool:
    """Whether a process holds the lock that it takes on a cell of its own."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def header_of(descriptor: int) -> tuple[int, ...]:
    """The header's words.

    Raises:
        RefusedError: there are not as many.
    """
    return _HEADER.unpack(_read(descriptor, _HEADER.size, 0))


def _read(descriptor: int, length: int, offset: int) -> bytes:
    try:
        raw = os.pread(descriptor, length, offset)
    except OSError as error:
        raise RefusedError("truncated", f"it cannot be read: {error.strerror}") from None
    if len(raw) != length:
        raise RefusedError("truncated", "it ends too early")
    return raw
