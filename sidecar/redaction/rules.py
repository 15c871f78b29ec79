"""Rules for one value: may it leave, must it be masked, is it refused?

`Text` judges the bytes of a string field. The rules of attributes judge the bytes of an `AnyValue`, and know
exactly one way to write the value that they expect: another type, a second member of the oneof, anything
before or behind it, an overlong varint, and the value is refused.

A judgement is None (leaves as it stands), a `Masked`, or `Refused`. Lengths are bounded before anything is
searched.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from .detectors import LONG, REASONS, detect, is_name
from .encodings import ALL_DIGITS
from .innocence import innocent_among
from .memo import Memo
from .patterns import Patterns
from .shapes import ENUM, Shape
from .wire_format import delimited, read_length, read_varint

# Tags within AnyValue; bool, int and double are told by their first byte.
_STRING, _BOOL, _INT, _DOUBLE, _ARRAY = 0x0A, 0x10, 0x18, 0x21, 0x2A
_ITEM: Final = 0x0A  # ArrayValue.values
_READ_DOUBLE: Final = struct.Struct("<d").unpack_from

#: What stands in the place of a text that does not fit where a text must stand.
REDACTED: Final = b"redacted"


class Refused(Exception):  # noqa: N818  # a judgement, not an error
    """The value, or the message around it, must not leave; `reason` is one of a bounded set of words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Masked(NamedTuple):
    """What leaves in the value's place, the word for why, and for what was done."""

    reason: str
    content: bytes
    action: str = "mask"


@functools.cache  # as many as there are reasons, which a policy's patterns add to
def mask(reason: str) -> Masked:
    """The mask of a text."""
    return Masked(reason, f"[redacted:{reason}]".encode())


# They pass as they are: redacting twice changes nothing, and a sender who writes one has said nothing.
_HARMLESS: Final = frozenset({b"", REDACTED, *(mask(reason).content for reason in (*REASONS, "policy"))})


# A rule as a policy's file says it.
Written = dict[str, Any]


class AttributeRule(Protocol):
    """Judges the value of one attribute."""

    #: Whether values come again, so that it pays to remember what was allowed.
    repeats: ClassVar[bool]

    @property
    def told_apart(self) -> bool:
        """Whether a mask must say which value it hides from which other, and nothing more."""

    @property
    def written(self) -> Written:
        """The rule as a policy's file says it, in the order of the file's own; two that say the same are equal."""

    def judge(self, value: bytes) -> Masked | None:
        """`value` is the content of an `AnyValue`. Raises `Refused` or `Broken`."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string: at most `max_length` characters, of a shape, without secrets.

    Attributes:
        misfit_masks: replace what does not fit with `redacted` rather than leave it out, for names that must
            be there.
    """

    shape: Shape
    max_length: int
    misfit_masks: bool = False
    #: The policy's own patterns, which are the same for all of its rules.
    patterns: Patterns | None = field(default=None, compare=False, repr=False)
    # Short names that passed, with zeros for digits: `agent-17` passes because `agent-00` stands here.
    _names: Memo = field(default_factory=Memo, init=False, compare=False, repr=False)

    @property
    def written(self) -> Written:
        """The rule as a policy's file says it."""
        rule: Written = {"shape": self.shape.name}
        if self.shape.words:
            rule["values" if self.shape.name == ENUM else "verbs"] = list(self.shape.words)
        if self.shape.name != ENUM:
            rule["max_length"] = self.max_length
        return rule | {"misfit": "mask"} if self.misfit_masks else rule

    def judge(self, raw: bytes) -> Masked | None:
        """`raw` is the content of a string field. Raises `Refused`."""
        if raw in _HARMLESS or (self.patterns is not None and raw in self.patterns.masks):
            return None
        short = len(raw) < LONG
        zeros = raw.translate(ALL_DIGITS) if short else raw
        if short and self._names.recall(zeros) is not None:
            return None
        try:
            text = self._fitting(raw)
        except Refused as refused:
            if self.misfit_masks:
                return Masked(refused.reason, REDACTED)
            raise
        if not self.shape.scanned:
            return None
        # Shapes without words of the policy's own take any digit where they take one; nobody knows that of patterns.
        if (
            short
            and raw.isascii()
            and not (self.shape.words or self.patterns is not None)
            and is_name(zeros.decode("ascii"))
        ):
            self._names.remember(zeros)
            return None
        return self.scan(text)

    def sift(self, raws: list[bytes]) -> list[bool]:
        """Which of many texts `judge` would let leave as they stand, as far as that can be told of all at once."""
        if self.patterns is not None:
            return [False] * len(raws)
        if not self.shape.scanned:
            return [self._is_fitting(raw) for raw in raws]
        innocent = innocent_among([raw for raw in raws if len(raw) <= self.max_length])
        fits = self.shape.fits
        names = [*innocent]
        fitting = (
            {raw for raw, text in zip(names, b"\n".join(names).decode("ascii").split("\n"), strict=True) if fits(text)}
            if names
            else innocent
        )  # they are of letters and digits, so no line break is among them
        return [raw in fitting for raw in raws]

    def _is_fitting(self, raw: bytes) -> bool:
        try:
            return bool(self._fitting(raw)) or not raw
        except Refused:
            return False

    def _fitting(self, raw: bytes) -> str:
        if len(raw) > 4 * self.max_length:  # no character takes more than four bytes
            raise Refused("length")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise Refused("utf8") from None
        if len(text) > self.max_length:
            raise Refused("length")
        if not self.shape.fits(text):
            raise Refused("shape")
        return text

    def scan(self, text: str) -> Masked | None:
        """The mask for what is found in a text that fits."""
        search = None if self.patterns is None else self.patterns.find
        found = detect(text, numbers=self.shape.numbers, search=search)
        return None if found is None else mask(found)


@dataclass(frozen=True, slots=True)
class StringValue:
    """An attribute that is a string."""

    text: Text
    repeats: ClassVar[bool] = True

    @property
    def told_apart(self) -> bool:
        return self.text.shape.told_apart

    @property
    def written(self) -> Written:
        return {"type": "string", **self.text.written}

    def judge(self, value: bytes) -> Masked | None:
        masked = self.text.judge(string_in(value))
        return None if masked is None else _mask_as_value(masked)


@dataclass(frozen=True, slots=True)
class StringListValue:
    """An attribute that is a list of at most `max_items` strings.

    The list is also read as one text, for a secret may be cut into its items. A hit masks the whole list.
    """

    text: Text
    max_items: int
    repeats: ClassVar[bool] = True
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


@dataclass(frozen=True, slots=True)
class DoubleValue:
    """An attribute that is a number from `least` to `most`; not a number is no number."""

    least: float
    most: float
    repeats: ClassVar[bool] = False
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


@dataclass(frozen=True, slots=True)
class BoolValue:
    """An attribute that is true or false."""

    repeats: ClassVar[bool] = True
    told_apart: ClassVar[bool] = False

    @property
    def written(self) -> Written:
        return {"type": "bool"}

    def judge(self, value: bytes) -> Masked | None:
        if len(value) != 2 or value[0] != _BOOL or value[1] > 1:
            raise Refused("type")
        return None


@functools.cache  # as many as there are masks
def tagged(masked: Masked, tag: str) -> Masked:
    """The mask of an attribute's text, with a word that tells it from others."""
    return as_value(Masked(masked.reason, f"[redacted:{masked.reason}:{tag}]".encode()))


@functools.cache  # as many as there are masks
def _mask_as_value(masked: Masked) -> Masked:
    return as_value(masked)


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
