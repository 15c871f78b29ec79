"""Whose records are, told of many at once: guessed from their bytes, then proven by their fields.

Whose a record is decides how it is cut, so it must be known before it is. But where a tenant's name stands is plain to
see mostly: the key is in the record once, and the bytes around it are an attribute as everybody writes it. That is a
guess, for they could stand inside of something else. Once the record is cut, they are one of its fields, or they are
not, and then it is walked.

What it refuses: to say whose a record is that says so twice, or in another way. `questions.whose` is the definition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from .cutting import NO_FIELDS, Cut, Frame
from .gates import TENANT_KEY, read_entry
from .rules import string_in
from .texts import Refused
from .wire_format import Broken

# What is before the key in a field: its tag and length, those of the key; and the first two of them.
_BEFORE: Final = 4
_HEAD: Final = 2
_KEY: Final = len(TENANT_KEY)


def claims(data: bytes, frames: Iterable[Frame]) -> Iterator[bytes | None]:
    """Of each record, the field that seems to name its tenant; empty when none does. None: that must be found out."""
    find = data.find
    for _, start, stop in frames:
        at = find(TENANT_KEY, start, stop)
        if at < 0:
            yield b""
        elif find(TENANT_KEY, at + _KEY, stop) < 0:
            field = at - _BEFORE
            yield data[field : field + _HEAD + data[field + 1]]
        else:
            yield None


def tenant_in(claim: bytes, attributes: int) -> bytes | None:
    """The tenant that such a field names, with this tag; None when that must be found out."""
    if not claim:
        return b""
    if len(claim) < _BEFORE or claim[0] != attributes or claim[1] != len(claim) - _HEAD:
        return None
    try:
        key, value = read_entry(claim[_HEAD:])
        return string_in(value) if key == TENANT_KEY else None
    except (Broken, Refused):
        return None


def proven(records: Cut, claims: Iterable[bytes]) -> Cut:
    """Records without the fields of those among which there is not the one that was claimed to be."""
    return records._replace(
        fields=[
            fields if not claim or claim in fields else NO_FIELDS
            for claim, fields in zip(claims, records.fields, strict=True)
        ]
    )
