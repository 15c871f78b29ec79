"""Where an attribute or a text passes: its rule, and a memo of what the rule allowed before.

A gate is asked `judge(entry, keys)`: the bytes in question, and the bits of the keys that stand in the list
already. It answers with the bit of the entry's own key and what to write in its place, None for nothing, or
raises. Keys without a rule, which are the bulk of what a careless sender sends, are answered with `UNLISTED`: an
exception each would cost more than all else that is done about them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from .memo import Memo
from .pseudonyms import Pseudonyms
from .rewrites import POLICY, Action, Rewrite
from .rules import LONGEST, NO_LEAD, VALUE, AttributeRule, StringValue, as_value, mask_for, string_in, tagged
from .steps import Action as Done
from .texts import DOUBT, Masked, Refused, Text
from .wire_format import Broken, delimited, read_length

# Tags of KeyValue.
_KEY: Final = 0x0A
_KEY_TAG: Final = bytes((_KEY,))

_SHORT: Final = 0x80


def _lead(size: int) -> bytes:
    """How a value of an entry begins that has so many bytes with its own tag and length."""
    if 2 <= size < _SHORT + 2:
        return bytes((VALUE, size - 2))
    return bytes((VALUE, size - 3 & 0x7F | 0x80, size - 3 >> 7)) if size >= _SHORT + 3 else NO_LEAD


_LEADS: Final = tuple(map(_lead, range(LONGEST)))
# Those of texts: what a rewrite does to all alike, it does not do to what cannot be read.
_STRING_LEADS: Final = StringValue.leads

#: The key whose value says whose a record is.
TENANT_KEY: Final = b"tenant.id"
#: The key of a record that names a second tenant, who waited for the first. Its value is judged as that tenant's own
#: id, by the rules for that tenant: a policy that hides an id hides it here too.
VICTIM_KEY: Final = b"tenantscope.victim"
#: In the place of a judgement: the key has no rule.
UNLISTED: Final = "unlisted"
_UNLISTED: Final = ("drop", UNLISTED)
_DENIED: Final = ("drop", POLICY)


class Fate(NamedTuple):
    """What becomes of attributes under one key.

    Attributes:
        bit: of the key; 0 without a rule.
        to: what leaves in the place of the content; None for nothing.
        done: what was done. Nothing: they leave as they stand.
    """

    bit: int
    to: bytes | None = None
    done: Done | None = None


class AttributeGate:
    """An allow-list of attributes. Other keys don't pass, nor does the second of two with one key."""

    __slots__ = ("_masks", "_names", "_rules", "_siftable", "memo", "of_tenant", "width")

    def __init__(self, rules: Mapping[str, AttributeRule | Rewrite], names: Pseudonyms | None = None) -> None:
        self._names = names
        self._rules = {key.encode(): (1 << index, rule) for index, (key, rule) in enumerate(rules.items())}
        # Those that judge many values at once, by key as entries begin with it.
        self._siftable: dict[bytes, tuple[int, AttributeRule | Rewrite | None]] = {
            delimited(1, key): (bit, None if key == VICTIM_KEY or _tells_apart(rule) else rule)
            for key, (bit, rule) in self._rules.items()
        }
        #: Bits that keys have, from the lowest on.
        self.width = len(rules)
        # What is written for a mask under a key: as many as there are keys and reasons.
        self._masks: dict[tuple[bytes, bytes], Masked] = {}
        self.memo = Memo()
        #: The gate for the records of a tenant.
        self.of_tenant: Callable[[bytes], AttributeGate] = lambda _tenant: self

    def leads(self, start: bytes) -> tuple[bytes, ...] | None:
        """How values under a key begin that `sift` can be asked about, by their size; None where each is to be judged
        alone.

        Args:
            start: what entries begin with: if it is as it should be, the key with its tag and length.
        """
        bit, rule = self._siftable.get(start, (0, None))
        if (bit and rule is None) or start[:1] != _KEY_TAG or start[1] != len(start) - 2 or start[1] >= _SHORT:
            return None
        return _LEADS if rule is None else _STRING_LEADS if isinstance(rule, Rewrite) else rule.leads

    def lists(self, start: bytes) -> bool:
        """Whether there is a rule for the key with which entries begin."""
        return start in self._siftable

    def reads(self, start: bytes) -> bool:
        """Whether it depends on a value under a key that is led as it should be what becomes of it."""
        rule = self._siftable.get(start, (0, None))[1]
        return rule is not None and not isinstance(rule, Rewrite)

    def sift(self, start: bytes, at: int, fields: Sequence[bytes]) -> list[str | None]:
        """Judge many entries under one key, as far as that is cheap; those that name a tenant must not be among them
        if it matters who sent them.

        Args:
            start: what each entry begins with: the key with its tag and length.
            at: where the values start in the fields, each of which begins as `leads` says.
            fields: entries, each behind a tag of one byte and its length.

        Returns:
            Of each, None or a word, which `fate` explains; `DOUBT` for those that are to be judged one by one.
        """
        rule = self._siftable.get(start, (0, None))[1]
        if rule is None:
            return [UNLISTED] * len(fields)
        if isinstance(rule, Rewrite):
            return [POLICY] * len(fields)
        told = rule.sift([*map(itemgetter(slice(at + rule.lead, None)), fields)])
        if rule.told_apart and self._names is not None:  # each has a mask of its own
            return [None if word is None else DOUBT for word in told]
        return told

    def fate(self, start: bytes, word: str | None) -> Fate:
        """What becomes of attributes under a key of which `sift` says so."""
        bit, rule = self._siftable.get(start, (0, None))
        if word is None:
            return Fate(bit)
        if rule is None:
            return Fate(0, None, _UNLISTED)
        if isinstance(rule, Rewrite) and rule.action is Action.DROP:
            return Fate(bit, None, _DENIED)
        written = self._mask(start[2:], mask_for(word))
        return Fate(bit, written.content, (written.action, written.reason))

    def repeats(self, start: bytes) -> bool:
        """Whether values under a key come again, so that it pays to remember those that leave as they stand."""
        rule = self._siftable.get(start, (0, None))[1]
        return rule is not None and not isinstance(rule, Rewrite) and rule.repeats

    def _mask(self, key: bytes, masked: Masked) -> Masked:
        """A mask as it is written under a key."""
        written = self._masks.get((key, masked.content))
        if written is None:
            written = self._masks[key, masked.content] = _written(key, masked)
        return written

    def bit_of(self, entry: bytes) -> int:
        """The bit of an entry's key; 0 when it has no rule, or cannot be read."""
        try:
            return self._rules.get(read_entry(entry)[0], (0, None))[0]
        except (Broken, Refused):
            return 0

    def shortens(self, key: bytes) -> bool:
        """Whether what leaves under a key may be the beginning of a value."""
        rule = self._rules.get(key, (0, None))[1]
        return isinstance(rule, Rewrite) and rule.action is Action.TRUNCATE

    def tells_apart(self, key: bytes) -> bool:
        """Whether what is written for the values under a key is another text for each of them."""
        rule = self._rules.get(key, (0, None))[1]
        if rule is None or self._names is None:
            return False
        if isinstance(rule, Rewrite):
            return rule.action in (Action.HASH, Action.PSEUDONYMISE)
        return rule.told_apart

    def judge(self, entry: bytes, keys: int, tenant: bytes = b"") -> tuple[int, Masked | str | None]:
        """`entry` is the content of a `KeyValue`. Raises `Refused` or `Broken`."""
        key, value = read_entry(entry)
        listed = self._rules.get(key)
        if listed is None:
            return 0, UNLISTED
        bit, rule = listed
        if bit & keys:
            raise Refused("duplicate")
        if key == VICTIM_KEY:
            return self._another(bit, value)
        if isinstance(rule, Rewrite):
            return bit, self._rewritten(rule, key, value, tenant)
        if rule.repeats and self.memo.recall(entry) is not None:
            return bit, None
        masked = rule.judge(value)
        if masked is not None and rule.told_apart and self._names is not None:
            # Not kept: there may be as many as there are values.
            return bit, _written(key, tagged(masked, self._names.tag(string_in(value))))
        if masked is not None:
            return bit, self._mask(key, masked)
        if rule.repeats:
            self.memo.remember(entry, bit)
        return bit, None

    def _another(self, bit: int, value: bytes) -> tuple[int, Masked | str | None]:
        """A second tenant's id. Never remembered: another gate may have decided."""
        another = string_in(value)
        own = delimited(1, TENANT_KEY) + delimited(2, value)
        _, masked = self.of_tenant(another).judge(own, 0, another)
        if isinstance(masked, Masked):
            masked = Masked(
                masked.reason, delimited(1, VICTIM_KEY) + delimited(2, read_entry(masked.content)[1]), masked.action
            )
        return (0 if isinstance(masked, str) else bit), masked

    def _rewritten(self, rule: Rewrite, key: bytes, value: bytes, tenant: bytes) -> Masked | None:
        try:
            text = string_in(value)
        except Refused:
            text = None
        # A tenant's id is that tenant's, whoever else the record is said to be of.
        masked = rule.rewrite(text, text if key == TENANT_KEY and text is not None else tenant, self._names)
        return None if masked is None else _written(key, as_value(masked))


