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
import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from .disguises import has_one_reading, is_plain, readings
from .encodings import never_holds_text

#: Longer texts are refused before they come here.
MAX_TEXT: Final = 1024

# Between digits of one number: whatever is neither letter nor digit, at most three of it.
_SEPARATOR: Final = r"[\W_]{0,3}"
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
_PHONE: Final = re.compile(
    rf"(?:(?<![0-9A-Za-z])\+|(?<!\w)00(?=[1-9]))\d(?:{_SEPARATOR}\d){{6,14}}(?![0-9A-Za-z])"
    r"|(?<![0-9A-Za-z.-])(?:1[\W_])?(?:\(\d{3}\)[\W_]?|\d{3}[\W_]{1,3})\d{3}[\W_]{1,3}\d{4}(?![\d-])"
    r"|(?<![\w.-])0\d{2,4}[ /-]\d{5,9}(?!\w)"
)
# A quick test before those that look for long numbers, for most names have none.
_SEVEN_DIGITS: Final = re.compile(r"\d(?:\D{0,5}\d){6}")
# A number that somebody spaced out, digit by digit, with the same thing between all of them.
_SPACED_DIGITS: Final = re.compile(r"(?<!\d)\d([\W_]{1,3})\d(?:\1\d){6,}(?!\d)")
_CARD_DIGITS: Final = re.compile(rf"\d(?:{_SEPARATOR}\d){{12,}}")
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:[\W_]{0,3}[A-Za-z0-9]){11,30}", re.IGNORECASE)
_SSN: Final = re.compile(r"(?<![\d.-])(?!000|666|9)\d{3}([\W_]{1,3})(?!00)\d{2}\1(?!0000)\d{4}(?![\d-])")
_IPV4: Final = re.compile(r"(?<![\d.])\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\d.])")
_IPV6: Final = re.compile(r"(?<![0-9A-Za-z:.])[0-9A-Fa-f:]{2,39}(?![0-9A-Za-z:])")
_JWT: Final = re.compile(r"eyJ[A-Z0-9_-]{8,}\.[A-Z0-9_-]{8,}", re.IGNORECASE)
_CREDENTIAL: Final = re.compile(
    r"(?<![A-Za-z])bearer[\s:=]+[A-Za-z0-9._~+/-]{12}"
    r"|(?:password|passwd|pwd|secret|token|api[_-]?key|account[_-]?key|access[_-]?key)[\"']?\s?[=:]\s?[\"']?\S{4}"
    r"|://[^\s/@]{1,255}@",
    re.IGNORECASE,
)
_BASIC: Final = re.compile(r"(?<![A-Za-z])basic[\s:]+([A-Za-z0-9+/]{6,}={0,2})", re.IGNORECASE)
# The fixed beginnings that providers gave their keys, so that scanners can find them.
_KEY: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{12}"
    r"|gh[pousr]_[A-Za-z0-9]{16}|github_pat_[A-Za-z0-9_]{16}|glpat-[A-Za-z0-9_-]{16}"
    r"|(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16}"
    r"|AIza[A-Za-z0-9_-]{24}|ya29\.[A-Za-z0-9_-]{16}|GOCSPX-[A-Za-z0-9_-]{16}"
    r"|xox[a-z]-[A-Za-z0-9-]{10}|xapp-[A-Za-z0-9-]{10}"
    r"|(?:hf|gsk|r8|npm|xai|pplx|nvapi|tgp|lsv2|shpat|dop_v1)[-_][A-Za-z0-9_-]{20}"
    r"|pypi-[A-Za-z0-9_-]{16}|SG\.[A-Za-z0-9_-]{16}|AGE-SECRET-KEY-1"
    # In its own case it is no part of a word, whatever stands before it.
    r")|(?-i:AKIA[A-Z0-9]{16})",
    re.IGNORECASE,
)
# Where one may begin, in small letters: told without trying every alternative everywhere.
_KEY_START: Final = re.compile(
    r"a(?:kia|sia|gpa|ida|roa|npa|iza|ge-)|g(?:h[pousr]_|ithub_|lpat-|ocspx-|sk[-_])|[spr]k[-_]|ya29|xox|xapp|hf[-_]"
    r"|r8[-_]|npm[-_]|xai[-_]|pplx[-_]|nvapi[-_]|tgp[-_]|lsv2[-_]|shpat[-_]|dop_v1|pypi-|sg\."
)
_PEM: Final = re.compile(r"-----\s?BEGIN|BEGIN [A-Z0-9 ]{0,40}(?:PRIVATE KEY|CERTIFICATE|PGP )", re.IGNORECASE)
_RUN: Final = re.compile(r"[A-Za-z0-9+/=_-]{24,}")
_ONE_CASE: Final = re.compile(r"(?<![A-Za-z0-9])(?:[a-z0-9]{24,64}|[A-Z0-9]{24,64})(?![A-Za-z0-9])")
# A ULID, in Crockford's base32: a time and random bits, as harmless as a UUID. And any hexadecimal number.
_IDENTITY: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}|[0-9A-F]+", re.IGNORECASE)
_CHANGE: Final = re.compile(r"(?<=[A-Za-z])[0-9]|(?<=[0-9])[A-Za-z]")
_WORD: Final = re.compile(r"[a-z]{4,}|[A-Z]{4,}")
_LONG_HEX: Final = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{40,}(?![0-9A-Za-z])")
_NUMBER: Final = re.compile(r"\d{9}")
_HEX_ID: Final = re.compile(r"(?<![0-9A-Za-z])(?=\d{0,64}[A-Fa-f])[0-9A-Fa-f]{12,64}(?![0-9A-Za-z])")

