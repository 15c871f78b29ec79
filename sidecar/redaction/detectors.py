"""Secrets and personal data by their looks: e-mail, phone, card, IBAN, SSN, addresses, tokens, keys.

`detect` names the first thing found in a text or in any of its readings (`disguises.py`). Patterns look at
short texts only (rules bound the length before) and run in linear time: no repetition stands inside an
unbounded one.

What it refuses: to find prose, names of people or custom formats. Those are kept out by shapes and
allow-lists; the patterns here are the second line, for values that have the right shape and the wrong
content.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import enum
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from .bounds import spend
from .disguises import has_one_reading, is_plain, readings
from .encodings import never_holds_text
from .numbers import PHONE, SEVEN_DIGITS, SPACED_DIGITS, SSN, has_address, has_card, has_iban, has_number
from .provider_keys import has_key, has_key_in_small

#: Longer texts are refused before they come here.
MAX_TEXT: Final = 1024

# RFC 9562, with or without dashes. Its variant digit, 8 to b, is none that ASCII text has in this place, and
# one letter at least sets it apart from a number: neither can pose as a UUID.
UUID: Final = (
    r"(?=[0-9-]{0,35}[a-fA-F])[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?"
    r"[1-8][0-9a-fA-F]{3}-?[89abAB][0-9a-fA-F]{3}-?[0-9a-fA-F]{12}"
)
# Quick to tell that there is none, which is the usual case.
_LONG_AS_UUID: Final = re.compile(r"[0-9A-Fa-f-]{32}")
_UUID: Final = re.compile(rf"(?<![0-9A-Fa-f]){UUID}(?![0-9A-Fa-f])")
_EMAIL: Final = re.compile(
    r"[^\s@]@\w[\w-]{0,62}\.\w"
    # Spelt out, as people write it and as names of things allow it.
    r"|\w[ _.-]at[ _.-][a-z0-9][a-z0-9-]{0,62}"
    r"(?:[ _.-]dot[ _.-][a-z]{2}|\.(?:com|net|org|edu|gov|io|co|de|fr|uk|eu)\b)",
    re.IGNORECASE,
)
_JWT: Final = re.compile(r"eyJ[A-Z0-9_-]{8,}\.[A-Z0-9_-]{8,}", re.IGNORECASE)
_CREDENTIAL: Final = re.compile(
    r"(?<![A-Za-z])bearer[\s:=]+[A-Za-z0-9._~+/-]{12}"
    r"|(?:password|passwd|passphrase|pwd|secret|token|credentials?|session[_-]?id|(?:api|account|access|private)[_-]?key)"
    r"[\"']?\s?[=:]\s?[\"']?\S{4}"
    r"|(?<![A-Za-z])(?:pass|pw|sig|signature|auth|session)[\"']?=[\"']?\S{4}"
    r"|://[^\s/@]{1,255}@",
    re.IGNORECASE,
)
_BASIC: Final = re.compile(r"(?<![A-Za-z])basic[\s:]+([A-Za-z0-9+/]{6,}={0,2})", re.IGNORECASE)
_PEM: Final = re.compile(r"-----\s?BEGIN|BEGIN [A-Z0-9 ]{0,40}(?:PRIVATE KEY|CERTIFICATE|PGP )", re.IGNORECASE)
_RUN: Final = re.compile(r"[A-Za-z0-9+/=_-]{24,}")
_ONE_CASE: Final = re.compile(r"(?<![A-Za-z0-9])(?:[a-z0-9]{24,64}|[A-Z0-9]{24,64})(?![A-Za-z0-9])")
# A ULID, in Crockford's base32: a time and random bits, as harmless as a UUID. And any hexadecimal number.
_IDENTITY: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}|[0-9A-F]+", re.IGNORECASE)
_CHANGE: Final = re.compile(r"(?<=[A-Za-z])[0-9]|(?<=[0-9])[A-Za-z]")
_WORD: Final = re.compile(r"[a-z]{4,}|[A-Z]{4,}")
_LONG_HEX: Final = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{40,}(?![0-9A-Za-z])")


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.search(text) is not None


def _has_credential(text: str) -> bool:
    """A password or token beside its label, in a URL, or in the header of HTTP's Basic scheme (RFC 7617)."""
    # Beyond ASCII some letters have cases that only the pattern knows.
    if text.isascii() and "=" not in text and ":" not in text:
        small = text.lower()
        if "bearer" not in small and "basic" not in small:
            return False
    if _CREDENTIAL.search(text):
        return True
    for found in _BASIC.finditer(text):
        with contextlib.suppress(binascii.Error):
            if b":" in base64.b64decode(found[1]):
                return True
    return False


