"""Records by the hundred: what most of them have in common is found and judged once for all.

Three steps: cut all records into their fields (`forms.py`); judge the fields, those at one place in records that are
alike together, for they are of one key mostly; then `rows.py` puts the records together again. A record that is not in
the form, or in which anything is out of the ordinary (two attributes with one key, a tenant that the sender may not
name), is walked field by field, as if this were not here: this is only ever about speed.

What it refuses: to hold more than some hundreds of records at a time, and to keep anything of them afterwards but what
left as it stood, within the bounds of a memo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import chain, compress, islice, repeat
from typing import Final, NamedTuple

from .columns import Columns, Judge, as_field
from .cutting import Cut
from .forms import Form
from .gates import TextGate
from .kinds import MAX_FIELDS, UNSETTLED, Row
from .letters import across
from .steps import Action

_FEW: Final = 256


class Counts(NamedTuple):
    """Of records that need not be walked: how many they are, their parts, and what was done to their fields."""

    records: int
    parts: int
    actions: Mapping[Action, int]


class Verdicts:
    """What becomes of the fields of some records.

    Args:
        alike: records with equally many fields for which it pays to be judged by the column.

    Attributes:
        words: of each record, its fields by their kinds.
        rows: what is to be done about records, by their words; None: they must be walked.
        changed: by field that does not leave as it stands, what leaves in its place, if anything does.
        texts: by text of a head, with tag and length: what leaves in its place, and what was done.
    """

    def __init__(self, form: Form, judge: Judge, records: Cut, alike: int) -> None:
        self._judge = judge
        self._columns = Columns(form, judge)
        self.changed = self._columns.changed
        self.texts: dict[bytes, tuple[bytes, Action]] = {}
        self._unknown: set[bytes] = set()
        texts = [head.groups() for head in records.heads]
        for gate, some in zip(form.texts, zip(*texts, strict=True), strict=True):
            for text in dict.fromkeys(some):
                if text is not None:
                    self._take_text(gate, text)
        self.words = self._words(records.fields, alike)
        if self._unknown:
            self.words = [
                word if self._unknown.isdisjoint(some) else UNSETTLED
                for some, word in zip(texts, self.words, strict=True)
            ]
        self.rows: dict[str, Row | None] = {word: self._columns.alphabet.row(word) for word in {*self.words}}

    def counts(self) -> Counts:
        """What there is to count of the records that need not be walked."""
        words = self.words
        if None in self.rows.values():
            words = [word for word in words if self.rows[word] is not None]
        letters, parts, actions = "".join(words), 0, Counter[Action]()
        used = self._columns.used
        # The first is cheaper for a few, the second for any number.
        times_of = letters.count if len(used) < _FEW else Counter(letters).__getitem__
        for letter, kind in used.items():
            times = times_of(letter) if kind.part or kind.actions else 0
            if times:
                parts += times * kind.part
                for done, often in kind.actions:
                    actions[done] += times * often
        return Counts(len(words), parts, actions)

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
                self.texts[text] = (as_field(text[:1], to), done)

    def _words(self, records: list[list[bytes]], alike: int) -> list[str]:
        words = [UNSETTLED] * len(records)
        sizes = [*map(len, records)]
        few: list[int] = []
        for size, times in Counter(sizes).items():
            if size > MAX_FIELDS:
                continue
            numbers = [*compress(range(len(sizes)), map(size.__eq__, sizes))]
            if times < alike:
                few += numbers
                continue
            columns = map(self._columns.column, zip(*map(records.__getitem__, numbers), strict=True))
            for number, word in zip(numbers, across(columns), strict=False):
                words[number] = word
        if few:
            letters = self._columns.mixed([*chain.from_iterable(map(records.__getitem__, few))])
            each = repeat(letters) if isinstance(letters, str) else iter(letters)
            for number in few:
                words[number] = "".join(islice(each, len(records[number])))
        return words
