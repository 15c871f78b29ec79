"""Where an attribute or a text passes: its rule, and a memo of what the rule allowed before.

A gate is asked `judge(entry, keys)`: the bytes in question, and the bits of the keys that stand in the list
already. It answers with the bit of the entry's own key and what to write in its place, None for nothing, or
raises. Keys without a rule, which are the bulk of what a careless sender sends, are answered with `UNLISTED`: an
exception each would cost more than all else that is done about them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from .memo import Memo
from .pseudonyms import Pseudonyms
from .rewrites import Action, Rewrite
from .rules import AttributeRule, DoubleValue, IntValue, Masked, Refused, StringValue, Text, as_value, string_in, tagged
from .wire_format import Broken, delimited, read_length

# Tags of KeyValue.
_KEY: Final = 0x0A
_VALUE: Final = 0x12

# How a value begins that has so many bytes with its own tag and length: any, and a string.
_SHORT: Final = 0x80
_VALUES: Final = (b"", b"", *(bytes((_VALUE, size - 2)) for size in range(2, _SHORT)))
_STRINGS: Final = (b"", b"", b"", b"", *(bytes((_VALUE, size - 2, 0x0A, size - 4)) for size in range(4, _SHORT)))

#: The key whose value says whose a record is.
TENANT_KEY: Final = b"tenant.id"
#: The key of a record that names a second tenant, who waited for the first. Its value is judged as that tenant's own
#: id, by the rules for that tenant: a policy that hides an id hides it here too.
VICTIM_KEY: Final = b"tenantscope.victim"
#: In the place of a judgement: the key has no rule.
UNLISTED: Final = "unlisted"


class AttributeGate:
    """An allow-list of attributes. Other keys don't pass, nor does the second of two with one key."""

    __slots__ = ("_masks", "_names", "_rules", "_starts", "_texts", "memo", "of_tenant", "width")

    def __init__(self, rules: Mapping[str, AttributeRule | Rewrite], names: Pseudonyms | None = None) -> None:
        self._names = names
        self._rules = {key.encode(): (1 << index, rule) for index, (key, rule) in enumerate(rules.items())}
        # The same by key with its tag and length, as entries begin.
        self._starts = {
            delimited(1, key): (
                bit,
                rule.text if isinstance(rule, StringValue) and key != VICTIM_KEY else None,
                rule if isinstance(rule, IntValue | DoubleValue) and key != VICTIM_KEY else None,
            )
            for key, (bit, rule) in self._rules.items()
        }
        self._texts = {bit: text for bit, text, _ in self._starts.values() if text is not None}
        #: Bits that keys have, from the lowest on.
        self.width = len(rules)
        # What is written for a mask under a key: as many as there are keys and reasons.
        self._masks: dict[tuple[bytes, bytes], Masked] = {}
        self.memo = Memo()
        #: The gate for the records of a tenant.
        self.of_tenant: Callable[[bytes], AttributeGate] = lambda _tenant: self

    def sift(self, fields: Iterable[bytes]) -> tuple[dict[bytes, int], list[bytes], list[bytes]]:
        """Judge many entries at once, as far as that is cheap; those that name a tenant must not be among them if it
        matters who sent them.

        Args:
            fields: entries, each behind a tag of one byte and its length.

        Returns:
            Those that leave as they stand, each with the bit of its key; those whose key has no rule; and those that
            are to be judged one by one.
        """
        recent, starts = self.memo.recent, self._starts
        passing: dict[bytes, int] = {}
        unlisted: list[bytes] = []
        others: list[bytes] = []
        texts: dict[int, tuple[list[bytes], list[bytes]]] = {}
        for field in fields:
            entry = field[2:] if field[1] < _SHORT else field[3:]
            known = recent.get(entry)
            if known is not None:
                passing[field] = known
                continue
            cut = entry[1] + 2 if len(entry) > 3 else 0
            listed = starts.get(entry[:cut])
            if listed is None:
                (unlisted if _has_value(entry, cut) else others).append(field)
                continue
            bit, text, number = listed
            size = len(entry) - cut
            if text is not None and 4 < size < _SHORT and entry[cut : cut + 4] == _STRINGS[size]:
                group = texts.get(bit)
                if group is None:
                    group = texts[bit] = ([], [])
                group[0].append(field)
                group[1].append(entry[cut + 4 :])
            elif number is not None and 2 < size < _SHORT and entry[cut : cut + 2] == _VALUES[size]:
                if _fits(number, entry[cut + 2 :]):
                    passing[field] = bit
                else:
                    others.append(field)
            else:
                others.append(field)
        for bit, (listing, raws) in texts.items():
            self._sift_texts(bit, listing, raws, passing, others)
        return passing, unlisted, others

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

    def _sift_texts(
        self, bit: int, fields: list[bytes], raws: list[bytes], passing: dict[bytes, int], others: list[bytes]
    ) -> None:
        rule = self._texts[bit]
        for field, passes in zip(fields, rule.sift(raws), strict=True):
            if passes:
                passing[field] = bit
                self.memo.remember(field[2:] if field[1] < _SHORT else field[3:], bit)
            else:
                others.append(field)

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
            written = self._masks.get((key, masked.content))
            if written is None:
                written = self._masks[key, masked.content] = _written(key, masked)
            return bit, written
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


def _has_value(entry: bytes, cut: int) -> bool:
    """Whether the entry is a key, as long as it says it is, and a value of any kind, up to the end."""
    size = len(entry) - cut
    if not cut or entry[0] != _KEY or cut - 2 >= _SHORT or size < 2 or entry[cut] != _VALUE:
        return False
    length = entry[cut + 1]
    if length < _SHORT:
        return length == size - 2
    return size > 2 and 0 < entry[cut + 2] < _SHORT and (length & 0x7F | entry[cut + 2] << 7) == size - 3


def _fits(rule: IntValue | DoubleValue, value: bytes) -> bool:
    try:
        return rule.judge(value) is None
    except (Refused, Broken):
        return False


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
        if entry[cut] == _VALUE and size < 0x80 and entry[cut + 1] == size:
            return entry[2:cut], entry[cut + 2 :]
    key = value = None
    pos = 0
    while pos < end:
        tag = entry[pos]
        if tag not in (_KEY, _VALUE):
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