def _has_random_token(text: str) -> bool:
    """Long and without structure: cases and digits mixed, few pieces as long as a word, high entropy."""
    if any(len(set(run)) >= 8 for run in _LONG_HEX.findall(text)):
        return True
    return any(map(_is_random, _RUN.findall(text))) or any(map(_is_random_in_one_case, _ONE_CASE.findall(text)))


def _is_random(run: str) -> bool:
    if run.islower() or run.isupper() or run.isalpha():
        return False
    in_words = sum(len(word) for word in _WORD.findall(run))
    entropy = -sum(n / len(run) * math.log2(n / len(run)) for n in Counter(run).values())
    return in_words < 0.43 * len(run) and entropy > 3.8


def _is_random_in_one_case(run: str) -> bool:
    """Letters and digits change places often; words with numbers behind them do so rarely."""
    return len(_CHANGE.findall(run)) >= 8 and not _IDENTITY.fullmatch(run)


class Trait(enum.IntFlag):
    """What can be told of a text with a look; without its traits a detector need not be asked."""

    LONG = 1  # as long as the shortest key with a fixed beginning, or an IBAN
    DIGITS = 2  # seven of them, close together
    DOTTED = 4  # as addresses are
    LABELLED = 8  # something may stand beside its label, or between rows of dashes
    AT = 16  # of an address, the sign or the word


_LONG, _DIGITS, _DOTS, _LABEL, _SIGN = (int(trait) for trait in Trait)
#: Texts below this length have not the trait.
LONG: Final = 15
_DOTTED: Final = re.compile(r"\d\.\d|:")
_LABELLED: Final = re.compile(r"[\s:=]|--")
_AT: Final = re.compile(r"@|[ _.-][aA][tT][ _.-]")
# The same of ASCII texts, by classes of letters: all digits are 0, all blanks and marks between a label and its secret
# are =, and of letters only A and T matter.
_CLASSES: Final = bytes.maketrans(b"123456789AT\t\n\v\f\r\x1c\x1d\x1e\x1f ", b"000000000at==========")


def traits(text: str) -> int:
    """The traits of a text. Which digit stands where has no influence on them."""
    if not text.isascii():
        return (
            (len(text) >= LONG)
            | (SEVEN_DIGITS.search(text) is not None) << 1
            | (_DOTTED.search(text) is not None) << 2
            | (_LABELLED.search(text) is not None) << 3
            | (_AT.search(text) is not None) << 4
        )
    classes = text.encode("ascii").translate(_CLASSES)
    found = 1 if len(text) >= LONG else 0
    if classes.count(b"0") >= 7 and SEVEN_DIGITS.search(text) is not None:
        found |= _DIGITS
    # `in` would take each of these for a number first, raise an error within and drop it.
    if classes.find(b":") >= 0:
        found |= _DOTS | _LABEL
    else:
        if classes.find(b"0.0") >= 0:
            found |= _DOTS
        if classes.find(b"=") >= 0 or classes.find(b"--") >= 0:
            found |= _LABEL
    if classes.find(b"@") >= 0 or (classes.find(b"at") >= 0 and _AT.search(text) is not None):
        found |= _SIGN
    return found


class Detector(NamedTuple):
    """A kind of secret.

    Attributes:
        name: the reason word of a masking; stands in the mask.
        needs: a text without any of these traits has none.
        finds: whether a text has one.
    """

    name: str
    needs: Trait
    finds: Callable[[str], bool]


