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
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .gates import AttributeGate, TextGate
from .kinds import Kinds
from .memo import Memo
from .rules import NO_LEAD
from .steps import ATTRIBUTE, DROP, FIXED, ID, INTEGER, PACKED_FIXED, PACKED_VARINTS, PART, TEXT, Plan
from .wire_format import varint

#: Fields with a longer content are in no form.
MAX_LENGTH: Final = 1023
TIME_BYTES: Final = 8
#: Bytes of the shortest field that is an attribute with a key and a value.
LEAST_ENTRY: Final = 5
_GROUP: Final = 24
_TRIES: Final = 4
_NO_FIELD: Final = b".+(?=.)|."
_LENGTH_DELIMITED: Final = 2
_ONE_BYTE: Final = 0x80


class Part(NamedTuple):
    """A message inside a record.

    Attributes:
        plan: for its fields.
        time: the first of them when it is a number of 8 bytes, such as an event's time: its tag; empty otherwise.
        memo: contents that may leave as they stand; without the time and its tag, where there is one.
        expression: for contents in which there is nothing to judge: numbers, and ids of random bytes. Empty where there
            is something mostly.
    """

    plan: Plan
    time: bytes
    memo: Memo
    expression: bytes

    @property
    def plain(self) -> re.Pattern[bytes]:
        return _compiled(self.expression)


class Beginnings(dict[int, bytes]):
    """How fields begin that are attributes under one key, by their size, up to the value itself; made when one of a
    size is met. A field whose length takes two bytes begins like none.

    Args:
        tag: of the attribute.
        start: how the content begins: the key with its tag and length.
        leads: how the value behind it begins, by its size.

    Attributes:
        at: where values start, with their tags.
    """

    def __init__(self, tag: int, start: bytes, leads: tuple[bytes, ...]) -> None:
        super().__init__()
        self.start = start
        self.at = 2 + len(start)
        self._tag = tag
        self._leads = leads

    def __missing__(self, size: int) -> bytes:
        beginning = NO_LEAD
        if self.at <= size < _ONE_BYTE + 2:
            beginning = bytes((self._tag, size - 2)) + self.start + self._leads[size - self.at]
        self[size] = beginning
        return beginning


class Form:
    """What records of one kind look like. Shared by threads; made once for a policy.

    Attributes:
        head: matches the fields at the beginning; a group for each of `texts`, with tag and length.
        fields: finds the fields behind them, one after the other; plain ones that stand together, together. What is
            none is found too, up to the end, and ends in a piece of one byte, which no field has.
        texts: the gates of the groups; None for an id that may be text.
        attributes: the tag of the attributes, as a byte; attribute_gate: their gate.
        behind: the gates of texts that stand behind the attributes, by tag.
        parts: messages inside, by tag.
        dropped: for fields that are dropped whatever they are, by tag, the reason.
        bits: for fields that may stand once, by tag: a bit that is none of an attribute's. For plain ones, that of the
            first of those that may stand together.
        memo: attributes that may leave as they stand, with tag and length, each with the bit of its key.
    """

    def __init__(self, plan: Plan) -> None:
        everything = sorted(plan.items())
        steps = [(tag, step) for tag, step in everything if tag < _ONE_BYTE]
        ((self.attributes, attributes),) = [(tag, step) for tag, step in steps if step[0] == ATTRIBUTE]
        self.attribute_gate: AttributeGate = attributes[2]
        self.parts = {tag: _part(operand) for tag, (operation, _, operand) in steps if operation == PART}
        first = min((self.attributes, *self.parts))  # of the fields behind the head
        self.texts: list[TextGate | None] = [
            operand if operation == TEXT else None
            for tag, (operation, _, operand) in steps
            if operation in (TEXT, ID) and tag < first
        ]
        self.behind: dict[int, TextGate] = {tag: step[2] for tag, step in steps if step[0] == TEXT and tag > first}
        self.dropped: dict[int, str] = {
            tag: operand for tag, (operation, _, operand) in steps if operation == DROP and tag & 7 == _LENGTH_DELIMITED
        }
        self.bits = {tag: once << self.attribute_gate.width for tag, (_, once, _) in everything if once}
        # Of those of which one alone may stand, all are found in one place.
        apart = {once for tag, (_, once, _) in everything if tag > first}
        ahead = [tag for tag, (_, once, _) in steps if tag < first and once not in apart - {0}]
        self._head = b"".join(_beginning(plan, ahead))
        runs = [*_runs({tag: step for tag, step in everything if tag not in ahead})]
        for run in runs:
            self.bits.update(dict.fromkeys(run, self.bits[run[0]]))
        self._fields = tuple(_run(run, plan) for run in runs)
        self._kinds = Kinds()
        self._beginnings: dict[bytes, Beginnings] = {}  # as many as there are keys with a rule
        self.memo = Memo()
        self._delimited = bytes((self.attributes, *self.behind, *self.parts, *self.dropped))

    @property
    def kinds(self) -> Kinds:
        """The letters for kinds of fields: for whoever takes hold of them once."""
        if self._kinds.full:
            self._kinds = Kinds()
        return self._kinds

    def beginnings(self, fields: Iterable[bytes]) -> Beginnings | None:
        """Of the attributes under a key that one of the first of these fields has; None when they have none, or none
        that the policy lists. Other keys are never remembered: there may be content in them."""
        for field in itertools.islice(fields, _TRIES):
            if field[0] == self.attributes and len(field) >= LEAST_ENTRY and field[1] < _ONE_BYTE:
                start = field[2 : field[3] + 4]
                found = self._beginnings.get(start)
                if found is None and self.attribute_gate.lists(start):
                    leads = self.attribute_gate.leads(start)
                    if leads is not None:
                        found = self._beginnings[start] = Beginnings(self.attributes, start, leads)
                if found is not None:
                    return found
        return None

    @property
    def head(self) -> re.Pattern[bytes]:
        return _compiled(self._head)

    @property
    def fields(self) -> re.Pattern[bytes]:
        return _compiled(b"|".join((b"[%b]%b" % (re.escape(self._delimited), _ANY_LENGTH), *self._fields, _NO_FIELD)))


