"""Rules for the value of an attribute: may it leave, must it be masked, is it refused?

They judge the bytes of an `AnyValue`, as `texts.py` does those of a string, and know exactly one way to write the
value that they expect: another type, a second member of the oneof, anything before or behind it, an overlong varint,
and the value is refused.

Many values under one key are judged together as far as that is cheap: `sift`, which says of no value anything else than
`judge` does.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import ClassVar, Final, Protocol

from .texts import DOUBT, Masked, Refused, Text, Written, mask
from .wire_format import Broken, delimited, read_length, read_varint

# Tags within AnyValue; bool, int and double are told by their first byte.
_STRING, _BOOL, _INT, _DOUBLE, _ARRAY = 0x0A, 0x10, 0x18, 0x21, 0x2A
_ITEM: Final = 0x0A  # ArrayValue.values
_INT_TAG: Final = bytes((_INT,))
#: The tag of a KeyValue's value.
VALUE: Final = 0x12
#: No entry in a form is so long (`forms.py`).
LONGEST: Final = 1024
#: How no value begins.
NO_LEAD: Final = bytes(LONGEST)
_READ_DOUBLE: Final = struct.Struct("<d").unpack_from


# Of an integer's bytes: all but the last; and how one ends that is longer than it need be.
_NOT_THE_LAST: Final = bytes(range(0x80, 0x100))
_OVERLONG: Final = re.compile(rb"[\x80-\xff]\x00").search
_last = itemgetter(-1)


def _leads(least: int, most: int, lead: Callable[[int], bytes]) -> tuple[bytes, ...]:
    """For values from `least` to `most` bytes, by their size, how they begin."""
    return tuple(lead(size) if least <= size <= most else NO_LEAD for size in range(LONGEST))


class AttributeRule(Protocol):
    """Judges the value of one attribute."""

    #: Whether values come again, so that it pays to remember what was allowed.
    repeats: ClassVar[bool]
    #: How a value begins that `sift` can be asked about, by its size, with its own tag and length; and how many bytes
    #: that is.
    leads: ClassVar[tuple[bytes, ...]]
    lead: ClassVar[int]

    @property
    def told_apart(self) -> bool:
        """Whether a mask must say which value it hides from which other, and nothing more."""

    @property
    def written(self) -> Written:
        """The rule as a policy's file says it, in the order of the file's own; two that say the same are equal."""

    def judge(self, value: bytes) -> Masked | None:
        """`value` is the content of an `AnyValue`. Raises `Refused` or `Broken`."""

    def sift(self, values: list[bytes]) -> list[str | None]:
        """What `judge` says of each of many values, as far as that is cheap: None, the word for a mask (of a text:
        `mask_for`), or `DOUBT`. They are given without what `leads` says."""


@dataclass(frozen=True, slots=True)
class StringValue:
    """An attribute that is a string."""

    text: Text
    repeats: ClassVar[bool] = True
    leads: ClassVar[tuple[bytes, ...]] = _leads(4, 0x81, lambda size: bytes((VALUE, size - 2, _STRING, size - 4)))
    lead: ClassVar[int] = 4

    @property
    def told_apart(self) -> bool:
        return self.text.shape.told_apart

    @property
    def written(self) -> Written:
        return {"type": "string", **self.text.written}

    def judge(self, value: bytes) -> Masked | None:
        masked = self.text.judge(string_in(value))
        return None if masked is None else _mask_as_value(masked)

    def sift(self, values: list[bytes]) -> list[str | None]:
        return self.text.sift(values)


@dataclass(frozen=True, slots=True)
class StringListValue:
    """An attribute that is a list of at most `max_items` strings.

    The list is also read as one text, for a secret may be cut into its items. A hit masks the whole list.
    """

    text: Text
    max_items: int
    repeats: ClassVar[bool] = True
    leads: ClassVar[tuple[bytes, ...]] = (NO_LEAD,) * LONGEST
    lead: ClassVar[int] = 0
    told_apart: ClassVar[bool] = False

    @property
    def written(self) -> Written:
        return {"type": "string[]", **self.text.written, "max_items": self.max_items}

    def judge(self, value: bytes) -> Masked | None:
        items = self._items(value)
        masked = next(filter(None, map(self.text.judge, items)), None)
        if masked is None and len(items) > 1 and self.text.shape.scanned:
            masked = self.text.scan(b"".join(items).decode())
        if masked is None:
            return None
        return Masked(masked.reason, delimited(5, delimited(1, delimited(1, masked.content))))

    def sift(self, values: list[bytes]) -> list[str | None]:
        return [DOUBT] * len(values)

    def _items(self, value: bytes) -> list[bytes]:
        end = len(value)
        if not value or value[0] != _ARRAY:
            raise Refused("type")
        pos, stop = read_length(value, 1, end)
        if stop != end:
            raise Refused("duplicate")
        items: list[bytes] = []
        while pos < end:
            if value[pos] != _ITEM or len(items) == self.max_items:
                raise Refused("type")
            start, pos = read_length(value, pos + 1, end)
            items.append(string_in(value[start:pos]))
        return items


@dataclass(frozen=True, slots=True)
class IntValue:
    """An attribute that is an integer from `least` to `most`: too narrow a range for a card's number."""

    least: int
    most: int
    repeats: ClassVar[bool] = False
    leads: ClassVar[tuple[bytes, ...]] = _leads(4, 13, lambda size: bytes((VALUE, size - 2, _INT)))
    lead: ClassVar[int] = 3
    told_apart: ClassVar[bool] = False

    @property
    def written(self) -> Written:
        return {"type": "int", "min": self.least, "max": self.most}

    def judge(self, value: bytes) -> Masked | None:
        if not value or value[0] != _INT:
            raise Refused("type")
        number, end = read_varint(value, 1, len(value))
        if end != len(value):
            raise Refused("duplicate")
        if number >> 63:
            number -= 1 << 64
        if not self.least <= number <= self.most:
            raise Refused("range")
        return None

    def sift(self, values: list[bytes]) -> list[str | None]:
        # Numbers of few bytes are in range, whatever they are, if the largest of them is.
        if self.least <= 0 < self.most >> 7 * max(map(len, values), default=0) and _are_integers(values):
            return [None] * len(values)
        return [None if self._allows(value) else DOUBT for value in values]

    def _allows(self, number: bytes) -> bool:
        try:
            return self.judge(_INT_TAG + number) is None
        except (Refused, Broken):
            return False