#: A number that is somebody's: nine digits in a row. Not looked for where a number is a legitimate name, such as a
#: tenant's; one that was spaced out is found there, too.
NUMBER: Final = "number"
#: A token with one of the beginnings that providers gave theirs.
KEY: Final = "key"
#: In the order of certainty: the first that finds something gives the mask its name.
DETECTORS: Final = (
    Detector("pem", Trait.LABELLED, _matches(_PEM)),
    Detector("jwt", Trait.LONG, _matches(_JWT)),
    Detector(KEY, Trait.LONG, has_key),
    Detector("credential", Trait.LABELLED, _has_credential),
    Detector("email", Trait.AT, _matches(_EMAIL)),
    Detector("iban", Trait.LONG, has_iban),
    Detector("card", Trait.DIGITS, has_card),
    Detector("ssn", Trait.DIGITS, _matches(SSN)),
    Detector("phone", Trait.DIGITS, _matches(PHONE)),
    Detector("ip", Trait.DOTTED, has_address),
    Detector("token", Trait.LONG, _has_random_token),
    Detector(NUMBER, Trait.DIGITS, _matches(SPACED_DIGITS)),
)
#: Text that somebody wrote as base64 or hexadecimal: nobody names things so.
ENCODED: Final = "encoded"

REASONS: Final = (*(detector.name for detector in DETECTORS), ENCODED)

# Asked before anything else is found out about a text: `surest`.
_SUREST: Final = tuple((detector.name, detector.finds) for detector in DETECTORS[:3])
# The detectors to ask, by traits; of a long text those have been asked by then.
_ASKED: Final = [
    tuple(
        (detector.name, detector.finds)
        for detector in DETECTORS[3 if found & Trait.LONG else 0 :]
        if detector.needs & found
    )
    for found in range(sum(Trait) + 1)
]


def detect(text: str, *, numbers: bool = True, search: Callable[[str], str | None] | None = None) -> str | None:
    """The name of what was found in `text`, or None.

    Args:
        text: of at most `MAX_TEXT` characters.
        numbers: False lets bare numbers pass.
        search: asked about every reading after the detectors: the name of what it finds.

    Raises:
        ValueError: the text is longer than `MAX_TEXT`; whoever asks must bound it first.
        Spent: the request that the text is of has had its share of this (`bounds.py`).
    """
    if len(text) > MAX_TEXT:
        raise ValueError("a text to scan must be bounded")
    # Some keys are a UUID with a beginning of their own.
    if (found := surest(text)) is not None:
        return found
    text = _without_uuids(text)
    if has_one_reading(text):
        return _others_in(text, numbers, search)
    spend(len(text))  # before it is looked at: what a request cannot pay for must not cost us anything more
    found = _others_in(text, numbers, search)
    if found is not None:
        return found
    encoded = False
    for form in readings(text):
        found = surest(form.text) or _others_in(form.text, numbers, search)
        if found is not None:
            return found
        encoded = encoded or form.encoded
    return ENCODED if encoded else None


def _without_uuids(text: str) -> str:
    """UUIDs are random and harmless, and full of things that look like numbers."""
    return _UUID.sub("uuid", text) if len(text) >= 32 and _LONG_AS_UUID.search(text) else text


def surest(text: str) -> str | None:
    """What the surest detectors find in a text as it stands; if they do, `detect` says that of it. Each is asked when
    what it cannot do without is there, in whatever case.

    Raises:
        Spent: as `detect`.
    """
    if len(text) < LONG:
        return None
    if not text.isascii():
        # Beyond ASCII some letters have cases that only the patterns know.
        found = next((name for name, finds in _SUREST if finds(text)), None)
    else:
        found = _surest_in_small(text, text.lower())
    if found is not None:
        spend(len(text))
    return found


def _surest_in_small(text: str, small: str) -> str | None:
    if "begin" in small and _PEM.search(text):
        return "pem"
    if "eyj" in small and _JWT.search(text):
        return "jwt"
    return KEY if has_key_in_small(text, small) else None


def _others_in(text: str, numbers: bool, search: Callable[[str], str | None] | None) -> str | None:
    """What the other detectors find in a text as it stands."""
    told = traits(text)
    if told > _LONG:  # most detectors are asked
        spend(len(text))
    for name, finds in _ASKED[told]:
        if finds(text):
            return name
    if numbers and told & _DIGITS and has_number(text):
        return NUMBER
    return None if search is None else search(text)


def is_name(text: str) -> bool:
    """Whether a short ASCII text cannot hold anything, and no other that differs from it in digits alone.

    `text` has zeros in the place of digits. A necessary condition of each detector and each disguise is looked at, so
    this says no more than `detect` does; it says it of all such texts at once.
    """
    return traits(text) == 0 and is_plain(text) and never_holds_text(text)
