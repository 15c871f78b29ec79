"""What a text reads as once its disguises are off: the plain forms in which patterns can be looked for.

Taken off, in any order and up to `LAYERS` deep: compatibility forms (fullwidth letters, ligatures),
zero-width and combining characters, look-alike letters and foreign digits, URL encoding, HTML entities,
backslash escapes, a spelt-out `(at)` and `(dot)`, base64 of either alphabet, and hexadecimal. Work is bounded
by `MAX_READINGS` whatever comes in.

What it refuses: to be a proof. A sender who agrees on a cipher with a reader gets past any pattern; shapes,
not patterns, are what keeps prose out. This is for secrets that were encoded by habit, not by conspiracy.
"""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote

LAYERS: Final = 3
MAX_READINGS: Final = 24

# Letters that are drawn like Latin ones, Cyrillic and Greek: "bеаrеr" is not what it seems.
_LOOK_ALIKES: Final = str.maketrans(
    "аеорсухіјѕһԁԛԝАВЕКМНОРСТУХІЈЅαοριντκΑΒΕΗΙΚΜΝΟΡΤΥΧΖ‐‑‒–—−∙․＠",
    "aeopcyxijshdqwABEKMHOPCTYXIJSaopivtkABEHIKMNOPTYXZ------..@",
)
_BACKSLASH: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2}))")
_SPELT_OUT: Final = re.compile(r"\s?[(\[{<]\s?(at|dot)\s?[)\]}>]\s?", re.IGNORECASE)
_BRACKET: Final = re.compile(r"[(\[{<]")
_BASE64_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}")
_TO_STANDARD: Final = str.maketrans("-_", "+/")
_HEX_RUN: Final = re.compile(r"[0-9A-Fa-f](?:[ :.-]?[0-9A-Fa-f]){11,}")
_NOT_HEX: Final = re.compile(r"[^0-9A-Fa-f]")
_WRITTEN: Final = re.compile(rb"[\x20-\x7e\t\r\n]{6,}")

# So many letters, digits and everyday marks in a row are no accident: 12 random bytes look so once in 2
# million times.
_PROSE: Final = re.compile(r"[A-Za-z0-9 _.,:;@/'\"!?=-]{12}")
_FOREIGN_PROSE: Final = 24


class Reading(NamedTuple):
    """One plain form of a text; `encoded` when that alone is suspicious: prose written in base64 or hexadecimal."""

    text: str
    encoded: bool = False


def readings(text: str) -> Iterator[Reading]:
    """`text` itself first, then its plain forms, each once, at most `MAX_READINGS`; made as they are asked for.

    What would go on beyond the bounds is not left unread in silence: the last reading says that it is `encoded`.
    """
    yield Reading(text)
    found = {text}
    layer = [text]
    for depth in range(LAYERS + 1):
        uncovered: list[str] = []
        for disguised in layer:
            for reading in _uncovered(disguised):
                if reading.text in found:
                    continue
                found.add(reading.text)
                uncovered.append(reading.text)
                if depth == LAYERS or len(found) == MAX_READINGS:
                    yield Reading(reading.text, encoded=True)
                    return
                yield reading
        layer = uncovered


def _uncovered(text: str) -> Iterator[Reading]:
    if not text.isascii() or not text.isprintable():
        yield Reading(_folded(text))
    if "%" in text:
        yield Reading(unquote(text))
    if "&" in text:
        yield Reading(html.unescape(text))
    if "\\" in text:
        yield Reading(_BACKSLASH.sub(_character, text))
    if _BRACKET.search(text):
        yield Reading(_SPELT_OUT.sub(lambda found: "@" if found[1].lower() == "at" else ".", text))
    if "@" in text and " " in text:
        yield Reading("".join(text.split()))
    yield from _from_base64(text)
    yield from _from_hex(text)


def _folded(text: str) -> str:
    """Compatibility forms resolved, marks and invisible characters gone, look-alikes made Latin."""
    plain = []
    for character in unicodedata.normalize("NFKD", text.translate(_LOOK_ALIKES)):
        category = unicodedata.category(character)
        if category == "Nd":
            plain.append(str(unicodedata.decimal(character)))
        elif category[0] == "Z" or character in "\t\r\n":
            plain.append(" ")
        elif category[0] != "M" and category[0] != "C":
            plain.append(character)
    return "".join(plain).translate(_LOOK_ALIKES)


def _character(escape: re.Match[str]) -> str:
    code = int(next(filter(None, escape.groups())), 16)
    return chr(code) if code <= 0x10FFFF else ""


def _from_base64(text: str) -> Iterator[Reading]:
    for run in _BASE64_RUN.findall("".join(text.split())):
        letters = run.translate(_TO_STANDARD)
        # Something may stand before it in the same run: one of four alignments is the right one.
        for offset in range(4):
            piece = letters[offset:]
            piece = piece[: len(piece) - (len(piece) % 4 == 1)]
            yield from _texts_in(base64.b64decode(piece + "=" * (-len(piece) % 4)))


def _from_hex(text: str) -> Iterator[Reading]:
    for run in _HEX_RUN.findall(text):
        digits = _NOT_HEX.sub("", run)
        for offset in range(2):
            piece = digits[offset:]
            yield from _texts_in(bytes.fromhex(piece[: len(piece) // 2 * 2]))


def _texts_in(decoded: bytes) -> Iterator[Reading]:
    for stretch in _WRITTEN.findall(decoded):
        text = stretch.decode("ascii")
        yield Reading(text, _PROSE.search(text) is not None)
    if len(decoded) >= _FOREIGN_PROSE and not decoded.isascii():
        try:
            text = decoded.decode()
        except UnicodeDecodeError:
            return
        if text.isprintable():
            yield Reading(text, encoded=True)
