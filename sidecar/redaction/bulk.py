"""Records by the hundred: what most of them have in common is found and judged once for all.

Three steps: cut all records into their fields (`forms.py`); judge each field once, whatever number of records it is in,
and names by the hundred; then the engine puts the records together again. A record that is not in the form, or in which
anything is out of the ordinary (two attributes with one key, a tenant that the sender may not name), is walked field by
field, as if this were not here: this is only ever about speed.

What it refuses: to hold more than some hundreds of records at a time, and to keep anything of them afterwards but what
left as it stood, within the bounds of a memo.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Protocol

from .forms import TIME_BYTES, Form, Part
from .gates import TENANT_KEY, VICTIM_KEY, AttributeGate, TextGate
from .wire_format import varint

#: Records that are looked at together.
TOGETHER: Final = 512
#: Fields of a record behind its head; with more, it is walked.
MAX_FIELDS: Final = 128
_SHORT: Final = 0x80
_SHORT_LENGTHS: Final = tuple(bytes((size,)) for size in range(_SHORT))

# What was done to a value, and why.
Action = tuple[str, str]
_UNLISTED: Final = ("drop", "unlisted")


class Cut(NamedTuple):
    """A record.

    Attributes:
        begin: where its tag is. start: where its content is. behind: where its head ends. stop: where it ends.
        head: the match of its head.
        fields: those behind the head, with tag and length each; None for a record that is to be walked.
    """

    begin: int
    start: int
    behind: int
    stop: int
    head: re.Match[bytes]
    fields: list[bytes] | None


# What leaves in the place of a field's content, None for nothing; and what was done. No action: it leaves as it stands.
Judged = tuple[bytes | None, Action | None]


class Judge(Protocol):
    """Judges what cannot be judged with others. None: it depends on the record, which must be walked."""

    @property
    def asks_for_names(self) -> bool:
        """Whether the sender may name some tenants only."""

    def judge_value(self, gate: AttributeGate | TextGate, content: bytes) -> tuple[int, Judged] | None:
        """An attribute or a text: the bit of its key if it leaves in any form, and what becomes of it."""

    def judge_part(self, part: Part, content: bytes) -> tuple[bytes | None, Mapping[Action, int]] | None:
        """A message inside a record: what becomes of it, and all that was done."""


def cut(form: Form, data: bytes, pos: int, end: int, tag: int) -> list[Cut]:
    """The records from `pos` on, as many as stand in a row, but not more than some hundred."""
    head_of, fields_of = form.head.match, form.fields.findall
    found: list[Cut] = []
    while pos + 2 < end and data[pos] == tag and len(found) < TOGETHER:
        size, start = data[pos + 1], pos + 2
        if size >= _SHORT:
            high = data[start]
            if not 0 < high < _SHORT:
                break
            size, start = size & 0x7F | high << 7, start + 1
        stop = start + size
        if stop > end:
            break
        head = head_of(data, start, stop)
        if head is None:  # cannot be, for all of it is optional
            break
        behind = head.end()
        fields: list[bytes] | None = fields_of(data, behind, stop)
        # The pieces are all there is, one behind the other, if together they are as long as it is.
        if fields is not None and (sum(map(len, fields)) != stop - behind or len(fields) > MAX_FIELDS):
            fields = None
        found.append(Cut(pos, start, behind, stop, head, fields))
        pos = stop
    return found


class Verdicts:
    """What becomes of the fields of some records.

    Attributes:
        bits: of each field: which of those that may stand once it is; 0 when it may stand again. A field that has none
            makes its record one to be walked.
        changed: by field, what leaves in its place.
        actions: by field that changes, what was done; None when it was more than one thing: `several`.
        parts: the fields that are messages.
        heads_stay: whether no text in any head changes.
    """

    def __init__(self, form: Form, judge: Judge, records: Collection[Cut]) -> None:
        self._form = form
        self._judge = judge
        self.bits: dict[bytes, int] = {}
        self.changed: dict[bytes, bytes] = {}
        self.actions: dict[bytes, Action | None] = {}
        self.several: dict[bytes, Mapping[Action, int]] = {}
        self.parts: set[bytes] = set()
        self._unknown: set[bytes] = set()
        fields: set[bytes] = set()
        heads: set[tuple[bytes | None, ...]] = set()
        for record in records:
            if record.fields is not None:
                fields.update(record.fields)
                heads.add(record.head.groups())
        for number, gate in enumerate(form.texts):
            for text in {head[number] for head in heads}:
                if text is not None:
                    self._take_text(gate, text)
        self.heads_stay = not self.changed and not self._unknown
        self._sort(fields)

    def knows(self, head: re.Match[bytes]) -> bool:
        """Whether it is said of every text in a head what becomes of it."""
        return not self._unknown or self._unknown.isdisjoint(head.groups())

    def _take_text(self, gate: TextGate, text: bytes) -> None:
        """A text with tag and length; these are of one byte each."""
        content = text[2:]
        if gate.memo.recall(content) is None:
            found = self._judge.judge_value(gate, content)
            if found is None:
                self._unknown.add(text)
            else:
                self._settle(text, 0, found[1])

    def _sort(self, fields: set[bytes]) -> None:
        form, attributes = self._form, self._form.attributes
        entries: list[bytes] = []
        for field in fields:
            tag = field[0]
            if tag == attributes:
                entries.append(field)
            elif tag in form.parts:
                self._take_part(field, form.parts[tag], form.bits.get(tag, 0))
            elif tag in form.dropped:
                self._change(field, 0, b"", ("drop", form.dropped[tag]))
            else:
                self.bits[field] = form.bits[tag if tag < _SHORT else tag & 0x7F | field[1] << 7]
        self._take_attributes(entries)

    def _take_attributes(self, fields: list[bytes]) -> None:
        gate = self._form.attribute_gate
        named: list[bytes] = []
        if self._judge.asks_for_names:  # each time, whatever was allowed before
            named = [field for field in fields if _names(field)]
            fields = [field for field in fields if not _names(field)]
        passing, unlisted, alone = gate.sift(fields)
        self.bits.update(passing)
        for field in unlisted:
            self._change(field, 0, b"", _UNLISTED)
        for field in (*alone, *named):
            found = self._judge.judge_value(gate, _content(field))
            if found is not None:
                bit, judged = found
                # One that does not leave is the first or the second of its key, too.
                self._settle(field, bit or gate.bit_of(_content(field)), judged)

    def _take_part(self, field: bytes, part: Part, bit: int) -> None:
        content = _content(field)
        said = content
        if part.time:
            # Each has its own time, on which nothing depends.
            timed = content.startswith(part.time) and len(content) > TIME_BYTES
            said = content[len(part.time) + TIME_BYTES :] if timed else b""
        known = bool(said) and not (self._judge.asks_for_names and _names(said))
        self.parts.add(field)
        if known and part.memo.recall(said) is not None:
            self.bits[field] = bit
            return
        found = self._judge.judge_part(part, content)
        if found is None:
            return
        to, actions = found
        if not actions:
            self.bits[field] = bit
            if known:
                part.memo.remember(said)
        elif sum(actions.values()) == 1:
            self._settle(field, bit, (to, next(iter(actions))))
        else:
            self._settle(field, bit, (to, None), several=True)
            self.several[field] = actions

    def _settle(self, field: bytes, bit: int, found: Judged, *, several: bool = False) -> None:
        to, action = found
        if action is None and not several:
            self.bits[field] = bit
        elif to is None:
            self._change(field, bit, b"", action)
        else:
            size = len(to)
            self._change(field, bit, field[:1] + (_SHORT_LENGTHS[size] if size < _SHORT else varint(size)) + to, action)

    def _change(self, field: bytes, bit: int, to: bytes, action: Action | None) -> None:
        self.bits[field], self.changed[field], self.actions[field] = bit, to, action


def _content(field: bytes) -> bytes:
    """Of a field with a tag of one byte and a length of one or two."""
    return field[2:] if field[1] < _SHORT else field[3:]


def _names(entry: bytes) -> bool:
    return TENANT_KEY in entry or VICTIM_KEY in entry
