"""Names in which there is nothing to find, told of hundreds at once.

Most names have not one trait that any detector needs and not one letter that is part of a disguise, and nothing can be
written in them in base64 and the like. Three expressions say so for many of them together: one is found wherever such
a condition may hold, in a name or across two of them, and none looks around nor cares what ends where, so that what it
finds in one name alone it finds among others too. RE2 runs each in one pass.

What it refuses: to say that something was found. Names in doubt are for the detectors, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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


def doubtful_among(names: list[bytes]) -> list[int]:
    """The places of those of the names of which `detect` may say something; of the others it certainly says nothing,
    whatever is looked for."""
    digits = b"\n".join(names).translate(None, _LETTERS).split(b"\n")
    if len(digits) != len(names):  # there are line breaks in some
        digits = [name.translate(None, _LETTERS) for name in names]
    doubtful: list[int] = []
    places: Sequence[int] = range(len(names))
    if any(digits):
        doubtful = [at for at, rest in enumerate(digits) if rest and not (len(rest) <= _MOST and rest.isdigit())]
        places = [*{*places}.difference(doubtful)]
    for start in range(0, len(places), _TOGETHER):
        doubtful += _in_doubt(names, places[start : start + _TOGETHER])
    return doubtful


def _in_doubt(names: list[bytes], places: Sequence[int]) -> Iterator[int]:
    """Those of the places at which there is doubt about a name. Looked for by halves."""
    together = b"\n".join(map(names.__getitem__, places))
    if all(search(together) is None for search in _SEARCHES):
        return
    if len(places) == 1:
        yield places[0]
        return
    middle = len(places) // 2
    yield from _in_doubt(names, places[:middle])
    yield from _in_doubt(names, places[middle:])
