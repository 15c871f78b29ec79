"""How far each destination has come in the queue: one small file, replaced as a whole.

It may lag behind: then batches are delivered again, under the id that they had the first time. What it refuses: to
guess; a file that is not exactly what was written counts as none, and delivery begins with the oldest segment.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from .disk import Folder
from .frames import ID_BYTES

NAME: Final = "cursor"
MAX_BYTES: Final = 64 * 1024
_NEW_NAME: Final = "cursor.new"
_NAME_BYTES: Final = 16
_MAGIC: Final = b"TSC2"
_ENTRY: Final = struct.Struct(f"<{_NAME_BYTES}sQQ{ID_BYTES}s")
_CHECKSUM: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything before `offset` of this segment, and every segment with a lower number, has been delivered."""

    number: int
    segment: bytes
    offset: int


def load(folder: Folder, names: tuple[str, ...]) -> Mapping[str, Cursor | None]:
    """The cursors of these destinations; None where there is none that can be believed.

    A destination that the file does not know begins where the slowest of those before it stood: it may have come in the
    place of one of them, under another name.
    """
    found = _read(folder)
    slowest = min(found.values(), key=lambda cursor: (cursor.number, cursor.offset), default=None)
    return {name: found.get(_digest(name), slowest) for name in names}


def save(folder: Folder, cursors: Mapping[str, Cursor]) -> None:
    """Replace the cursors on disk. Raises OSError; the old ones are there still then."""
    entries = (_ENTRY.pack(_digest(name), at.number, at.offset, at.segment) for name, at in cursors.items())
    body = _MAGIC + b"".join(entries)
    with contextlib.suppress(FileNotFoundError):
        folder.remove(_NEW_NAME)
    descriptor = folder.create(_NEW_NAME)
    try:
        folder.write(descriptor, body + _CHECKSUM.pack(crc32(body)))
        folder.sync(descriptor)
    finally:
        folder.close(descriptor)
    folder.rename(_NEW_NAME, NAME)


def _read(folder: Folder) -> dict[bytes, Cursor]:
    with contextlib.suppress(OSError):
        descriptor = folder.open(NAME)
        try:
            found = folder.read(descriptor, 0, MAX_BYTES)
        finally:
            folder.close(descriptor)
        body, checksum = found[: -_CHECKSUM.size], found[-_CHECKSUM.size :]
        entries = body[len(_MAGIC) :]
        whole = body.startswith(_MAGIC) and len(entries) % _ENTRY.size == 0
        if whole and checksum == _CHECKSUM.pack(crc32(body)):
            return {
                name: Cursor(number, segment, offset) for name, number, offset, segment in _ENTRY.iter_unpack(entries)
            }
    return {}


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=_NAME_BYTES).digest()
