"""Records by the hundred: what most of them have in common is found and judged once for all.

Three steps: cut all records into their fields (`forms.py`); judge each field once, whatever number of records it is in,
those under one key together; then `rows.py` puts the records together again. A record that is not in the form, or in
which anything is out of the ordinary (two attributes with one key, a tenant that the sender may not name), is walked
field by field, as if this were not here: this is only ever about speed.

What it refuses: to hold more than some hundreds of records at a time, and to keep anything of them afterwards but what
left as it stood, within the bounds of a memo.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import accumulate, chain
from operator import itemgetter
from typing import Final, Protocol

from .cutting import Cut
from .forms import TIME_BYTES, Form, Part
from .gates import TENANT_KEY, VICTIM_KEY, AttributeGate, TextGate
from .kinds import UNSETTLED, Kind, Row
from .memo import MAX_ENTRY
from .steps import Action
from .wire_format import varint

_SHORT: Final = 0x80
# What leaves in the place of a field's content, None for nothing; and what was done. No action: it leaves as it stands.
Judged = tuple[bytes | None, Action | None]


class Judge(Protocol):
    """Judges what cannot be judged with others. None: it depends on the record, which must be walked."""

    @property
    def asks_for_names(self) -> bool:
        """Whether the sender may name some tenants only."""

    def judge_value(self, gate: AttributeGate | TextGate, content: bytes) -> tuple[int, Judged] | None:
        """An attribute or a text: the bit of its key if it leaves in any form, and what becomes of it."""

    def judge_id(self, identity: bytes) -> bool:
        """Whether an id that may be text may leave."""

    def judge_part(self, part: Part, content: bytes) -> tuple[bytes | None, Mapping[Action, int]] | None:
        """A message inside a record: what becomes of it, and all that was done."""


class Verdicts:
    """What becomes of the fields of some records.

    Attributes:
        words: of each record, its fields by their kinds.
        rows: what is to be done about records, by their words; None: they must be walked.
        changed: by field that does not leave as it stands, what leaves in its place, if anything does.
        texts: by text of a head, with tag and length: what leaves in its place, and what was done.
    """

    def __init__(self, form: Form, judge: Judge, records: Cut) -> None:
        self._form = form
        self._judge = judge
        self._kinds = form.kinds
        self.changed: dict[bytes, bytes] = {}
        self.texts: dict[bytes, tuple[bytes, Action]] = {}
        self._unknown: set[bytes] = set()
        for number, gate in enumerate(form.texts, 1):
            for text in {*map(itemgetter(number), records.heads)}:
                if text is not None:
                    self._take_text(gate, text)
        self._letters = dict.fromkeys(chain.from_iterable(records.fields), UNSETTLED)
        self._judge_all([*filter(None, self._letters)])
        letters = "".join(map(self._letters.__getitem__, chain.from_iterable(records.fields)))
        stops = [*accumulate(map(len, records.fields))]
        self.words = [*map(letters.__getitem__, map(slice, (0, *stops), stops))]
        if self._unknown:
            self.words = [
                word if self._unknown.isdisjoint(head.groups()) else UNSETTLED
                for head, word in zip(records.heads, self.words, strict=True)
            ]
        self.rows: dict[str, Row | None] = {word: self._kinds.row(word) for word in {*self.words}}

    def _take_text(self, gate: TextGate | None, text: bytes) -> None:
        """A text or an id with tag and length; these are of one byte each."""
        content = text[2:]
        if gate is None:
            if not self._judge.judge_id(content):
                self._unknown.add(text)
            return
        if gate.memo.recall(content) is not None:
            return
        found = self._judge.judge_value(gate, content)
        if found is None:
            self._unknown.add(text)
        else:
            to, done = found[1]
            if done is not None:
                self.texts[text] = (_field(text[:1], to), done)

    def _judge_all(self, fields: list[bytes]) -> None:
        if self._judge.asks_for_names:  # each time, whatever was allowed before
            named = {field for field in fields if TENANT_KEY in field or VICTIM_KEY in field}
            fields = [field for field in fields if field not in named]
            self._sort(named, {}, alone=True)
        self._sort(fields, self._form.memo.recent)

    def _sort(self, fields: Iterable[bytes], known: Mapping[bytes, int], *, alone: bool = False) -> None:
        """Judge fields, together under each key unless each is to be judged alone."""
        attributes, bit_of = self._form.attributes, known.get
        stay: defaultdict[int, list[bytes]] = defaultdict(list)
        # How entries begin: with the key, by and large. The value behind it starts two bytes further on, or three.
        short: defaultdict[bytes, list[bytes]] = defaultdict(list)
        long: defaultdict[bytes, list[bytes]] = defaultdict(list)
        entries: list[bytes] = []
        others: defaultdict[int, list[bytes]] = defaultdict(list)
        for field in fields:
            bit = bit_of(field)
            if bit is not None:
                stay[bit].append(field)
            elif field[0] != attributes:
                others[field[0]].append(field)
            elif alone or len(field) < 5:
                entries.append(field)
            elif field[1] < _SHORT:
                short[field[2 : field[3] + 4]].append(field)
            else:
                long[field[3 : field[4] + 5]].append(field)
        for bit, some in stay.items():
            self._stay(some, bit)
        for groups, behind in ((short, 2), (long, 3)):
            for start, group in groups.items():
                entries += self._sift(start, behind + len(start), group)
        for field in entries:
            self._take_entry(field)
        for first, group in others.items():
            self._take_others(first, group)

    def _take_others(self, first: int, fields: list[bytes]) -> None:
        """The same of fields that are no attributes, and begin with one byte."""
        form = self._form
        if first in form.parts:
            self._take_parts(form.parts[first], form.bits.get(first, 0), fields)
        elif first in form.behind:
            for field in fields:
                self._take_behind(form.behind[first], form.bits[first], field)
        elif first in form.dropped:
            self._change(fields, 0, b"", ("drop", form.dropped[first]))
        elif first < _SHORT:
            self._stay(fields, form.bits[first])
        else:
            for field in fields:
                self._stay([field], form.bits[first & 0x7F | field[1] << 7])

    def _sift(self, start: bytes, at: int, fields: list[bytes]) -> list[bytes]:
        """Judge attributes under one key; those that are to be judged alone."""
        lots, alone = self._form.attribute_gate.sift(start, at, fields)
        for lot in lots:
            if lot.done is not None:
                self._change(lot.fields, lot.bit, _field(lot.fields[0][:1], lot.to), lot.done)
                continue
            self._stay(lot.fields, lot.bit)
            if lot.again:
                self._form.memo.remember_all(dict.fromkeys(lot.fields, lot.bit))
        return alone

    def _take_entry(self, field: bytes) -> None:
        gate, content = self._form.attribute_gate, _content(field)
        found = self._judge.judge_value(gate, content)
        if found is None:
            return
        bit, (to, done) = found
        if done is not None:
            # One that does not leave is the first or the second of its key, too.
            self._change([field], bit or gate.bit_of(content), _field(field[:1], to), done)
            return
        self._stay([field], bit)
        if gate.memo.recall(content) is not None and len(field) <= MAX_ENTRY:
            self._form.memo.remember(field, bit)

    def _take_behind(self, gate: TextGate, bit: int, field: bytes) -> None:
        """A text that does not stand in the head."""
        content = _content(field)
        found = (0, (None, None)) if gate.memo.recall(content) is not None else self._judge.judge_value(gate, content)
        if found is None:
            return
        to, done = found[1]
        if done is None:
            self._stay([field], bit)
        else:
            self._change([field], bit, _field(field[:1], to), done)

    def _take_parts(self, part: Part, bit: int, fields: list[bytes]) -> None:
        if part.expression:
            is_plain = part.plain.fullmatch
            plain = [field for field in fields if is_plain(field, 2 if field[1] < _SHORT else 3)]
            self._stay(plain, bit, part=True)
            if len(plain) == len(fields):
                return
            fields = [*{*fields}.difference(plain)]
        # Each has its own time, on which nothing depends.
        skipped = len(part.time) + TIME_BYTES if part.time else 0
        groups: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for field in fields:
            start = 2 if field[1] < _SHORT else 3
            timed = field.startswith(part.time, start) and len(field) > start + skipped
            groups[field[start + skipped :] if timed else b""].append(field)
        for said, group in groups.items():
            if not said or (self._judge.asks_for_names and _names(said)):
                for field in group:
                    self._take_part(part, bit, field)
            elif part.memo.recall(said) is not None:
                self._stay(group, bit, part=True)
            elif self._take_part(part, bit, group[0]):
                part.memo.remember(said)
                self._stay(group, bit, part=True)
            else:
                for field in group[1:]:
                    self._take_part(part, bit, field)

    def _take_part(self, part: Part, bit: int, field: bytes) -> bool:
        """Judge a message; whether it leaves as it stands."""
        found = self._judge.judge_part(part, _content(field))
        if found is None:
            return False
        to, actions = found
        if not actions:
            self._stay([field], bit, part=True)
            return True
        kind = Kind(bit, tuple(sorted(actions.items())), leaves=to is not None, part=True)
        self._letters[field] = self._kinds.letter(kind)
        self.changed[field] = _field(field[:1], to)
        return False

    def _stay(self, fields: Iterable[bytes], bit: int, *, part: bool = False) -> None:
        letters, letter = self._letters, self._kinds.letter(Kind(bit, part=part))
        for field in fields:
            letters[field] = letter

    def _change(self, fields: list[bytes], bit: int, to: bytes, done: Action) -> None:
        letters, letter = self._letters, self._kinds.letter(Kind(bit, ((done, 1),), leaves=bool(to)))
        for field in fields:
            letters[field] = letter
        if to:
            self.changed.update(dict.fromkeys(fields, to))


def _field(tag: bytes, content: bytes | None) -> bytes:
    """A field with this content; nothing without."""
    return b"" if content is None else tag + varint(len(content)) + content


def _content(field: bytes) -> bytes:
    """Of a field with a tag of one byte and a length of one or two."""
    return field[2:] if field[1] < _SHORT else field[3:]


def _names(entry: bytes) -> bool:
    return TENANT_KEY in entry or VICTIM_KEY in entry