# ISO 13616: length of an IBAN by country.
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FO FI GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU XK MN",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ DZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC",
        32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


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


def _has_card(text: str) -> bool:
    """13 to 19 digits with a right check digit (ISO/IEC 7812, Luhn), alone or among more digits."""
    for match in _CARD_DIGITS.finditer(text):
        digits = [int(character) for character in match[0] if character.isdecimal()]
        count = len(digits)
        spans = {(0, count)} if count <= 19 else set()
        # With an expiry date before or behind it, or inside a longer number.
        spans |= {(0, n) for n in (15, 16)} | {(count - n, count) for n in (15, 16)}
        if count > 19:
            spans |= {(start, start + 16) for start in range(count - 15)}
        if any(start >= 0 and end <= count and _is_card(digits[start:end]) for start, end in spans):
            return True
    return False


def _is_card(digits: list[int]) -> bool:
    if len(digits) < 13 or not 2 <= digits[0] <= 6:  # networks issue from 2 to 6
        return False
    doubled = (2 * digit - 9 if digit > 4 else 2 * digit for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _has_iban(text: str) -> bool:
    """Right length for its country and the remainder 1 modulo 97 (ISO 13616)."""
    for match in _IBAN.finditer(text):
        account = "".join(filter(str.isalnum, match[0].upper()))
        length = _IBAN_LENGTHS.get(account[:2])
        if length is not None and len(account) >= length:
            moved = account[4:length] + account[:4]
            if int("".join(str(int(character, 36)) for character in moved)) % 97 == 1:
                return True
    return False


def _has_address(text: str) -> bool:
    """IPv4 or IPv6. A version of four numbers looks the same and is taken for one."""
    if "." in text and any(all(int(part) < 256 for part in found[0].split(".")) for found in _IPV4.finditer(text)):
        return True
    return text.count(":") > 1 and any(_is_ipv6(found[0]) for found in _IPV6.finditer(text))


def _is_ipv6(candidate: str) -> bool:
    # `a::b` may be a name in C++; the address of an interface has a digit in it.
    if candidate.count(":") < 2 or not any(character.isdecimal() for character in candidate):
        return False
    try:
        ipaddress.IPv6Address(candidate)
    except ValueError:
        return False
    return True


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


def _has_number(text: str) -> bool:
    """Nine digits in a row, but for identifiers in hexadecimal: in one of twelve digits they are no surprise."""
    return _NUMBER.search(text) is not None and _NUMBER.search(_HEX_ID.sub("", text)) is not None


class Trait(enum.IntFlag):
    """What can be told of a text with a look; without its traits a detector need not be asked."""

    LONG = 1  # as long as the shortest key with a fixed beginning, or an IBAN
    DIGITS = 2  # seven of them, close together
    DOTTED = 4  # as addresses are
    LABELLED = 8  # something may stand beside its label, or between rows of dashes
    AT = 16  # of an address, the sign or the word


_DIGITS, _DOTS, _LABEL, _SIGN = (int(trait) for trait in (Trait.DIGITS, Trait.DOTTED, Trait.LABELLED, Trait.AT))
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
            | (_SEVEN_DIGITS.search(text) is not None) << 1
            | (_DOTTED.search(text) is not None) << 2
            | (_LABELLED.search(text) is not None) << 3
            | (_AT.search(text) is not None) << 4
        )
    classes = text.encode("ascii").translate(_CLASSES)
    found = 1 if len(text) >= LONG else 0
    if classes.count(b"0") >= 7 and _SEVEN_DIGITS.search(text) is not None:
        found |= _DIGITS
    if b":" in classes:
        found |= _DOTS | _LABEL
    else:
        if b"0.0" in classes:
            found |= _DOTS
        if b"=" in classes or b"--" in classes:
            found |= _LABEL
    if b"@" in classes or (b"at" in classes and _AT.search(text) is not None):
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
#: In the order of certainty: the first that finds something gives the mask its name.
DETECTORS: Final = (
    Detector("pem", Trait.LABELLED, _matches(_PEM)),
    Detector("jwt", Trait.LONG, _matches(_JWT)),
    Detector("key", Trait.LONG, _matches(_KEY)),
    Detector("credential", Trait.LABELLED, _has_credential),
    Detector("email", Trait.AT, _matches(_EMAIL)),
    Detector("iban", Trait.LONG, _has_iban),
    Detector("card", Trait.DIGITS, _has_card),
    Detector("ssn", Trait.DIGITS, _matches(_SSN)),
    Detector("phone", Trait.DIGITS, _matches(_PHONE)),
    Detector("ip", Trait.DOTTED, _has_address),
    Detector("token", Trait.LONG, _has_random_token),
    Detector(NUMBER, Trait.DIGITS, _matches(_SPACED_DIGITS)),
)
#: Text that somebody wrote as base64 or hexadecimal: nobody names things so.
ENCODED: Final = "encoded"

