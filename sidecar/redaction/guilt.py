"""Texts in which a key stands for all to see, told of many at once.

A careless application makes the same mistake in every record, so the texts in doubt are much alike: one expression says
of many of them together that there is a key in each. RE2 finds that out in one pass.

What it refuses: to call anything otherwise than `detect` would. Where not all are alike, the surest detectors are asked
about each.
"""

from __future__ import annotations

from typing import Any, Final

import re2

from .bounds import spend
from .detectors import KEY, LONG, surest
from .provider_keys import KEY_FORMS, KEY_INSIDE

_TOGETHER: Final = 64


def _compiled(expression: str) -> Any:
    options = re2.Options()
    options.never_capture = True
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(expression.encode("ascii"), options)


_ALL_HAVE_KEYS: Final = _compiled(
    rf"(?:(?:(?:[^\n]*[^A-Za-z0-9\n])?(?i:{KEY_FORMS})|[^\n]*{KEY_INSIDE})[^\n]*\n)+"
).fullmatch
# What goes before a key.
_SOMETHING_ELSE: Final = _compiled("(?i:begin|eyj)").search


def surest_among(texts: list[bytes]) -> dict[bytes, str | None]:
    """What `surest` says of each of these ASCII texts without line breaks.

    Raises:
        Spent: the request that the texts are of has had its share of this (`bounds.py`).
    """
    found: dict[bytes, str | None] = {}
    for start in range(0, len(texts), _TOGETHER):
        some = texts[start : start + _TOGETHER]
        lines = b"\n".join((*some, b""))
        if min(map(len, some)) >= LONG and _SOMETHING_ELSE(lines) is None and _ALL_HAVE_KEYS(lines) is not None:
            spend(len(lines))
            found.update(dict.fromkeys(some, KEY))
        else:
            found.update((text, surest(text.decode("ascii"))) for text in some)
    return found