def _are_integers(values: list[bytes]) -> bool:
    """Whether each is an integer in its shortest form: of its bytes the last is below 128, and no other."""
    together = b"".join(values)
    return (
        bytes(map(_last, values)).isascii()
        and len(together.translate(None, _NOT_THE_LAST)) == len(values)
        and _OVERLONG(together) is None
    )


@dataclass(frozen=True, slots=True)
class DoubleValue:
    """An attribute that is a number from `least` to `most`; not a number is no number."""

    least: float
    most: float
    repeats: ClassVar[bool] = False
    leads: ClassVar[tuple[bytes, ...]] = _leads(11, 11, lambda _: bytes((VALUE, 9, _DOUBLE)))
    lead: ClassVar[int] = 3
    told_apart: ClassVar[bool] = False

    @property
    def written(self) -> Written:
        return {"type": "double", "min": self.least, "max": self.most}

    def judge(self, value: bytes) -> Masked | None:
        if len(value) != 9 or value[0] != _DOUBLE:
            raise Refused("type")
        if not self.least <= _READ_DOUBLE(value, 1)[0] <= self.most:
            raise Refused("range")
        return None

    def sift(self, values: list[bytes]) -> list[str | None]:
        least, most = self.least, self.most
        numbers = struct.unpack(f"<{len(values)}d", b"".join(values))
        return [None if least <= number <= most else DOUBT for number in numbers]


@dataclass(frozen=True, slots=True)
class BoolValue:
    """An attribute that is true or false."""

    repeats: ClassVar[bool] = True
    leads: ClassVar[tuple[bytes, ...]] = _leads(4, 4, lambda _: bytes((VALUE, 2, _BOOL)))
    lead: ClassVar[int] = 3
    told_apart: ClassVar[bool] = False

    @property
    def written(self) -> Written:
        return {"type": "bool"}

    def judge(self, value: bytes) -> Masked | None:
        if len(value) != 2 or value[0] != _BOOL or value[1] > 1:
            raise Refused("type")
        return None

    def sift(self, values: list[bytes]) -> list[str | None]:
        return [None if value in (b"\0", b"\1") else DOUBT for value in values]


@functools.cache  # as many as there are masks
def tagged(masked: Masked, tag: str) -> Masked:
    """The mask of an attribute's text, with a word that tells it from others."""
    return as_value(Masked(masked.reason, f"[redacted:{masked.reason}:{tag}]".encode()))


@functools.cache  # as many as there are masks
def _mask_as_value(masked: Masked) -> Masked:
    return as_value(masked)


def mask_for(reason: str) -> Masked:
    """The mask of an attribute's text."""
    return _mask_as_value(mask(reason))


def as_value(masked: Masked) -> Masked:
    """A masked text as an `AnyValue`."""
    return Masked(masked.reason, delimited(1, masked.content), masked.action)


def string_in(value: bytes) -> bytes:
    """The one string that an `AnyValue` consists of."""
    if not value or value[0] != _STRING:
        raise Refused("type")
    # Short ones, nearly all, have their length in one byte.
    if len(value) > 1 and value[1] < 0x80 and value[1] == len(value) - 2:
        return value[2:]
    start, stop = read_length(value, 1, len(value))
    if stop != len(value):
        raise Refused("duplicate")
    return value[start:stop]
