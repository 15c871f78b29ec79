"""How far the queue has been delivered: one small file, replaced as a whole.

It may lag behind: then batches are delivered again, under the id that they had the first time. What it refuses: to
guess; a file that is not exactly what was written counts as none, and delivery begins with the oldest segment.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from .disk import Folder
from .frames import ID_BYTES

NAME: Final = "cursor"
_NEW_NAME: Final = "cursor.new"
_FORM: Final = struct.Struct(f"<4sQQ{ID_BYTES}s")
_CHECKSUM: Final = struct.Struct("<I")
_MAGIC: Final = b"TSC1"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything before `offset` of this segment, and every segment with a lower number, has been delivered."""

    number: int
    segment: bytes
    offset: int


def load(folder: Folder) -> Cursor | None:
    """The cursor on disk; None when there is none that can be believed."""
    with contextlib.suppress(OSError):
        descriptor = folder.open(NAME)
        try:
            found = folder.read(descriptor, 0, _FORM.size + _CHECKSUM.size + 1)
        finally:
            folder.close(descriptor)
        body, checksum = found[: _FORM.size], found[_FORM.size :]
        if checksum == _CHECKSUM.pack(crc32(body)) and len(body) == _FORM.size:
            magic, number, offset, segment = _FORM.unpack(body)
            if magic == _MAGIC:
                return Cursor(number, segment, offset)
    return None


def save(folder: Folder, cursor: Cursor) -> None:
    """Replace the cursor on disk. Raises OSError; the old one is there still then."""
    body = _FORM.pack(_MAGIC, cursor.number, cursor.offset, cursor.segment)
    with contextlib.suppress(FileNotFoundError):
        folder.remove(_NEW_NAME)
    descriptor = folder.create(_NEW_NAME)
    try:
        folder.write(descriptor, body + _CHECKSUM.pack(crc32(body)))
        folder.sync(descriptor)
    finally:
        folder.close(descriptor)
    folder.rename(_NEW_NAME, NAME)