REASONS: Final = (*(detector.name for detector in DETECTORS), ENCODED)

# Asked before anything else is found out about a text, if it is long enough to hold one: `_surest_in`.
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
    """
    if len(text) > MAX_TEXT:
        raise ValueError("a text to scan must be bounded")
    if len(text) >= 32 and _LONG_AS_UUID.search(text):
        # UUIDs are random and harmless, and full of things that look like numbers.
        text = _UUID.sub("uuid", text)
    found = _found_in(text, numbers, search)
    if found is not None or has_one_reading(text):
        return found
    encoded = False
    for form in readings(text):
        found = _found_in(form.text, numbers, search)
        if found is not None:
            return found
        encoded = encoded or form.encoded
    return ENCODED if encoded else None


def _found_in(text: str, numbers: bool, search: Callable[[str], str | None] | None) -> str | None:
    """What is found in a text as it stands."""
    if len(text) >= LONG and (sure := _surest_in(text)) is not None:
        return sure
    told = traits(text)
    for name, finds in _ASKED[told]:
        if finds(text):
            return name
    if numbers and told & _DIGITS and _has_number(text):
        return NUMBER
    return None if search is None else search(text)


def _surest_in(text: str) -> str | None:
    """What the surest detectors find. Each is asked when what it cannot do without is there, in whatever case."""
    if not text.isascii():
        # Beyond ASCII some letters have cases that only the patterns know.
        return next((name for name, finds in _SUREST if finds(text)), None)
    small = text.lower()
    if "begin" in small and _PEM.search(text):
        return "pem"
    if "eyj" in small and _JWT.search(text):
        return "jwt"
    start = _KEY_START.search(small)
    # Nothing in front of the first place where one may begin can be the beginning of one.
    return "key" if start is not None and _KEY.search(text, start.start()) else None


def is_name(text: str) -> bool:
    """Whether a short ASCII text cannot hold anything, and no other that differs from it in digits alone.

    `text` has zeros in the place of digits. A necessary condition of each detector and each disguise is looked at, so
    this says no more than `detect` does; it says it of all such texts at once.
    """
    return traits(text) == 0 and is_plain(text) and never_holds_text(text)
