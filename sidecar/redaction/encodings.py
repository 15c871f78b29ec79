"""Text that was written in the letters of something else: base64, base32, hexadecimal, UTF-16, decimal codes, and what
is compressed underneath.

Each is asked in two steps. A pattern that looks at classes of letters tells whether there can be six readable bytes in
a row at all, at any alignment; names hardly ever pass it, so names cost one search. Only what passes is decoded.

What it refuses: to decode without a bound. Texts are short (`detectors.MAX_TEXT`), and of what is compressed only the
beginning is inflated.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

_BASE64_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}")
_TO_STANDARD: Final = str.maketrans("-_", "+/")
# Base64 gives three bytes four letters of six bits. For a byte that can be read (tab, line break, 0x20 to 0x7e) the
# letters that hold its upper bits are of these classes: the first letter of a group holds six bits of the first byte,
# the second four of the second, the third two of the third. Digits are never in the first class, and "0" is in both
# others: who puts zeros in the place of all digits finds whatever is found with any.
_1ST: Final = "[CDI-Za-f]"
_2ND: Final = "[ACDEFGHQSTUVWXgijklmnwyz0123]"
_3RD: Final = "[ABEFIJMNQRUVYZcdghklopstwx014589]"
_ANY: Final = "[A-Za-z0-9+/_-]"
_GROUP: Final = f"{_1ST}{_2ND}{_3RD}{_ANY}"
#: What every six readable bytes in a row have in base64.
BASE64_GROUPS: Final = f"{_GROUP}{_GROUP}|{_2ND}{_3RD}{_ANY}{_GROUP}{_1ST}{_ANY}|{_3RD}{_ANY}{_GROUP}{_1ST}{_2ND}{_ANY}"
_MAY_BE_BASE64: Final = re.compile(BASE64_GROUPS)
# From here on a run is decoded whatever its letters are: other alphabets, UTF-16, compressed text.
_LONG_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]{32}")
# Every other byte a zero, or the first bytes of gzip (RFC 1952) and zlib (RFC 1950).
_SPECIAL: Final = re.compile(
    f"(?<!{_ANY}){_ANY}{{0,3}}(?:H4sI|e[AFJN]){_ANY}{{14}}|(?:{_ANY}A{_ANY}{{2}}A|A{_ANY}{{2}}A{_ANY}){_ANY}{{14}}"
)

_BASE32_RUN: Final = re.compile(r"(?<![A-Za-z0-9])(?:[A-P][A-Z2-7]{15,}|[a-p][a-z2-7]{15,})(?![A-Za-z0-9])")

#: What may stand between hexadecimal digits.
GAP: Final = "[ :.,;_/|-]{0,2}"
_HEX_RUN: Final = re.compile(rf"[0-9A-Fa-f](?:{GAP}[0-9A-Fa-f]){{11,}}")
_NOT_HEX: Final = re.compile(r"[^0-9A-Fa-f]")
_HEX_MARKS: Final = re.compile(r"0x|\\x", re.IGNORECASE)
_MAY_BE_HEX: Final = re.compile(rf"(?:[02-7]{GAP}[0-9A-Fa-f]{GAP}){{6}}")
_DECIMAL_RUN: Final = re.compile(r"(?<!\d)\d{2,3}(?:[ ,;:_/|-]{1,2}\d{2,3}){5,}(?!\d)")
_DECIMAL: Final = re.compile(r"\d+")

_WRITTEN: Final = re.compile(rb"[\x20-\x7e\t\r\n]{6,}")
_WIDE: Final = re.compile(rb"(?:[\x20-\x7e\t\r\n]\x00){6,}|(?:\x00[\x20-\x7e\t\r\n]){6,}")
# So many letters, digits and everyday marks in a row are no accident: 12 random bytes look so once in 2
# million times.
_PROSE: Final = re.compile(r"[A-Za-z0-9 _.,:;@/'\"!?=-]{12}")
_FOREIGN_PROSE: Final = 24
_COMPRESSED: Final = (b"\x1f\x8b\x08", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_INFLATED: Final = 512

#: In the place of every digit, for a look at all texts that differ in digits alone.
ALL_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")


class Reading(NamedTuple):
    """One plain form of a text; `encoded` when that alone is suspicious: prose that somebody wrote as base64 or so."""

    text: str
    encoded: bool = False


def may_hold_text(text: str) -> bool:
    """Whether it pays to ask `decoded`: no means that it would find nothing."""
    return (
        _MAY_BE_BASE64.search(text) is not None
        or _MAY_BE_HEX.search(text) is not None
        or (len(text) >= 16 and _may_be_other(text, len(text)))
    )


def never_holds_text(zeros: str) -> bool:
    """Whether `may_hold_text` denies a text of up to 15 characters whatever its digits are; here they are zeros."""
    return len(zeros) < 16 and _MAY_BE_BASE64.search(zeros) is None and _HEX_RUN.search(zeros) is None


def _may_be_other(text: str, size: int) -> bool:
    # Each has a shortest form; what is shorter is not searched.
    return (
        (size >= 32 and _LONG_RUN.search(text) is not None)
        or (size >= 20 and ("A" in text or "e" in text or "H4sI" in text) and _SPECIAL.search(text) is not None)
        or _BASE32_RUN.search(text) is not None
        or _DECIMAL_RUN.search(text) is not None
        or (("x" in text or "X" in text) and _HEX_MARKS.search(text) is not None)
    )


def decoded(text: str) -> Iterator[Reading]:
    """The texts that are written in this one; `text` has no blanks in its runs, nor any other disguise."""
    yield from _from_base64(text)
    yield from _from_hex(text)
    yield from _from_base32(text)
    yield from _from_decimal(text)


def _from_base64(text: str) -> Iterator[Reading]:
    for run in _BASE64_RUN.findall(text):
        size = len(run)
        if not (size >= 32 or _MAY_BE_BASE64.search(run) or (size >= 20 and _SPECIAL.search(run))):
            continue
        letters = run.translate(_TO_STANDARD)
        # Something may stand before it in the same run: one of four alignments is the right one.
        for offset in range(4):
            piece = letters[offset:]
            piece = piece[: len(piece) - (len(piece) % 4 == 1)]
            yield from _texts_in(binascii.a2b_base64(piece + "=" * (-len(piece) % 4)))


def _from_base32(text: str) -> Iterator[Reading]:
    for run in _BASE32_RUN.findall(text):
        # Lengths of 1, 3 and 6 beyond a multiple of 8 are none; what is left over then says nothing.
        piece = run.upper()[: len(run) - {1: 1, 3: 1, 6: 1}.get(len(run) % 8, 0)]
        yield from _texts_in(base64.b32decode(piece + "=" * (-len(piece) % 8)))


def _from_hex(text: str) -> Iterator[Reading]:
    for run in _HEX_RUN.findall(_HEX_MARKS.sub("", text)):
        digits = _NOT_HEX.sub("", run)
        for offset in range(2):
            piece = digits[offset:]
            yield from _texts_in(bytes.fromhex(piece[: len(piece) // 2 * 2]))


def _from_decimal(text: str) -> Iterator[Reading]:
    for run in _DECIMAL_RUN.findall(text):
        yield from _texts_in(bytes(number for number in map(int, _DECIMAL.findall(run)) if number < 256))


def _texts_in(content: bytes) -> Iterator[Reading]:
    if content.startswith(_COMPRESSED) and (inflated := _inflated(content)):
        yield Reading(inflated.decode("latin-1"), encoded=True)
    for stretch in _WRITTEN.findall(content):
        text = stretch.decode("ascii")
        yield Reading(text, _PROSE.search(text) is not None)
    for stretch in _WIDE.findall(content):
        yield Reading(stretch.replace(b"\0", b"").decode("ascii"), encoded=True)
    if len(content) >= _FOREIGN_PROSE and not content.isascii():
        try:
            text = content.decode()
        except UnicodeDecodeError:
            return
        if text.isprintable():
            yield Reading(text, encoded=True)


def _inflated(content: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content, _INFLATED)
    except zlib.error:
        return b""
