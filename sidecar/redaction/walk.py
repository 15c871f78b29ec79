"""Walks the fields of one message along its plan, once, and writes what may leave.

Nothing is parsed into objects. What may stay is copied as a slice, and a message in which nothing changed is
part of its parent's slice; so the price of a span is that of looking at its fields.

It fails closed, at the smallest place that can be taken out: a value, or a part (an event, a link, the
resource). A field that may stand once and stands twice counts the first time: parsers would merge the two or
take the last, and which one does what is nothing to build privacy on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from .bounds import MAX_FIELDS, Spent
from .gates import TENANT_KEY, VICTIM_KEY, AttributeGate, TextGate
from .plan import TenantPlans
from .questions import is_harmless, may_name
from .steps import (
    ATTRIBUTE,
    DROP,
    FIXED,
    ID,
    INTEGER,
    INTO,
    NAME,
    PACKED_FIXED,
    PACKED_VARINTS,
    PART,
    RECORD,
    Action,
    Plan,
    Step,
)
from .tally import Tally
from .texts import Refused
from .wire_format import Broken, read_length, read_varint, skip, varint

_UNKNOWN: Final[Step] = (DROP, 0, "unknown")
_AGAIN: Final[Step] = (DROP, 0, "duplicate")
_VARINTS: Final = re.compile(rb"(?:[\x00-\x7f]|[\x80-\xff]{1,8}[\x01-\x7f]|[\x80-\xff]{9}\x01)*", re.DOTALL)


class Gone:
    """In the place of new content: the field does not leave."""


GONE: Final = Gone()
_NONE: Final[dict[bytes, int]] = {}
#: New content in pieces: of a request all of them are joined at once, for to copy them at each depth takes longer.
Pieces = list[bytes]
# What to write for a field: new content, nothing at all, or (None) the field as it stands.
Outcome = bytes | Pieces | Gone | None
Handler = Callable[[Any, Any, int, int], Outcome]


class Walk(Tally):
    """The fields of one message, and of those inside of it. Of records it knows nothing: `engine.Pass` does.

    Args:
        data: the bytes that hold the message.
        report: is told of an exception that nobody expected.
        tenants: the ids that the sender may name; None when it may name all.
        tenant: whose the message is; empty unless it matters.

    What it saw and did is its `Tally`.
    """

    __slots__ = ("_data", "_in_rows", "_report", "_tenant", "_tenants")

    def __init__(
        self,
        data: bytes,
        report: Callable[[Exception], None],
        tenants: frozenset[str] | None = None,
        tenant: bytes = b"",
    ) -> None:
        super().__init__()
        self._data = data
        self._report = report
        self._tenants = tenants
        self._tenant = tenant
        self._in_rows = False  # whether records are in the form that is usual for them

    def _walk(self, plan: Plan, pos: int, end: int) -> Pieces | None:  # noqa: C901  # the one hot loop, in one place
        """The new content of the message from `pos` to `end`, or None when it stays as it is.

        Raises:
            Broken: it cannot be read.
            Refused: it must not leave.
        """
        data = self._data
        step_of = plan.get
        seen = keys = gone = 0
        kept = pos  # from here on, everything stays
        pieces: Pieces = []
        outcome: Outcome
        while pos < end:
            field = pos
            tag = data[pos]
            pos += 1
            if tag > 0x7F:
                tag, pos = read_varint(data, field, end)
            operation, once, operand = step_of(tag, _UNKNOWN)
            if seen & once:
                if operation == INTO:
                    self._lose("duplicate", operand, *read_length(data, pos, end))
                operation, _, operand = _AGAIN
            seen |= once

            if operation == RECORD and self._in_rows:
                stop, rewritten = self._row(operand, field, end, tag)
                if stop > field:
                    if rewritten is not None:
                        pieces.append(data[kept:field])
                        pieces += rewritten
                        kept = stop
                    pos = stop
                    continue
            if operation == ATTRIBUTE:
                # They come in rows, and most of them have passed before: no need to look up each one's step.
                # What another sender may name is in the memo too: who may not name all is asked about every one.
                recent = operand.memo.recent if self._tenants is None else _NONE
                while pos < end:
                    size = data[pos]
                    stop = pos + size + 1
                    if size > 0x7F or stop > end:
                        break
                    bit = recent.get(data[pos + 1 : stop])
                    if bit is None or bit & keys:
                        break
                    keys |= bit
                    pos = field = stop
                    if stop == end or data[stop] != tag:
                        break
                    pos += 1
                if pos == field:
                    continue
            if operation == FIXED:
                pos += operand
                if pos > end:
                    raise Broken
                continue
            if operation == INTEGER:
                if pos < end and data[pos] < 0x80:
                    number, stop = data[pos], pos + 1
                else:
                    number, stop = read_varint(data, pos, end)
                if number < operand:
                    pos = stop
                    continue
                outcome = self._drop("range")
            elif operation == DROP:
                stop = skip(data, pos, end, tag)
                outcome = self._drop(operand)
                gone += 1
                if gone > MAX_FIELDS:
                    raise Refused("fields")
            else:
                if pos < end and data[pos] < 0x80:
                    start = pos + 1
                    stop = start + data[pos]
                    if stop > end:
                        raise Broken
                else:
                    start, stop = read_length(data, pos, end)
                if operation <= NAME:
                    entry = data[start:stop]
                    known = operation != ATTRIBUTE or self._tenants is None
                    bit = operand.memo.recent.get(entry) if known else None
                    if bit is None or bit & keys:
                        bit, outcome = self._judge(operand, entry, keys)
                        if outcome is GONE:
                            if operation == NAME:
                                raise Refused("name")
                            gone += 1
                            if gone > MAX_FIELDS:
                                raise Refused("fields")
                    else:
                        outcome = None
                    keys |= bit
                elif operation == ID and stop - start == operand and not data[start:stop].isascii():
                    outcome = None
                else:
                    outcome = self.HANDLERS[operation](self, operand, start, stop)
                if outcome is None:
                    pos = stop
                    continue

            # `pos` is still behind the tag.
            pieces.append(data[kept:field])
            if isinstance(outcome, bytes):
                pieces += (data[field:pos], varint(len(outcome)), outcome)
            elif not isinstance(outcome, Gone):
                pieces += (data[field:pos], varint(sum(map(len, outcome))), *outcome)
            kept = pos = stop
        if not pieces:
            return None
        pieces.append(data[kept:end])
        return pieces

    def _row(self, plans: TenantPlans, pos: int, end: int, tag: int) -> tuple[int, Pieces | None]:
        """Records in a row, from `pos` on: where those stop that need not be walked, what is to be written for them."""
        raise NotImplementedError

    def _lose(self, reason: str, plan: Plan, start: int, stop: int) -> None:
        """Count the records of a message that goes as a whole."""
        raise NotImplementedError

    def _drop(self, reason: str) -> Gone:
        self._count(("drop", reason), 1)
        return GONE

    def _judge(self, gate: AttributeGate | TextGate, entry: bytes, keys: int) -> tuple[int, Outcome]:
        """What becomes of an attribute or a text, and the bit of its key when it stays in any form. As `_verdict`."""
        bit, outcome, done = self._verdict(gate, entry, keys)
        if done is not None:
            self._count(done, 1)
        return bit, outcome

    def _verdict(self, gate: AttributeGate | TextGate, entry: bytes, keys: int) -> tuple[int, Outcome, Action | None]:
        """The same, and what was done, which is not counted.

        Raises:
            Refused: it names a tenant that the sender does not speak for.
        """
        if self._tenants is not None and type(gate) is AttributeGate and (TENANT_KEY in entry or VICTIM_KEY in entry):
            may_name(entry, self._tenants)
        try:
            bit, masked = gate.judge(entry, keys, self._tenant)
        except Refused as refused:
            return 0, GONE, ("drop", refused.reason)
        except Broken:
            return 0, GONE, ("drop", "wire")
        except Spent:
            return 0, GONE, ("drop", "budget")
        except Exception as error:  # noqa: BLE001  # a rule that fails must not let its value through
            self._report(error)
            return 0, GONE, ("drop", "error")
        if masked is None:
            return bit, None, None
        if isinstance(masked, str):
            return 0, GONE, ("drop", masked)
        return bit, masked.content, (masked.action, masked.reason)

    def _id(self, length: int, start: int, stop: int) -> Outcome:
        """A trace or span id. Another length, or a secret spelt out in its bytes, is a covert channel."""
        identity = self._data[start:stop]
        if identity and len(identity) != length:
            raise Refused("identity")
        try:
            if not is_harmless(identity):
                raise Refused("identity")
        except Spent:
            raise Refused("budget") from None
        return None

    def part(self, plan: Plan, start: int, stop: int) -> Outcome:
        """The new content of a message inside a record or beside records."""
        self._count_parts(1)
        try:
            pieces = self._walk(plan, start, stop)
        except Refused as refused:
            return self._drop(refused.reason)
        except Broken:
            return self._drop("wire")
        return None if pieces is None else b"".join(pieces)

    def _packed_fixed(self, width: int, start: int, stop: int) -> Outcome:
        return None if (stop - start) % width == 0 else self._drop("wire")

    def _packed_varints(self, _: None, start: int, stop: int) -> Outcome:
        # Counts below 128, the usual case, are told without looking at each.
        numbers = self._data[start:stop]
        return None if numbers.isascii() or _VARINTS.fullmatch(numbers) else self._drop("wire")

    #: What is called for a field whose operation is not done in the loop. Of the class: an object that had its own
    #: would hold itself, and the whole request, until the collector comes by.
    HANDLERS: ClassVar[Mapping[int, Handler]] = {
        ID: _id,
        PART: part,
        PACKED_FIXED: _packed_fixed,
        PACKED_VARINTS: _packed_varints,
    }
