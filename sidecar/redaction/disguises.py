"""What a text reads as once its disguises are off: the plain forms in which patterns can be looked for.

Taken off, in any order and up to `LAYERS` deep: compatibility forms (fullwidth letters, ligatures),
zero-width and combining characters, blanks that are letters, look-alike letters and foreign digits, URL encoding,
quoted-printable, HTML entities, escapes with a backslash or `U+`, a spelt-out `(at)` and `(dot)`, and what
`encodings.py` reads. Work is bounded by `MAX_READINGS` whatever comes in.

What it refuses: to be a proof. A sender who agrees on a cipher with a reader gets past any pattern; shapes,
not patterns, are what keeps prose out. This is for secrets that were encoded by habit, not by conspiracy.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from .bounds import spend
from .encodings import Reading, decoded, may_hold_text

__all__ = ["LAYERS", "MAX_READINGS", "Reading", "has_one_reading", "is_plain", "readings", "uncovered"]

LAYERS: Final = 3
MAX_READINGS: Final = 24
#: Characters of all readings of a text together: some letters unfold to eighteen.
MAX_READ: Final = 8192

# Letters that are drawn like Latin ones, Cyrillic, Greek, Armenian, Cherokee, small capitals: "bеаrеr" is not what it
# seems.
_LOOK_ALIKES: Final = str.maketrans(
    "аеорсухіјѕһԁԛԝАВЕКМНОРСТУХІЈЅαοριντκΑΒΕΗΙΚΜΝΟΡΤΥΧΖ‐‑‒–—−∙․＠օսհցӏıɑɡᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢᎪᏴᏟᎠᎬᏀᎻᏆᎫᏦᏞᎷᏢᏒᏚᎢᏙᎳᏃ",
    "aeopcyxijshdqwABEKMHOPCTYXIJSaopivtkABEHIKMNOPTYXZ------..@ouhgliagABCDEFGHIJKLMNOPRSTUVWYZABCDEGHIJKLMPRSTVWZ",
)
# Letters, by category, that are drawn as nothing.
_BLANKS: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800\U0001d159")
_ESCAPE: Final = re.compile(
    r"[\\%]u([0-9A-Fa-f]{4})|\\u\{([0-9A-Fa-f]{1,6})\}|\\U([0-9A-Fa-f]{8})|\\x([0-9A-Fa-f]{2})"
    r"|U\+([0-9A-Fa-f]{4,6})[ ,;]?|\\([0-3][0-7]{2})"
)
_QUOTED: Final = re.compile(r"=([0-9A-Fa-f]{2})")
_SPELT_OUT: Final = re.compile(r"\s?[(\[{<]\s?(at|dot)\s?[)\]}>]\s?", re.IGNORECASE)
_BRACKET: Final = re.compile(r"[(\[{<]")
# None of these letters is part of a disguise; words of them may still be written in base64 and the like.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/-]*")


def is_plain(text: str) -> bool:
    """Whether all letters of `text` are their own: what is left to ask is `may_hold_text`."""
    return _PLAIN.fullmatch(text) is not None


def has_one_reading(text: str) -> bool:
    """Whether a text has no other form than its own: `readings` would say nothing."""
    return _PLAIN.fullmatch(text) is not None and not may_hold_text(text)


def readings(text: str) -> Iterator[Reading]:
    """The plain forms of `text`, each once, at most `MAX_READINGS` with itself and `MAX_READ` characters, as asked for.
    Each is charged to the request; `text` itself is for who asks to charge.

    What would go on beyond the bounds is not left unread in silence: the last reading says that it is `encoded`.

    Raises:
        Spent: the request that the text is of has had its share of this (`bounds.py`).
    """
    found = {text}
    layer = [text]
    room = MAX_READ
    for depth in range(LAYERS + 1):
        below: list[str] = []
        for disguised in layer:
            for reading in uncovered(disguised):
                if reading.text in found:
                    continue
                spend(len(reading.text))
                found.add(reading.text)
                below.append(reading.text)
                room -= len(reading.text)
                if depth == LAYERS or len(found) == MAX_READINGS or room < 0:
                    yield Reading(reading.text if room >= 0 else "", encoded=True)
                    return
                yield reading
        layer = below


def uncovered(text: str) -> Iterator[Reading]:
    """The forms of a text with one disguise taken off, each kind once; some are the text itself."""
    if not text.isascii() or not text.isprintable():
        yield Reading(_folded(text))
    if "%" in text:
        yield Reading(unquote(text))
    if "=" in text:
        yield Reading(_QUOTED.sub(_character, text))
    if "&" in text:
        yield Reading(html.unescape(text))
    if "\\" in text or "%u" in text or "U+" in text:
        yield Reading(_ESCAPE.sub(_character, text))
    if _BRACKET.search(text):
        yield Reading(_SPELT_OUT.sub(lambda found: "@" if found[1].lower() == "at" else ".", text))
    joined = "".join(text.split())
    if "@" in text and joined != text:
        yield Reading(joined)
    yield from decoded(joined)


def _folded(text: str) -> str:
    """Compatibility forms resolved, marks and invisible characters gone, look-alikes made Latin."""
    plain = []
    for character in unicodedata.normalize("NFKD", text.translate(_LOOK_ALIKES)):
        category = unicodedata.category(character)
        if category in ("Nd", "No") and (digit := unicodedata.digit(character, None)) is not None:
            plain.append(str(digit))
        elif category[0] == "Z" or character in "\t\r\n":
            plain.append(" ")
        elif category[0] != "M" and category[0] != "C" and character not in _BLANKS:
            plain.append(character)
    return "".join(plain).translate(_LOOK_ALIKES)


def _character(escape: re.Match[str]) -> str:
    number = next(filter(None, escape.groups()))
    octal = escape.lastindex == 6
    code = int(number, 8 if octal else 16)
    return chr(code) if code <= 0x10FFFF else ""
