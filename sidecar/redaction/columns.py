"""What becomes of many fields at once: of a column, which is what stands at one place in records that are alike.

It is of one key mostly, and of one kind: beginnings are compared, values are taken out and judged by their rule all
together (`gates.py`), and what takes more than that is judged alone, by the definition. What is in a column besides is
sorted by its key first.

What it refuses: to keep anything of fields afterwards but what left as it stood, within the bounds of a memo; and to
remember what does not come again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress, repeat
from operator import eq, itemgetter, not_
from typing import Final, Protocol

from .forms import LEAST_ENTRY, TIME_BYTES, Form, Part
from .gates import TENANT_KEY, UNLISTED, VICTIM_KEY, AttributeGate, TextGate
from .kinds import UNSETTLED, Kind
from .letters import Letters, by_field, merged, of_groups
from .memo import MAX_ENTRY
from .steps import Action
from .texts import DOUBT
from .wire_format import varint

_SHORT: Final = 0x80
# Of attributes that are new, so many are remembered to see whether they come again; and so many more for each that did,
# of those that are looked at together. To remember what is never asked for costs more than to judge it.
_TRIED: Final = 16
_MORE: Final = 4
# Keys that the fields of a column are tried for before they are sorted.
_KEYS: Final = 3
# What leaves in the place of a field's content, None for nothing; and what was done. No action: it leaves as it stands.
Judged = tuple[bytes | None, Action | None]
_first = itemgetter(0)


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


class Columns:
    """Judges fields of records of one form.

    Attributes:
        changed: by field that does not leave as it stands, what leaves in its place, if anything does.
        alphabet: what the letters stand for.
        used: those letters that were used for what there is to be counted.
    """

    def __init__(self, form: Form, judge: Judge) -> None:
        self._form = form
        self._judge = judge
        self.alphabet = form.kinds
        self._alone: dict[bytes, str] = {}  # the letters of fields that were judged alone
        self._worth = _TRIED  # how many of the values that are judged now may be worth remembering
        self.changed: dict[bytes, bytes] = {}
        self.used: dict[str, Kind] = {}

    def column(self, fields: Sequence[bytes]) -> Letters:
        """What becomes of fields that stand at one place in records that are alike."""
        some = {*fields[:_TRIED]}
        come_again = len(some) < min(len(fields), _TRIED) or not self._form.memo.recent.keys().isdisjoint(some)
        if come_again or self._judge.asks_for_names:
            return self._repeated(fields, _KEYS)
        self._worth = _TRIED
        return self._new(fields, _KEYS)

    def mixed(self, fields: Sequence[bytes]) -> Letters:
        """What becomes of fields that have nothing in common."""
        return self._repeated(fields, 0)

    def _repeated(self, fields: Sequence[bytes], keys: int) -> Letters:
        """The same of fields some of which came before, or come again."""
        known = self._form.memo.recent.get
        letters: dict[bytes, str] = {}
        if len(fields) > 1 and _are_one(fields):
            letter = self._repeated(fields[:1], keys)
            return letter if isinstance(letter, str) else letter[0]
        if self._judge.asks_for_names:  # each time, whatever was allowed before
            named = [field for field in dict.fromkeys(fields) if _names(field)]
            letters.update(by_field(named, self._sorted(named, alone=True)))
        elif None not in (numbers := {*map(known, fields)}):
            of_number = {number: self._stays(number or 0) for number in numbers}
            return of_number.popitem()[1] if len(numbers) == 1 else [*map(of_number.__getitem__, map(known, fields))]
        # In their order: whose turn it is decides what is still looked at.
        rest = [field for field in dict.fromkeys(fields) if field not in letters]
        bits = [*map(known, rest)]
        new = [field for field, bit in zip(rest, bits, strict=True) if bit is None]
        self._worth = _TRIED + _MORE * (len(rest) - len(new))
        letters.update((field, self._stays(bit)) for field, bit in zip(rest, bits, strict=True) if bit is not None)
        if new:
            letters.update(by_field(new, self._new(new, keys)))
        found = {*letters.values()}
        return found.pop() if len(found) == 1 else [*map(letters.__getitem__, fields)]

    def _new(self, fields: Sequence[bytes], keys: int) -> Letters:
        """The same of fields that were not met before; as long as there are keys to try, these may be of one key."""
        beginnings = self._form.beginnings(fields) if keys else None
        if beginnings is None:
            return self._sorted(fields)
        begin = [*map(bytes.startswith, fields, map(beginnings.__getitem__, map(len, fields)))]
        start = beginnings.start
        if all(begin):
            return self._sifted(start, beginnings.at, fields)
        of_key = self._sifted(start, beginnings.at, [*compress(fields, begin)])
        return merged(begin, of_key, self._new([*compress(fields, map(not_, begin))], keys - 1))

    def _sorted(self, fields: Sequence[bytes], *, alone: bool = False) -> Letters:
        """The same of fields of any kind; each is to be judged alone, or those under one key together."""
        if len({*map(_first, fields)}) > 1:
            by_first: defaultdict[int, list[bytes]] = defaultdict(list)
            for field in fields:
                by_first[field[0]].append(field)
            return of_groups(fields, ((some, self._sorted(some, alone=alone)) for some in by_first.values()))
        if not fields:
            return []
        if fields[0][0] != self._form.attributes:
            return self._others(fields[0][0], fields)
        if alone:
            return [*map(self._entry, fields)]
        if min(map(len, fields)) < LEAST_ENTRY:
            enough = [len(field) >= LEAST_ENTRY for field in fields]
            others = [*map(self._entry, compress(fields, map(not_, enough)))]
            return merged(enough, self._sorted([*compress(fields, enough)]), others)
        starts = _starts(fields)
        if starts.count(starts[0]) == len(starts):
            return self._of_one_key(starts[0], fields)
        gate = self._form.attribute_gate
        # There may be as many keys without a rule as there are fields, and one thing becomes of them all.
        unlisted = _led(
            fields, starts, {start: None if gate.lists(start) else gate.leads(start) for start in {*starts}}
        )
        by_key: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for start, field in compress(zip(starts, fields, strict=True), map(not_, unlisted)):
            by_key[start].append(field)
        rest = [*compress(fields, map(not_, unlisted))]
        of_rest = of_groups(rest, ((some, self._of_one_key(start, some)) for start, some in by_key.items()))
        if len(rest) == len(fields):
            return of_rest
        told = self._told(next(compress(starts, unlisted)), UNLISTED, compress(fields, unlisted))
        return merged(unlisted, told, of_rest) if rest else told

    def _of_one_key(self, start: bytes, fields: Sequence[bytes]) -> Letters:
        """The same of attributes that begin with the same, as a key does."""
        leads = self._form.attribute_gate.leads(start)
        if leads is None:
            return [*map(self._entry, fields)]
        # The value behind it starts two bytes further on, or three.
        short, long = 2 + len(start), 3 + len(start)
        # As `_led`, at half of its price: nearly all that is dropped comes this way.
        led = [
            field.startswith(leads[len(field) - short], short)
            if field[1] < _SHORT
            else field.startswith(leads[len(field) - long], long)
            for field in fields
        ]
        if not all(led):
            others = [*map(self._entry, compress(fields, map(not_, led)))]
            return merged(led, self._of_one_key(start, [*compress(fields, led)]), others)
        if not self._form.attribute_gate.reads(start):
            return self._sifted(start, short, fields)
        is_short = [field[1] < _SHORT for field in fields]
        if all(is_short):
            return self._sifted(start, short, fields)
        of_long = self._sifted(start, long, [*compress(fields, map(not_, is_short))])
        return merged(is_short, self._sifted(start, short, [*compress(fields, is_short)]), of_long)

    def _sifted(self, start: bytes, at: int, fields: Sequence[bytes]) -> Letters:
        """The same of attributes under one key, whose values begin as they should."""
        told = self._form.attribute_gate.sift(start, at, fields)
        if not told:
            return []
        if told[0] != DOUBT and told.count(told[0]) == len(told):
            return self._told(start, told[0], fields)
        of_word = {
            word: self._told(start, word, compress(fields, map(eq, told, repeat(word))))
            for word in {*told}
            if word != DOUBT
        }
        if DOUBT not in told:
            return [*map(of_word.__getitem__, told)]
        return [
            self._entry(field) if word == DOUBT else of_word[word] for word, field in zip(told, fields, strict=True)
        ]

    def _told(self, start: bytes, word: str | None, fields: Iterable[bytes]) -> str:
        """The letter of attributes under one key of which one thing was said."""
        gate = self._form.attribute_gate
        bit, to, done = gate.fate(start, word)
        if done is not None:
            return self._changed(fields, bit, as_field(bytes((self._form.attributes,)), to), done)
        if gate.repeats(start):
            self._form.memo.remember_some(fields, bit, self._worth)
        return self._stays(bit)

    def _entry(self, field: bytes) -> str:
        letter = self._alone.get(field)
        if letter is None:
            letter = self._alone[field] = self._judged(field)
        return letter

    def _judged(self, field: bytes) -> str:
        """An attribute, by itself."""
        gate, content = self._form.attribute_gate, _content(field)
        found = self._judge.judge_value(gate, content)
        if found is None:
            return UNSETTLED
        bit, (to, done) = found
        if done is not None:
            # One that does not leave is the first or the second of its key, too.
            return self._changed([field], bit or gate.bit_of(content), as_field(field[:1], to), done)
        if gate.memo.recall(content) is not None and len(field) <= MAX_ENTRY:
            self._form.memo.remember(field, bit)
        return self._stays(bit)

    def _others(self, first: int, fields: Sequence[bytes]) -> Letters:
        """The same of fields that are no attributes, and begin with one byte."""
        form = self._form
        if first in form.parts:
            return self._parts(form.parts[first], form.bits.get(first, 0), fields)
        if first in form.behind:
            letters = {
                field: self._behind(form.behind[first], form.bits[first], field) for field in dict.fromkeys(fields)
            }
            return [*map(letters.__getitem__, fields)]
        if first in form.dropped:
            return self._changed(fields, 0, b"", ("drop", form.dropped[first]))
        if first < _SHORT:
            return self._stays(form.bits[first])
        return [self._stays(form.bits[first & 0x7F | field[1] << 7]) for field in fields]

    def _behind(self, gate: TextGate, bit: int, field: bytes) -> str:
        """A text that does not stand in the head."""
        content = _content(field)
        found = (0, (None, None)) if gate.memo.recall(content) is not None else self._judge.judge_value(gate, content)
        if found is None:
            return UNSETTLED
        to, done = found[1]
        return self._stays(bit) if done is None else self._changed([field], bit, as_field(field[:1], to), done)

    def _parts(self, part: Part, bit: int, fields: Sequence[bytes]) -> Letters:
        stays = self._stays(bit, part=True)
        if part.expression:
            is_plain = part.plain.fullmatch
            plain = [is_plain(field, 2 if field[1] < _SHORT else 3) is not None for field in fields]
            if all(plain):
                return stays
            return merged(plain, stays, [self._part(part, bit, field) for field in compress(fields, map(not_, plain))])
        said = _said(part.time, fields)
        if _are_one(said) and self._may_know(said[0]) and part.memo.recall(said[0]):
            return stays
        passing = {what: stays for what in dict.fromkeys(said) if self._may_know(what) and part.memo.recall(what)}
        letters: list[str] = []
        for what, field in zip(said, fields, strict=True):
            letter = passing.get(what)
            if letter is None:
                letter = self._part(part, bit, field)
                if letter == stays and self._may_know(what):
                    part.memo.remember(what)
                    passing[what] = stays
            letters.append(letter)
        return stays if letters.count(stays) == len(letters) else letters

    def _may_know(self, said: bytes) -> bool:
        """Whether messages that say this may be known by it; it is nothing where they have no time."""
        return bool(said) and not (self._judge.asks_for_names and _names(said))

    def _part(self, part: Part, bit: int, field: bytes) -> str:
        letter = self._alone.get(field)
        if letter is None:
            letter = self._alone[field] = self._judged_part(part, bit, field)
        return letter

    def _judged_part(self, part: Part, bit: int, field: bytes) -> str:
        """A message, by itself."""
        found = self._judge.judge_part(part, _content(field))
        if found is None:
            return UNSETTLED
        to, actions = found
        if not actions:
            return self._stays(bit, part=True)
        self.changed[field] = as_field(field[:1], to)
        return self._letter(Kind(bit, tuple(sorted(actions.items())), leaves=to is not None, part=True))

    def _stays(self, bit: int, *, part: bool = False) -> str:
        return self._letter(Kind(bit, part=True)) if part else self.alphabet.stays(bit)

    def _changed(self, fields: Iterable[bytes], bit: int, to: bytes, done: Action) -> str:
        if to:
            self.changed.update(dict.fromkeys(fields, to))
        return self._letter(Kind(bit, ((done, 1),), leaves=bool(to)))

    def _letter(self, kind: Kind) -> str:
        letter = self.alphabet.letter(kind)
        self.used[letter] = kind
        return letter


def _are_one(some: Sequence[bytes]) -> bool:
    """Whether these, one at least, are all the same."""
    return some[0] == some[-1] and some.count(some[0]) == len(some)


def _starts(fields: Sequence[bytes]) -> list[bytes]:
    """How entries begin: with the key, by and large."""
    sizes = [*map(len, fields)]
    if max(sizes) < _SHORT + 2 or min(sizes) > _SHORT + 2:  # all have lengths of one byte, or all of two
        at = 2 if fields[0][1] < _SHORT else 3
        starts = [*map(itemgetter(slice(at, at + 2 + fields[0][at + 1])), fields)]
        if starts.count(starts[0]) == len(starts):  # of one key
            return starts
    return [field[2 : field[3] + 4] if field[1] < _SHORT else field[3 : field[4] + 5] for field in fields]


def _led(
    fields: Sequence[bytes], starts: Sequence[bytes], leads_of: Mapping[bytes, tuple[bytes, ...] | None]
) -> list[bool]:
    """Whether values begin as they should, of attributes that begin with a key each."""
    led: list[bool] = []
    for field, start in zip(fields, starts, strict=True):
        leads, at = leads_of[start], len(start) + (2 if field[1] < _SHORT else 3)
        led.append(leads is not None and field.startswith(leads[len(field) - at], at))
    return led


def _said(time: bytes, messages: Sequence[bytes]) -> list[bytes]:
    """What messages say behind their time, on which nothing depends; nothing, where there is none."""
    skipped = len(time) + TIME_BYTES if time else 0
    # As nearly all are: short, with a time.
    is_usual = 2 + skipped < min(map(len, messages)) and max(map(len, messages)) < _SHORT + 2
    if is_usual and {*map(itemgetter(slice(2, 2 + len(time))), messages)} == {time}:
        return [*map(itemgetter(slice(2 + skipped, None)), messages)]
    said: list[bytes] = []
    for message in messages:
        start = 2 if message[1] < _SHORT else 3
        timed = message.startswith(time, start) and len(message) > start + skipped
        said.append(message[start + skipped :] if timed else b"")
    return said


def as_field(tag: bytes, content: bytes | None) -> bytes:
    """A field with this content; nothing without."""
    return b"" if content is None else tag + varint(len(content)) + content


def _content(field: bytes) -> bytes:
    """Of a field with a tag of one byte and a length of one or two."""
    return field[2:] if field[1] < _SHORT else field[3:]


def _names(entry: bytes) -> bool:
    return TENANT_KEY in entry or VICTIM_KEY in entry
