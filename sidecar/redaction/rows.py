"""Walks a request as `engine.py` does, but for records in a row: those are judged by the hundred (`bulk.py`).

Each outcome is the one that the walk would have, in bytes and in counts; a record for which that is not sure is walked.
A fault in here costs time and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import compress
from re import Match

from .bounds import Spent
from .bulk import Judged, Verdicts, cut
from .engine import Pass
from .forms import Form, Part
from .gates import AttributeGate, TextGate
from .plan import TenantPlans
from .questions import is_harmless
from .steps import Action
from .texts import Refused
from .wire_format import varint


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
        data, rows, changed = self._data, verdicts.rows, verdicts.changed
        pieces: list[bytes] = []
        walked: list[str] = []
        kept = pos
        for (begin, start, stop), head, fields, word in zip(
            records.frames, records.heads, records.fields, verdicts.words, strict=True
        ):
            row = rows[word]
            pos = stop
            if row is None or not verdicts.knows(head):
                walked.append(word)
                outcome = self._record(plans.everybody, start, stop)
                if outcome is None:
                    continue
                pieces.append(data[kept:begin])
                if isinstance(outcome, bytes):
                    pieces += (data[begin : begin + 1], varint(len(outcome)), outcome)
                kept = stop
                continue
            beginning = self._head(head, verdicts) if verdicts.texts else None
            if row.actions:
                some = [data[start : head.end()] if beginning is None else beginning]
                some += compress(fields, row.leaves)
                for at in row.rewritten:
                    some[at + 1] = changed[some[at + 1]]
                content = b"".join(some)
            elif beginning is not None:
                content = beginning + data[head.end() : stop]
            else:
                continue
            pieces += (data[kept : begin + 1], varint(len(content)), content)
            kept = stop
        self._count_all(Counter(verdicts.words) - Counter(walked), verdicts)
        # What comes in another form costs more to cut than to walk.
        self._in_rows = 2 * len(walked) <= len(records.frames)
        if not pieces:
            return pos, None
        pieces.append(data[kept:pos])
        return pos, b"".join(pieces)

    def _count_all(self, words: Mapping[str, int], verdicts: Verdicts) -> None:
        """Count records, by their words, and what was done to their fields."""
        for word, times in words.items():
            row = verdicts.rows[word]
            if row is not None:
                self._count_records(times)
                self._count_parts(times * row.parts)
                self.records_out += times
                for done, often in row.actions:
                    self._count(done, times * often)

    def _head(self, head: Match[bytes], verdicts: Verdicts) -> bytes | None:
        """A record's new head; None when it stays."""
        pieces: list[bytes] = []
        kept = head.start()
        for number, text in enumerate(head.groups(), 1):
            if text in verdicts.texts:
                begin, stop = head.span(number)
                to, done = verdicts.texts[text]
                pieces += (self._data[kept:begin], to)
                self._count(done, 1)
                kept = stop
        return b"".join((*pieces, self._data[kept : head.end()])) if pieces else None

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

    def judge_id(self, identity: bytes) -> bool:
        """As `Judge`."""
        try:
            return is_harmless(identity)
        except Spent:
            return False

    def judge_part(self, part: Part, content: bytes) -> tuple[bytes | None, Mapping[Action, int]] | None:
        """As `Judge`."""
        inside = Pass(content, self._report, self._tenants)
        try:
            outcome = inside.part(part.plan, 0, len(content))
        except Exception:  # noqa: BLE001  # it is seen again, and dealt with, when the record is walked
            return None
        return outcome if isinstance(outcome, bytes) else None, inside.actions
