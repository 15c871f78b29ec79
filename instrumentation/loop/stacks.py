"""The writer's end of the stacks file: mapped, so that a stack is published without ever giving the interpreter up.

Each system call from Python gives the interpreter away, and beside a thread that computes it takes 5 ms to come back:
writing through the mapping takes none.

What it refuses: to write into a descriptor that is not its own any more. Programs that become daemons close every
descriptor they find, and the number may be somebody's socket by now.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from pathlib import Path
from typing import Final

from sidecar.wire import process
from sidecar.wire import stacks as layout

_ROOM: Final = layout.SIZE - layout.TAKEN_TEXT


class StacksFile:
    """The stacks file of this process. Use `create`."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path
        self._memory = mmap.mmap(descriptor, layout.SIZE)
        self._words = memoryview(self._memory)[: layout.HEADER_WORDS * 8].cast("Q")
        found = os.fstat(descriptor)
        self._identity = found.st_dev, found.st_ino

    @classmethod
    def create(cls, folder: Path) -> StacksFile:
        """A new, empty file in a folder that is ours alone.

        Raises:
            OSError: no room, or there is such a file.
        """
        path = folder / layout.name(os.getpid(), process.own_start())
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(descriptor, 0o600)
            os.posix_fallocate(descriptor, 0, layout.SIZE)
            return cls(descriptor, path)
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise

    def publish(self, now: int, text: bytes) -> None:
        """Replace the stacks that we took. What does not fit is cut off."""
        text = text[:_ROOM]
        words = self._words
        words[layout.TAKEN] = 0
        words[layout.TAKEN_BYTES] = len(text)
        self._memory[layout.TAKEN_TEXT : layout.TAKEN_TEXT + len(text)] = text
        words[layout.TAKEN] = now

    def ours(self) -> bool:
        """Whether the descriptor is still this file's."""
        try:
            found = os.fstat(self._descriptor)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def close(self) -> None:
        """Take the file away."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self.forget()

    def forget(self) -> None:
        """Give the descriptor up, and leave the file: in a forked child it is the parent's."""
        self._words.release()
        with contextlib.suppress(BufferError):
            self._memory.close()  # which has a descriptor of its own, and with it the lock
        if self.ours():
            os.close(self._descriptor)
