"""The form that records of one kind have in nearly all requests, as expressions that find their fields.

Encoders write fields in the order of their numbers. Of a record in this form, the plain fields at its beginning are
passed over in one step, and the rest is cut into its fields by one call. Expressions cannot count, so a length is one
alternative among a thousand, each with its own byte or two and so many bytes behind; they are sorted into groups, so
that a handful is tried.

What it refuses: to judge, and to say that a record is in this form. Whoever cuts it (`bulk.py`) must see that the
pieces are all there is; what is in another form is walked field by field.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .gates import AttributeGate, TextGate
from .kinds import Kinds
from .memo import Memo
from .steps import ATTRIBUTE, DROP, FIXED, ID, INTEGER, PACKED_FIXED, PACKED_VARINTS, PART, TEXT, Plan
from .wire_format import varint

#: Fields with a longer content are in no form.
MAX_LENGTH: Final = 1023
TIME_BYTES: Final = 8
_GROUP: Final = 16
_NO_FIELD: Final = b".+(?=.)|."
_LENGTH_DELIMITED: Final = 2
_ONE_BYTE: Final = 0x80


class Part(NamedTuple):
    """A message inside a record.

    Attributes:
        plan: for its fields.
        time: the first of them when it is a number of 8 bytes, such as an event's time: its tag; empty otherwise.
        memo: contents that may leave as they stand; without the time and its tag, where there is one.
    """

    plan: Plan
    time: bytes
    memo: Memo


class Form:
    """What records of one kind look like. Shared by threads; made once for a policy.

    Attributes:
        head: matches the fields at the beginning; a group for each of `texts`, with tag and length.
        fields: finds the fields behind them, one after the other. What is none is found too, up to the end, and ends in
            a piece of one byte, which no field has.
        texts: the gates of the groups; None for an id that may be text.
        attributes: the tag of the attributes, as a byte; attribute_gate: their gate.
        parts: messages inside, by tag.
        dropped: for fields that are dropped whatever they are, by tag, the reason.
        bits: for fields that may stand once, by tag: a bit that is none of an attribute's.
        memo: attributes that may leave as they stand, with tag and length, each with the bit of its key.
    """

    def __init__(self, plan: Plan) -> None:
        everything = sorted(plan.items())
        steps = [(tag, step) for tag, step in everything if tag < _ONE_BYTE]
        ((self.attributes, attributes),) = [(tag, step) for tag, step in steps if step[0] == ATTRIBUTE]
        self.attribute_gate: AttributeGate = attributes[2]
        self.texts: list[TextGate | None] = [
            operand if operation == TEXT else None
            for tag, (operation, _, operand) in steps
            if operation in (TEXT, ID) and tag < self.attributes
        ]
        self.parts = {tag: _part(operand) for tag, (operation, _, operand) in steps if operation == PART}
        self.dropped: dict[int, str] = {
            tag: operand for tag, (operation, _, operand) in steps if operation == DROP and tag & 7 == _LENGTH_DELIMITED
        }
        self.bits = {tag: once << self.attribute_gate.width for tag, (_, once, _) in everything if once}
        self._head = b"".join(_beginning(plan, [tag for tag, _ in steps if tag < self.attributes]))
        behind = [tag for tag, step in everything if step[0] in (FIXED, INTEGER, ID) and tag > self.attributes]
        self._fields = tuple(_plain(tag, plan) for tag in behind)
        self._kinds = Kinds()
        self.memo = Memo()
        self._delimited = bytes((self.attributes, *self.parts, *self.dropped))

    @property
    def kinds(self) -> Kinds:
        """The letters for kinds of fields: for whoever takes hold of them once."""
        if self._kinds.full:
            self._kinds = Kinds()
        return self._kinds

    @property
    def head(self) -> re.Pattern[bytes]:
        return _compiled(self._head)

    @property
    def fields(self) -> re.Pattern[bytes]:
        return _compiled(b"|".join((b"[%b]%b" % (re.escape(self._delimited), _ANY_LENGTH), *self._fields, _NO_FIELD)))


def form_of(plan: Plan) -> Form | None:
    """The form of records with this plan; None for records in which the usual fields are of other kinds."""
    if any(operation in (PACKED_FIXED, PACKED_VARINTS) for operation, _, _ in plan.values()):
        return None
    return Form(plan)


def _part(plan: Plan) -> Part:
    tag, (operation, _, operand) = min(plan.items())
    return Part(plan, varint(tag) if operation == FIXED and operand == TIME_BYTES else b"", Memo())


_compiled = functools.cache(functools.partial(re.compile, flags=re.DOTALL))  # as many as there are kinds of records


def _beginning(plan: Plan, tags: list[int]) -> Iterator[bytes]:
    """Each of the fields once or not at all, in their order; of those of which one alone may stand, one alone."""
    alternatives: dict[int, list[bytes]] = {}
    for tag in tags:
        operation, once, _ = plan[tag]
        if operation == TEXT:
            alternatives[once] = [b"(%b%b)" % (_start(tag), _SHORT)]
        elif operation == ID:
            alternatives[once] = [_plain(tag, plan), b"(%b)" % _as_text(tag, plan)]
        elif operation in (FIXED, INTEGER):
            alternatives.setdefault(once, []).append(_plain(tag, plan))
    for one_of in alternatives.values():
        yield b"(?:%b)?" % b"|".join(one_of)


def _start(tag: int) -> bytes:
    return re.escape(varint(tag))


def _plain(tag: int, plan: Plan) -> bytes:
    """A field that may leave as it stands. Another number of the same field is found by nobody here."""
    operation, _, operand = plan[tag]
    start = _start(tag)
    if operation == FIXED:
        return b"%b.{%d}" % (start, operand)
    if operation == ID:  # of random bytes; those that could be text are for others
        return rb"%b\x%02x(?![\x00-\x7f]{%d}).{%d}" % (start, operand, operand, operand)
    return rb"%b[\x00-\x%02x]" % (start, min(operand, _ONE_BYTE) - 1)


def _as_text(tag: int, plan: Plan) -> bytes:
    """An id that may be text."""
    size = plan[tag][2]
    return rb"%b\x%02x[\x00-\x7f]{%d}" % (_start(tag), size, size)


def _grouped(first: int, alternatives: Iterable[bytes]) -> Iterator[bytes]:
    """Alternatives that begin with one byte after the other, so that most are passed over in groups."""
    waiting = list(alternatives)
    for start in range(0, len(waiting), _GROUP):
        group = waiting[start : start + _GROUP]
        low = first + start
        yield rb"(?=[\x%02x-\x%02x])(?:%b)" % (low, low + len(group) - 1, b"|".join(group))


_SHORT: Final = b"(?:%b)" % b"|".join(_grouped(1, (rb"\x%02x.{%d}" % (size, size) for size in range(1, _ONE_BYTE))))
_LONG: Final = b"|".join(
    rb"(?=[\x80-\xff]\x%02x)(?:%b)"
    % (
        high,
        b"|".join(
            _grouped(0x80, (rb"\x%02x\x%02x.{%d}" % (low | 0x80, high, high << 7 | low) for low in range(_ONE_BYTE)))
        ),
    )
    for high in range(1, (MAX_LENGTH + 1) >> 7)
)
_ANY_LENGTH: Final = b"(?:%b|%b)" % (_SHORT, _LONG)
