"""The form of the queue's files: a header, frames, one for each batch, and a footer. Pure: bytes in, bytes out.

    segment = "TSQ1", 12 random bytes (the segment's id), frame*, footer?
    frame   = CRC32, length of the payload, records, signal, 3 zero bytes, payload      (little endian)
    footer  = CRC32, its own offset, records of each signal in all the frames before it

Each CRC covers what follows it, and begins with the segment's header: bytes that the disk once held for another segment
never pass. It finds every flipped bit; it is no protection against somebody who may write in the folder. A segment with
a footer was whole when that was written, and the footer says what is in it, without a look at every frame. One that was
never finished has none.

What it refuses: to give out a frame that is not exactly what was written, and to believe a footer that is not the end.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from sidecar.conventions import Signal

from .batch import Batch

MAGIC: Final = b"TSQ1"
ID_BYTES: Final = 12
HEADER_BYTES: Final = len(MAGIC) + ID_BYTES

_CHECKED: Final = struct.Struct("<IIB3x")
_CHECKSUM: Final = struct.Struct("<I")
FRAME_BYTES: Final = _CHECKSUM.size + _CHECKED.size
# Part of the form: an order of signals that changes elsewhere must not change what is on disk.
_CODES: Final[dict[Signal, int]] = {"traces": 1, "metrics": 2, "logs": 3}
_SIGNALS: Final = {code: signal for signal, code in _CODES.items()}
_MAX_FIELD: Final = 2**32 - 1
_TOTALS: Final = struct.Struct(f"<Q{len(_CODES)}Q")
FOOTER_BYTES: Final = _CHECKSUM.size + _TOTALS.size
#: Of a segment, besides its frames.
AROUND_BYTES: Final = HEADER_BYTES + FOOTER_BYTES

# Reads so many bytes from an offset on; fewer where the file ends.
Read = Callable[[int, int], bytes]


class Damaged(Exception):  # noqa: N818  # a verdict, not an error
    """From here on the segment is not what was written.

    Attributes:
        torn: it ends in the middle of a frame, or in zeros: what a crash during a write leaves behind.
    """

    def __init__(self, torn: bool) -> None:
        super().__init__()
        self.torn = torn


@dataclass(frozen=True, slots=True)
class Frame:
    """A batch as found in a segment, and the offset of what comes after it."""

    batch: Batch
    end: int


def header(segment: bytes) -> bytes:
    """The first bytes of the segment with this id."""
    return MAGIC + segment


def frame_head(segment: bytes, batch: Batch) -> bytes:
    """What stands before the payload of `batch` in the segment with this id."""
    checked = _CHECKED.pack(len(batch.payload), min(batch.records, _MAX_FIELD), _CODES[batch.signal])
    return _CHECKSUM.pack(_checksum(segment, checked, batch.payload)) + checked


def read_header(read: Read, size: int) -> bytes:
    """The id of a segment of `size` bytes. Raises Damaged."""
    found = read(0, HEADER_BYTES)
    if len(found) < HEADER_BYTES:
        raise Damaged(torn=True)
    if not found.startswith(MAGIC):
        raise Damaged(torn=not any(found) and not any(read(0, size)))
    return found[len(MAGIC) :]


def read_frame(read: Read, segment: bytes, offset: int, size: int) -> Frame:
    """The frame at `offset` of a segment of `size` bytes. Raises Damaged."""
    head = read(offset, FRAME_BYTES)
    if len(head) < FRAME_BYTES:
        raise Damaged(torn=True)
    checked = head[_CHECKSUM.size :]
    length, records, code = _CHECKED.unpack(checked)
    start, end = offset + FRAME_BYTES, offset + FRAME_BYTES + length
    if end > size:
        raise Damaged(torn=True)
    payload = read(start, length)
    (checksum,) = _CHECKSUM.unpack_from(head)
    if len(payload) != length or code not in _SIGNALS or checksum != _checksum(segment, checked, payload):
        raise Damaged(torn=not any(head) and not any(read(offset, size - offset)))
    name = f"{segment.hex()}-{offset}"
    return Frame(Batch(_SIGNALS[code], payload, records, name), end)


def footer(segment: bytes, offset: int, held: Mapping[Signal, int]) -> bytes:
    """What stands at `offset`, after the last frame of the segment with this id, which holds so many records."""
    totals = _TOTALS.pack(offset, *(held.get(signal, 0) for signal in _CODES))
    return _CHECKSUM.pack(_checksum(segment, totals)) + totals


def read_footer(read: Read, segment: bytes, size: int) -> tuple[int, Counter[Signal]] | None:
    """Where the frames of a segment of `size` bytes end, and the records in them; None without a footer."""
    found = read(max(0, size - FOOTER_BYTES), FOOTER_BYTES)
    if len(found) < FOOTER_BYTES:
        return None
    (checksum,), totals = _CHECKSUM.unpack_from(found), found[_CHECKSUM.size :]
    offset, *records = _TOTALS.unpack(totals)
    if checksum != _checksum(segment, totals) or offset != size - FOOTER_BYTES:
        return None
    return offset, +Counter(dict(zip(_CODES, records, strict=True)))


def _checksum(segment: bytes, checked: bytes, payload: bytes = b"") -> int:
    return crc32(payload, crc32(checked, crc32(header(segment))))