def _tells_apart(rule: AttributeRule | Rewrite) -> bool:
    """Whether it depends on the value what a rule writes in its place."""
    return isinstance(rule, Rewrite) and rule.action not in (Action.DROP, Action.MASK)


class TextGate:
    """The rule of one text field. Texts have no keys."""

    __slots__ = ("_names", "_rule", "memo")

    def __init__(self, rule: Text | Rewrite, names: Pseudonyms | None = None) -> None:
        self._names = names
        self._rule = rule
        self.memo = Memo()

    def judge(self, entry: bytes, keys: int, tenant: bytes = b"") -> tuple[int, Masked | None]:  # noqa: ARG002  # one protocol for both
        """`entry` is the content of the field. Raises `Refused`."""
        if isinstance(self._rule, Rewrite):
            return 0, self._rule.rewrite(entry, tenant, self._names)
        if self.memo.recall(entry) is not None:
            return 0, None
        masked = self._rule.judge(entry)
        if masked is None:
            self.memo.remember(entry, 0)
        return 0, masked


def _written(key: bytes, masked: Masked) -> Masked:
    """A masked value with its key, as the content of a `KeyValue`."""
    return Masked(masked.reason, delimited(1, key) + delimited(2, masked.content), masked.action)


def read_entry(entry: bytes) -> tuple[bytes, bytes]:
    """Key and value of a `KeyValue` that says one of each and nothing else; parsers let the last of two win.

    Raises:
        Refused: `duplicate` or `unknown` fields, or a `type` that is missing: there is no value.
        Broken: it cannot be read.
    """
    end = len(entry)
    # As everybody writes it: the key, then the value, both short.
    if end > 2 and entry[0] == _KEY and entry[1] < 0x80 and (cut := entry[1] + 2) + 1 < end:
        size = end - cut - 2
        if entry[cut] == VALUE and size < 0x80 and entry[cut + 1] == size:
            return entry[2:cut], entry[cut + 2 :]
    key = value = None
    pos = 0
    while pos < end:
        tag = entry[pos]
        if tag not in (_KEY, VALUE):
            raise Refused("unknown")
        start, pos = read_length(entry, pos + 1, end)
        if (key if tag == _KEY else value) is not None:
            raise Refused("duplicate")
        if tag == _KEY:
            key = entry[start:pos]
        else:
            value = entry[start:pos]
    if value is None:
        raise Refused("type")
    return key or b"", value
