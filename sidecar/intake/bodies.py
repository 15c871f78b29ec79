"""Bodies of HTTP requests, inflated within bounds.

No more than a request may hold is ever made of one, however small it came: inflating ends with the first byte too many.
A zstd frame may ask for a window of gigabytes before its first byte; it gets one that holds the largest request.

What it refuses: other compressions, one compression on top of another, and whatever follows the end of what was
compressed.
"""

from __future__ import annotations

import zlib
from typing import Final

import zstandard

from sidecar.network.otlp import MAX_REQUEST_BYTES

from .admission import Malformed
from .verdicts import too_large, unreadable

_WINDOW_BYTES: Final = 8 * 1024 * 1024  # what zstd's own format asks decoders to support
# A block of 128 KiB can have four bytes: so small a piece of input makes 4 MiB at most before its size is looked at.
_PIECE_BYTES: Final = 128


def inflated(body: bytes, encoding: str, most: int = MAX_REQUEST_BYTES) -> bytes:
    """The body as it was before `encoding`, its Content-Encoding.

    Raises:
        Malformed: it is not what the encoding says. Refusal: it is too large, or the encoding is not known.
    """
    if encoding in ("", "identity"):
        whole = body
    elif encoding == "gzip":
        whole = _from_gzip(body, most)
    elif encoding == "zstd":
        whole = _from_zstd(body, most)
    else:
        raise unreadable()
    if len(whole) > most:
        raise too_large()
    return whole


def _from_gzip(body: bytes, most: int) -> bytes:
    inflating = zlib.decompressobj(wbits=31)
    try:
        whole = inflating.decompress(body, most + 1)
    except zlib.error:
        raise Malformed("compression") from None
    if len(whole) <= most and (not inflating.eof or inflating.unused_data):
        raise Malformed("compression")
    return whole


def _from_zstd(body: bytes, most: int) -> bytes:
    inflating = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
    pieces, size = [], 0
    try:
        for start in range(0, len(body), _PIECE_BYTES):
            pieces.append(inflating.decompress(body[start : start + _PIECE_BYTES]))
            size += len(pieces[-1])
            if size > most:
                raise too_large()
            if inflating.eof:
                if inflating.unused_data or start + _PIECE_BYTES < len(body):
                    raise Malformed("compression")
                return b"".join(pieces)
    except zstandard.ZstdError:
        raise Malformed("compression") from None
    raise Malformed("compression")  # it ends in the middle
