"""A folder on disk, in the few operations that the queue needs. Every one may raise OSError.

Every name is opened relative to the folder that was opened first: who moves the folder away or puts another in its
place does not redirect anything. What it refuses: symbolic links, and whatever is not a regular file.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW
_PIECES: Final = 1024  # that Linux takes at once

# What does not pass by itself: the file is gone, is something else, or the disk cannot read it.
_LASTING: Final = frozenset(
    {errno.EIO, errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO, errno.EBADMSG, errno.EUCLEAN}
)


def lasting(error: OSError) -> bool:
    """Whether a file that could not be read will not be readable later either; too many open files, say, will pass."""
    return error.errno in _LASTING


class Folder:
    """An open folder; files in it are made with mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _FLAGS)

    def names(self) -> list[str]:
        """What is in the folder."""
        return os.listdir(self._folder)  # noqa: PTH208  # by descriptor

    def create(self, name: str) -> int:
        """A descriptor of a new, empty file."""
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=self._folder)

    def open(self, name: str) -> int:
        """A descriptor of a file that is there, to read and to cut it."""
        # O_NONBLOCK: opening a pipe would wait for its other end.
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_NONBLOCK | _FLAGS, dir_fd=self._folder)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _FLAGS, dir_fd=self._folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file")
        return descriptor

    def size(self, descriptor: int) -> int:
        """Bytes of the file."""
        return os.fstat(descriptor).st_size

    def read(self, descriptor: int, offset: int, length: int) -> bytes:
        """So many bytes, fewer only at the end of the file."""
        found = os.pread(descriptor, length, offset)
        while len(found) < length and (more := os.pread(descriptor, length - len(found), offset + len(found))):
            found += more
        return found

    def write(self, descriptor: int, *data: bytes) -> None:
        """All of `data`, at the end of what was written: in one call, for each is a change of threads."""
        rest = [memoryview(piece) for piece in data if piece]
        while rest:
            written = os.writev(descriptor, rest[:_PIECES])
            while rest and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if written:
                rest[0] = rest[0][written:]

    def reserve(self, descriptor: int, length: int) -> None:
        """Find out whether the disk has room for so many bytes; the file keeps its size."""
        before = self.size(descriptor)
        os.posix_fallocate(descriptor, before, max(1, length))
        os.ftruncate(descriptor, before)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file."""
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """The file's bytes, and its size, outlive a power cut."""
        os.fdatasync(descriptor)

    def sync_names(self) -> None:
        """Files made, renamed and removed so far stay so after a power cut."""
        os.fsync(self._folder)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name; one that had this name is gone."""
        os.replace(old, new, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def remove(self, name: str) -> None:
        """Remove a file."""
        os.unlink(name, dir_fd=self._folder)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def leave(self) -> None:
        """Close the folder."""
        os.close(self._folder)
