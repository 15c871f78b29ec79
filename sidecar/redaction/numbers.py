"""Numbers that are somebody's: cards, accounts, social security, phones, addresses of machines.

They are looked for with whatever stands between their digits, and held to their check digits where they have some.
What it refuses: to tell one that was made up with a right check digit from one that is somebody's.
"""

from __future__ import annotations

import ipaddress
import re
from itertools import accumulate
from typing import Final

# Between digits of one number: whatever is neither letter nor digit, at most three of it.
_SEPARATOR: Final = r"[\W_]{0,3}"
PHONE: Final = re.compile(
    rf"(?:(?<![0-9A-Za-z])\+|(?<!\w)00(?=[1-9]))\d(?:{_SEPARATOR}\d){{6,14}}(?![0-9A-Za-z])"
    r"|(?<![0-9A-Za-z])(?<!\d[.-])(?:1[\W_])?(?:\(\d{3}\)[\W_]?|\d{3}[\W_]{1,3})\d{3}[\W_]{1,3}\d{4}(?!\d(?!\d\d[\W_])|-\d)"
    r"|(?<![\w.-])0\d{2,4}[ /-](?:\d{5,9}|\d{3,4}[ -]\d{3,4})(?!\w)"
    r"|(?<![\w.-])0\d([ .-])\d\d(?:\1\d\d){3}(?![\w.-])"
)
# A quick test before those that look for long numbers, for most names have none.
SEVEN_DIGITS: Final = re.compile(r"\d(?:\D{0,5}\d){6}")
# A number that somebody spaced out, digit by digit, with the same thing between all of them.
SPACED_DIGITS: Final = re.compile(r"(?<!\d)\d([\W_]{1,3})\d(?:\1\d){6,}(?!\d)")
_CARD_DIGITS: Final = re.compile(rf"\d(?:{_SEPARATOR}\d){{12,}}")
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:[\W_]{0,3}[A-Za-z0-9]){11,30}", re.IGNORECASE)
# Part of a longer number with the same marks is none; another one may stand right behind it.
SSN: Final = re.compile(
    r"(?<!\d)(?<!\d[.-])(?!000|666|9)\d{3}([\W_]{1,3})(?!00)\d{2}\1(?!0000)\d{4}(?!\d(?!\d\d\1\d\d\1)|-\d)"
)
_IPV4: Final = re.compile(r"(?<!\d)(?<!\d\.)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\d|\.\d)")
_IPV6: Final = re.compile(r"(?<![0-9A-Za-z:.])[0-9A-Fa-f:]{2,39}(?![0-9A-Za-z:])")
_NUMBER: Final = re.compile(r"\d{9}")
_HEX_ID: Final = re.compile(r"(?<![0-9A-Za-z])(?=\d{0,64}[A-Fa-f])[0-9A-Fa-f]{12,64}(?![0-9A-Za-z])")

# Twice a digit, as the sum of the digits of that.
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
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


def has_card(text: str) -> bool:
    """13 to 19 digits with a right check digit (ISO/IEC 7812, Luhn), alone or among more digits."""
    for match in _CARD_DIGITS.finditer(text):
        digits = [int(character) for character in match[0] if character.isdecimal()]
        count = len(digits)
        spans = {(0, count)} if count <= 19 else set()
        # With an expiry date before or behind it, or inside a longer number.
        spans |= {(0, n) for n in (15, 16)} | {(count - n, count) for n in (15, 16)}
        if count > 19:
            spans |= {(start, start + 16) for start in range(count - 15)}
        # Sums up to each place, once with the digits at even places doubled and once with the others: there may be as
        # many numbers in a long one as it has digits, and none is to be added up again.
        plain, doubled = digits, [_DOUBLED[digit] for digit in digits]
        sums = (
            [0, *accumulate(doubled[n] if n % 2 == 0 else plain[n] for n in range(count))],
            [0, *accumulate(plain[n] if n % 2 == 0 else doubled[n] for n in range(count))],
        )
        for start, end in spans:
            if 0 <= start <= end - 13 and end <= count and _is_issued(digits, start, end):
                of_this = sums[end % 2]  # the last digit is the check digit, the one before it is doubled
                if (of_this[end] - of_this[start]) % 10 == 0:
                    return True
    return False


def _is_issued(digits: list[int], start: int, end: int) -> bool:
    """Whether a network issues such numbers: from 3 to 6; from 2200 to 2729, of 16 digits at least. Dates begin with a
    2, too."""
    if digits[start] == 2:
        return end - start >= 16 and 20 <= 10 * digits[start + 1] + digits[start + 2] <= 72
    return 3 <= digits[start] <= 6


def has_iban(text: str) -> bool:
    """Right length for its country and the remainder 1 modulo 97 (ISO 13616)."""
    for match in _IBAN.finditer(text):
        account = "".join(filter(str.isalnum, match[0].upper()))
        length = _IBAN_LENGTHS.get(account[:2])
        if length is not None and len(account) >= length:
            moved = account[4:length] + account[:4]
            if int("".join(str(int(character, 36)) for character in moved)) % 97 == 1:
                return True
    return False


def has_address(text: str) -> bool:
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


def has_number(text: str) -> bool:
    """Nine digits in a row, but for identifiers in hexadecimal: in one of twelve digits they are no surprise."""
    return _NUMBER.search(text) is not None and _NUMBER.search(_HEX_ID.sub("", text)) is not None
