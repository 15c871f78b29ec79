"""Folders that are ours alone: made with mode 0700, refused when others could look or write inside, owned by
one.

What it refuses: a symbolic link in place of the folder, a folder of another user, one that others may enter
and that already holds something (an empty one is closed to others), and a folder that another sidecar holds.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from .settings import ConfigurationError

LOCK_NAME: Final = "sidecar.lock"


def private_folder(folder: Path, key: str) -> Path:
    """Make sure that `folder` exists and is ours alone; `key` is the setting that named it.

    Raises:
        ConfigurationError: it cannot be made or is not ours alone; one line that names the key.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigurationError(f"{key}: {str(folder)!r} is a symbolic link or not a folder")
        if found.st_uid != os.geteuid():
            raise ConfigurationError(f"{key}: the folder {str(folder)!r} belongs to another user")
        if found.st_mode & 0o077:
            if any(folder.iterdir()):
                raise ConfigurationError(
                    f"{key}: others may enter the folder {str(folder)!r}; "
                    f"close it with `chmod 700` or name one that the sidecar can have for itself"
                )
            folder.chmod(0o700)
    except OSError as error:
        raise ConfigurationError(f"{key}: cannot use {str(folder)!r} as a folder: {error.strerror}") from None
    return folder


def check_private_folder(folder: Path, key: str) -> None:
    """What `private_folder` would say, without making or changing anything.

    Raises:
        ConfigurationError: as `private_folder`.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        parent = next(above for above in folder.parents if above.exists())
        if not os.access(parent, os.W_OK | os.X_OK):
            raise ConfigurationError(f"{key}: cannot use {str(folder)!r} as a folder: Permission denied") from None
        return
    except OSError as error:
        raise ConfigurationError(f"{key}: cannot use {str(folder)!r} as a folder: {error.strerror}") from None
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or (found.st_mode & 0o077 and any(folder.iterdir()))
    ):
        private_folder(folder, key)  # which says what is wrong, and changes nothing of such a one


def is_kept_in_memory(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Whether a folder, or where it would be made, is on a file system without a disk. False when nobody can tell."""
    there = next(above for above in (folder, *folder.parents) if above.exists())
    try:
        device = there.stat().st_dev
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return False
    # proc(5): mount id, parent, major:minor, root, mount point, options, optional fields, "-", type, ...
    name = f"{os.major(device)}:{os.minor(device)}"
    types = {line.partition(" - ")[2].partition(" ")[0] for line in lines if line.split(" ", 3)[2:3] == [name]}
    return bool(types & {"tmpfs", "ramfs"})


def private_file(path: Path, most: int) -> bytes:
    """What is in a file that not everybody may read, at most `most` bytes of it.

    Raises:
        ValueError: it is no file, or open to everybody; the message has no part of its content.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("is not a file")
            if found.st_mode & 0o007:
                raise ValueError("can be read by everybody; close it with `chmod o= FILE`")
            return file.read(most)
    except OSError:
        raise ValueError("cannot be read") from None


class FolderLock:
    """Ownership of a folder, held until `release` or the end of the process, however that comes.

    Raises:
        ConfigurationError: another process holds the folder.
    """

    def __init__(self, folder: Path, key: str) -> None:
        # O_NOFOLLOW: nobody may point the lock at a file of ours elsewhere.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor: int | None = os.open(folder / LOCK_NAME, flags, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{key}: cannot lock {str(folder)!r}: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise ConfigurationError(f"{key}: another sidecar owns {str(folder)!r}; give each its own") from None

    def release(self) -> None:
        """Give the folder up; idempotent. The file stays: removing it would let two owners lock two files."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
