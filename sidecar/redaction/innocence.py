"""Names in which there is nothing to find, told of hundreds at once.

Most names have not one trait that any detector needs and not one letter that is part of a disguise, and nothing can be
written in them in base64 and the like. Three expressions say so for many of them together: one is found wherever such
a condition may hold, in a name or across two of them, and none looks around nor cares what ends where, so that what it
finds in one name alone it finds among others too. RE2 runs each in one pass.

What it refuses: to say that something was found. Names in doubt are for the detectors, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import re2

from .encodings import BASE64_GROUPS, GAP
from .provider_keys import KEY_STARTS

_MOST: Final = 6  # digits; with a seventh, detectors of numbers are asked
# What is left of a name without these is its digits.
_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-./"
_TOGETHER: Final = 256

_ANY: Final = "[A-Za-z0-9+/_-]"
# Apart: an automaton for all of them together has a state for every combination, and would never have seen them all.
_DOUBTS: Final = (
    (
        # What `detectors.traits` looks for in a name; digits are counted before.
        r"[0-9]\.[0-9]|--|[_.-][aA][tT][_.-]",
        # The beginnings of tokens and keys, as `detectors.surest` wants them, and of accounts. The line break before
        # a name among others is as good as its beginning.
        f"(?i:eyj|begin|akia|(?:^|[^a-z0-9])(?:{KEY_STARTS}))",
        "(?i:[a-z]{2}[0-9]{2}[^\n]{11})",
        # Hexadecimal, as `encodings.may_hold_text` looks for it.
        f"(?:[02-7]{GAP}[0-9A-Fa-f]{GAP}){{6}}|0[xX]",
    ),
    (
        # As long as a random token, and what else is long enough to be in letters of something else.
        "[A-Za-z0-9+/=_-]{24}",
        f"(?:H4sI|e[AFJN]){_ANY}{{14}}|(?:{_ANY}A{_ANY}{{2}}A|A{_ANY}{{2}}A{_ANY}){_ANY}{{14}}",
        "[A-P][A-Z2-7]{15}|[a-p][a-z2-7]{15}",
    ),
    (BASE64_GROUPS,),
)


def _search(alternatives: tuple[str, ...]) -> Callable[[bytes], object]:
    options = re2.Options()
    options.never_capture = True
    options.encoding = re2.Options.Encoding.LATIN1
    search: Callable[[bytes], object] = re2.compile("|".join(alternatives).encode("ascii"), options).search
    return search


_SEARCHES: Final = tuple(map(_search, _DOUBTS))


def innocent_among(names: list[bytes]) -> set[bytes]:
    """Those of the names of which `detect` certainly says nothing, whatever is looked for."""
    digits = b"\n".join(names).translate(None, _LETTERS).split(b"\n")
    if len(digits) != len(names):  # there are line breaks in some
        digits = [name.translate(None, _LETTERS) for name in names]
    short = [
        name for name, rest in zip(names, digits, strict=True) if not rest or (len(rest) <= _MOST and rest.isdigit())
    ]
    found: set[bytes] = set()
    for start in range(0, len(short), _TOGETHER):
        for innocent in _without_doubt(short[start : start + _TOGETHER]):
            found.update(innocent)
    return found


def _without_doubt(names: list[bytes]) -> Iterator[list[bytes]]:
    """The names by halves, as long as there is doubt about one."""
    together = b"\n".join(names)
    if all(search(together) is None for search in _SEARCHES):
        yield names
    elif len(names) > 1:
        middle = len(names) // 2
        yield from _without_doubt(names[:middle])
        yield from _without_doubt(names[middle:])
