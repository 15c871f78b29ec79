"""Walks a request as `engine.py` does, but for records in a row: those are judged by the hundred (`bulk.py`).

Each outcome is the one that the walk would have, in bytes and in counts; a record for which that is not sure is walked.
A fault in here costs time and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from .bounds import MAX_PARTS, MAX_RECORDS, TooMuch
from .bulk import Action, Cut, Judged, Verdicts, cut
from .engine import Outcome, Pass
from .forms import Form, Part
from .gates import AttributeGate, TextGate
from .plan import TenantPlans
from .rules import Refused
from .wire_format import varint

_NOTHING_DONE: Final[dict[Action, int]] = {}


class RowsPass(Pass):
    """A `Pass` that takes records together. It is the `Judge` of what cannot be judged with others."""

    __slots__ = ()

    def _row(self, plans: TenantPlans, form: Form, pos: int, end: int, tag: int) -> tuple[int, bytes | None]:
        """What is to be written for the records in a row from `pos` on, and where they stop; None when all stay."""
        try:
            records = cut(form, self._data, pos, end, tag)
            verdicts = Verdicts(form, self, records)
        except Exception as error:  # noqa: BLE001  # then the long way, which fails for one value at a time
            self._report(error)
            self._in_rows = False
            return pos, None
        data, changed, parts = self._data, verdicts.changed, verdicts.parts
        bit_of, among_changed, is_part = verdicts.bits.__getitem__, changed.keys().isdisjoint, parts.__contains__
        pieces: list[bytes] = []
        changes: list[bytes] = []
        kept = pos
        for record in records:
            begin, start, behind, pos, head, fields = record
            outcome: Outcome
            if fields is None or not _are_settled(fields, bit_of) or not verdicts.knows(head):
                outcome = self._record(plans.everybody, start, pos)
                if outcome is None:
                    continue
                pieces.append(data[kept:begin])
                if isinstance(outcome, bytes):
                    pieces += (data[begin : begin + 1], varint(len(outcome)), outcome)
                kept = pos
                continue
            self.records_in += 1
            self.records_out += 1
            if parts:
                self._parts += sum(map(is_part, fields))
            stays = among_changed(fields)
            beginning = None if verdicts.heads_stay else self._head(record, changed, changes)
            if stays and beginning is None:
                continue
            if not stays:
                changes += [field for field in fields if field in changed]
                fields = [changed.get(field, field) for field in fields]
            content = b"".join((data[start:behind] if beginning is None else beginning, *fields))
            pieces += (data[kept : begin + 1], varint(len(content)), content)
            kept = pos
        self._count_all(changes, verdicts)
        # What comes in another form costs more to cut than to walk.
        self._in_rows = 2 * sum(record.fields is not None for record in records) >= len(records)
        if not pieces:
            return pos, None
        pieces.append(data[kept:pos])
        return pos, b"".join(pieces)

    def _count_all(self, changes: list[bytes], verdicts: Verdicts) -> None:
        """Count what was done to these fields."""
        for done, times in Counter(map(verdicts.actions.__getitem__, changes)).items():
            if done is not None:
                self._count(done, times)
        if verdicts.several:
            for field in changes:
                for done, times in verdicts.several.get(field, _NOTHING_DONE).items():
                    self._count(done, times)
        if self.records_in > MAX_RECORDS or self._parts > MAX_PARTS:
            raise TooMuch

    def _head(self, record: Cut, changed: dict[bytes, bytes], changes: list[bytes]) -> bytes | None:
        """The record's new head; None when it stays."""
        pieces: list[bytes] = []
        kept = record.start
        for number, text in enumerate(record.head.groups(), 1):
            if text is not None and text in changed:
                begin, stop = record.head.span(number)
                pieces += (self._data[kept:begin], changed[text])
                changes.append(text)
                kept = stop
        return b"".join((*pieces, self._data[kept : record.behind])) if pieces else None

    @property
    def asks_for_names(self) -> bool:
        """As `Judge`."""
        return self._tenants is not None

    def judge_value(self, gate: AttributeGate | TextGate, content: bytes) -> tuple[int, Judged] | None:
        """As `Judge`."""
        try:
            bit, outcome, done = self._verdict(gate, content, 0)
        except Refused:
            return None
        return bit, (outcome if isinstance(outcome, bytes) else None, done)

    def judge_part(self, part: Part, content: bytes) -> tuple[bytes | None, Mapping[Action, int]] | None:
        """As `Judge`."""
        inside = Pass(content, self._report, self._tenants)
        try:
            outcome = inside.part(part.plan, 0, len(content))
        except Exception:  # noqa: BLE001  # it is seen again, and dealt with, when the record is walked
            return None
        return outcome if isinstance(outcome, bytes) else None, inside.actions


def _are_settled(fields: list[bytes], bit_of: Callable[[bytes], int]) -> bool:
    """Whether it is known what becomes of each field, and none that may stand once stands twice."""
    try:
        bits = [*map(bit_of, fields)]
    except KeyError:
        return False
    # A sum of different powers of two has as many bits as there are of them; any other sum has fewer.
    return sum(bits).bit_count() == len(bits) - bits.count(0)