def _part(plan: Plan) -> Part:
    tag, (operation, _, operand) = min(plan.items())
    time = varint(tag) if operation == FIXED and operand == TIME_BYTES else b""
    judged = any(step[0] in (ATTRIBUTE, TEXT) for step in plan.values())
    return Part(plan, time, Memo(), b"" if judged else b"".join(_plain_fields(plan)))


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
        elif operation in (FIXED, INTEGER, PACKED_FIXED):
            # Numbers that may repeat stand in one array mostly, or one by one: then the second is not in the form.
            alternatives.setdefault(once or -(tag >> 3), []).append(_plain(tag, plan))
    for one_of in alternatives.values():
        yield b"(?:%b)?" % b"|".join(one_of)


def _runs(plan: Plan) -> Iterator[list[int]]:
    """The plain fields that may stand once, by those between which there is no other; those of which one alone may
    stand are by themselves."""
    members = Counter(once for _, once, _ in plan.values())

    def place(tag: int) -> int:
        operation, once, _ = plan[tag]
        if operation not in (FIXED, INTEGER, ID) or not once:
            return 0
        return once if members[once] > 1 else -1

    for found, tags in itertools.groupby(sorted(plan), place):
        if found:
            yield [*tags]


def _run(tags: list[int], plan: Plan) -> bytes:
    """Some of these fields, in their order. Where one is begun and is none, nothing is found: no field is so short."""
    one_of: dict[int, list[bytes]] = {}
    for tag in tags:
        one_of.setdefault(plan[tag][1], []).append(_plain(tag, plan))
    begun = b"|".join(map(_start, tags))
    return b"(?=%b)" % begun + b"".join(b"(?:%b)?" % b"|".join(fields) for fields in one_of.values())


def _plain_fields(plan: Plan) -> Iterator[bytes]:
    """Each of the plain fields once or not at all, in their order; of those of which one alone may stand, one alone."""
    groups: dict[int, list[int]] = {}  # by bit, those of its fields
    plain = [tag for tag, step in sorted(plan.items()) if step[1] and step[0] in (FIXED, INTEGER, ID)]
    for number, tag in enumerate(plain, 1):
        others = groups.setdefault(plan[tag][1], [])
        expression = b"(%b)?" % _plain(tag, plan)
        for other in others:
            expression = b"(?(%d)|%b)" % (other, expression)
        others.append(number)
        yield expression
    if plan[last := max(plan)][0] == PACKED_VARINTS:
        yield b"(?:%b)?" % _to_the_end(last)


def _start(tag: int) -> bytes:
    return re.escape(varint(tag))


def _plain(tag: int, plan: Plan) -> bytes:
    """A field that may leave as it stands. Another number of the same field is found by nobody here."""
    operation, _, operand = plan[tag]
    start = _start(tag)
    if operation == FIXED:
        return b"%b.{%d}" % (start, operand)
    if operation == PACKED_FIXED:
        return start + _sized(range(operand, MAX_LENGTH + 1, operand))
    if operation == ID:  # of random bytes; those that could be text are for others
        return rb"%b\x%02x(?![\x00-\x7f]{%d}).{%d}" % (start, operand, operand, operand)
    return rb"%b[\x00-\x%02x]" % (start, min(operand, _ONE_BYTE) - 1)


def _as_text(tag: int, plan: Plan) -> bytes:
    """An id that may be text."""
    size = plan[tag][2]
    return rb"%b\x%02x[\x00-\x7f]{%d}" % (_start(tag), size, size)


def _to_the_end(tag: int) -> bytes:
    """An array of varints, each in its shortest form, of 63 bits at most: the last field there is."""
    length = rb"(?=%b\Z)(?:[\x01-\x7f]|[\x80-\xff][\x01-\x7f])" % _ANY_LENGTH
    return _start(tag) + length + rb"(?:[\x00-\x7f]*+[\x80-\xff]{1,8}+[\x01-\x7f])*+[\x00-\x7f]*+"


@functools.cache
def _sized(sizes: range) -> bytes:
    """One of these lengths, in one byte or two, and so many bytes behind it."""
    expressions: list[bytes] = []
    for high, some in itertools.groupby(sizes, lambda size: size >> 7):
        if high:
            lows = [size & 0x7F | 0x80 for size in some]
            two_bytes = ((low, rb"\x%02x\x%02x.{%d}+" % (low, high, high << 7 | low & 0x7F)) for low in lows)
            expressions.append(rb"(?=[\x80-\xff]\x%02x)(?:%b)" % (high, b"|".join(_grouped(two_bytes))))
        else:
            expressions += _grouped((size, rb"\x%02x.{%d}+" % (size, size)) for size in some)
    return b"(?:%b)" % b"|".join(expressions)


def _grouped(alternatives: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Alternatives behind the bytes that they begin with, in order; most of them are passed over in groups."""
    waiting = list(alternatives)
    for start in range(0, len(waiting), _GROUP):
        group = waiting[start : start + _GROUP]
        bounds = group[0][0], group[-1][0]
        yield rb"(?=[\x%02x-\x%02x])(?:%b)" % (*bounds, b"|".join(expression for _, expression in group))


_SHORT: Final = _sized(range(1, _ONE_BYTE))
_ANY_LENGTH: Final = _sized(range(1, MAX_LENGTH + 1))
