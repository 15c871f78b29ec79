"""Cuts records that stand in a row into their fields.

What it refuses: to take what it could not cut for fields. A record that is not wholly in its form (`forms.py`) comes
out as one field that there cannot be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import repeat
from operator import itemgetter
from typing import Any, Final, NamedTuple

from .forms import Form
from .kinds import MAX_FIELDS

#: Records that are looked at together.
TOGETHER: Final = 512
#: In the place of the fields of a record that is not in the form: more than there may be.
NO_FIELDS: Final = [b""] * (MAX_FIELDS + 1)
_SHORT: Final = 0x80

# Where a record's tag is, where its content is, and where it ends.
Frame = tuple[int, int, int]


class Cut(NamedTuple):
    """Records of one form.

    Attributes:
        heads: the match of each head.
        behind: where each head ends.
        fields: of each, those behind the head, with tag and length; or `NO_FIELDS`.
    """

    heads: list[re.Match[bytes]]
    behind: list[int]
    fields: list[list[bytes]]


def framed(data: bytes, pos: int, end: int, tag: int) -> list[Frame]:
    """The records from `pos` on, as many as stand one behind the other, but not more than some hundred."""
    frames: list[Frame] = []
    for _ in range(TOGETHER):
        if pos + 2 >= end or data[pos] != tag:
            break
        size, start = data[pos + 1], pos + 2
        if size >= _SHORT:
            high = data[start]
            if not 0 < high < _SHORT:
                break
            size, start = size & 0x7F | high << 7, start + 1
        stop = start + size
        if stop > end:
            break
        frames.append((pos, start, stop))
        pos = stop
    return frames


def cut(form: Form, data: bytes, frames: Iterable[Frame]) -> Cut:
    """Their fields."""
    some = [*frames]
    starts, stops = [*map(itemgetter(1), some)], [*map(itemgetter(2), some)]
    heads: list[Any] = [*map(form.head.match, repeat(data), starts, stops)]  # each is found: all of it is optional
    behind = [*map(re.Match.end, heads)]
    fields = [*map(form.fields.findall, repeat(data), behind, stops)]
    # What is no field ends in a piece of one byte.
    if 1 in map(len, map(itemgetter(-1), filter(None, fields))):
        fields = [NO_FIELDS if pieces and len(pieces[-1]) == 1 else pieces for pieces in fields]
    return Cut(heads, behind, fields)


def is_cut(fields: list[bytes]) -> bool:
    """Whether these are a record's fields."""
    return fields is not NO_FIELDS
