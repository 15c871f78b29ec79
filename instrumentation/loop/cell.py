"""The writer's end of a cell: a file in shared memory, complete before it has a name, gone when its loop is.

The file lies in a folder that only this user can enter, is made with `O_EXCL` and mode 0600, has all its blocks
allocated (a later store into a full file system would be a SIGBUS for the application), and is locked for as long as
the process maps it, which is how `sweep` knows the leftovers of processes that were killed.

What it refuses: a folder that is a symbolic link, belongs to somebody else or is open to others. Without a usable
folder the words live in anonymous memory: the accounting goes on, and heartbeats tell what nobody else can read.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import mmap
import os
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from instrumentation import tenancy
from instrumentation.diagnostics import count, fault, log
from sidecar.wire import cell as layout
from sidecar.wire import process, stacks

_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # the folder inside is verified to be ours alone
_SUFFIX: Final = ".cell"


class Cell:
    """The words of one loop's cell. Use `create`.

    Attributes:
        words: the whole cell as unsigned 64-bit words; scratch memory after `remove` or `forget`, so that a callback
            which is still running stores into nothing.
        path: absolute path of the file; None in anonymous memory.
    """

    def __init__(self, memory: mmap.mmap, slots: int, path: Path | None, clock: Callable[[], int]) -> None:
        self._memory: mmap.mmap | None = memory
        self.words = memoryview(memory).cast("Q")
        self.path = path
        self._clock = clock
        self._slots = slots
        self._table = tenancy.TABLE

    @classmethod
    def create(
        cls, directory: Path | None, loop_id: int, now_ns: int, clock: Callable[[], int] = time.monotonic_ns
    ) -> Cell:
        """A cell with a slot for every tenant that has one, in `directory` if that works.

        Args:
            now_ns: the present time, by `clock`, which tells when a slot changes hands.

        Raises:
            ValueError: the tenant table has more slots than a cell.
        """
        slots = tenancy.TABLE.slots
        if slots > layout.MAX_SLOTS:
            raise ValueError("the tenant table has more slots than a cell")
        if directory is not None:
            try:
                return cls._in_file(directory, loop_id, now_ns, slots, clock)
            except OSError as error:
                count("cell.anonymous")
                log.warning(
                    "no shared memory for a cell, only heartbeats tell of this loop", error=type(error).__name__
                )
        cell = cls(mmap.mmap(-1, layout.size(slots)), slots, None, clock)
        cell._fill(loop_id, now_ns)
        return cell

    @classmethod
    def _in_file(cls, directory: Path, loop_id: int, now_ns: int, slots: int, clock: Callable[[], int]) -> Cell:
        # Another container's process may have the same pid, and have begun at the same tick.
        unique = secrets.token_hex(4)
        path = directory / f"{os.getpid()}-{process.own_start()}-{loop_id}-{unique}{_SUFFIX}"
        unfinished = path.with_suffix(".new")
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        cell = None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(descriptor, 0o600)  # the umask may have taken bits that the mode asked for
            os.posix_fallocate(descriptor, 0, layout.size(slots))
            # The mapping keeps a duplicate of the descriptor, and with it the lock.
            cell = cls(mmap.mmap(descriptor, layout.size(slots)), slots, path, clock)
            cell._fill(loop_id, now_ns)
            unfinished.rename(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            if cell is not None:
                cell.release()
            raise
        finally:
            os.close(descriptor)
        return cell

    def _fill(self, loop_id: int, now_ns: int) -> None:
        words = self.words
        words[layout.LAYOUT] = layout.VERSION
        words[layout.SLOTS] = self._slots
        words[layout.PID] = os.getpid()
        words[layout.THREAD] = threading.get_native_id()
        words[layout.IDENT] = threading.get_ident()
        words[layout.PROCESS_START] = process.own_start()
        words[layout.CREATED] = words[layout.BEAT] = words[layout.HEARTBEAT] = now_ns
        words[layout.LOOP_ID] = loop_id
        words[layout.MAGIC] = layout.MAGIC_VALUE
        self._table.listen(self._name)

    def _name(self, tenant: tenancy.Tenant) -> None:
        """Write a tenant's name, then count it. Called by the tenant table, so it must not raise."""
        try:
            text, slot, words = tenant.id.encode(), tenant.slot, self.words
            owner = self._table.generations[slot]
            at = layout.name_offset(self._slots, slot)
            memory = words.cast("B")
            with _changing_hands(words):
                memory[at + 8 : at + 8 + len(text)] = text
                words[at // 8] = len(text)
                words[layout.slot_word(slot) + layout.OWNER] = owner
                words[layout.slot_word(slot) + layout.SINCE] = self._clock() & layout.START_BITS if owner else 0
            words[layout.NAMES] = max(words[layout.NAMES], slot + 1)
        except Exception as error:
            fault("cell.name", error)

    def vacate(self, slot: int) -> None:
        """Nobody has this slot any more. Nobody else may write about it now, and its next owner is told of later."""
        words = self.words
        at, delays = layout.slot_word(slot), layout.delay_word(self._slots, slot)
        with self._table.exclusively(), _changing_hands(words):
            words[layout.name_offset(self._slots, slot) // 8] = 0
            words[at + layout.OWNER] += 1
            words[at + layout.SINCE] = self._clock() & layout.START_BITS
            for word in (*range(at, at + layout.TOTALS), *range(delays, delays + layout.DELAY_WORDS)):
                words[word] = 0

    def close(self) -> None:
        """The loop ended in good order: say so, and take the file away. Takes no lock, so a finalizer may call it."""
        words, self.words, self._memory = self.words, scratch(self._slots), None
        words[layout.RUNNING] = 0
        words[layout.CLOSED] = 1
        path, self.path = self.path, None
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()

    def forget(self) -> None:
        """In a forked child: the cell is the parent's, touch neither its words nor its file again.

        Nor keep its lock, which the mapping has: it tells that the parent lives.
        """
        words, self.words = self.words, scratch(self._slots)
        memory, self._memory, self.path = self._memory, None, None
        if memory is not None:  # else it was closed, and these words are everybody's
            words.release()
            with contextlib.suppress(BufferError):  # somebody looks at it this moment, and is not in the child
                memory.close()

    def release(self) -> None:
        """Stop listening for names; takes the tenant table's lock."""
        self._table.unlisten(self._name)


@contextlib.contextmanager
def _changing_hands(words: memoryview) -> Iterator[None]:
    """A reader sees that names or totals change. For one thread at a time: with the table's lock."""
    before = words[layout.OWNERS] & ~1
    try:
        words[layout.OWNERS] = before + 1
        yield
    finally:
        words[layout.OWNERS] = before + 2


@functools.cache
def scratch(slots: int) -> memoryview:
    """Words that nobody reads, of a cell's size."""
    return memoryview(bytearray(layout.size(slots))).cast("Q")


def folder(configured: Path | None) -> Path | None:
    """A folder that is ours alone: the configured one, else in shared memory, else beside the temporary files."""
    name = f"tenantscope-{os.geteuid()}"
    candidates = [configured] if configured is not None else [_SHARED_MEMORY / name, Path(tempfile.gettempdir(), name)]
    for candidate in candidates:
        try:
            candidate.mkdir(mode=0o700, exist_ok=True)
            found = candidate.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
            return candidate
    count("cell.no_folder")
    log.warning(
        "no folder for cells that is ours alone, only heartbeats tell of the loops", tried=[str(c) for c in candidates]
    )
    return None


def sweep(directory: Path) -> int:
    """Remove the files of processes that died without removing them; returns how many."""
    removed = 0
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if path.suffix in (_SUFFIX, ".new", stacks.SUFFIX) and not _alive(path.name):
                removed += _remove_unlocked(path)
    return removed


def _alive(name: str) -> bool:
    try:
        pid, start = (int(part) for part in name.split("-")[:2])
    except ValueError:
        return True  # not a name of ours: not ours to remove
    found = process.stat(pid)
    return found is not None and found[1] == start


def _remove_unlocked(path: Path) -> bool:
    # A process of another pid namespace may share the folder: alive, but not in our /proc. Its lock tells.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
