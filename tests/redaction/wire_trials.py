"""One trial of what an attacker writes: records byte by byte, under a policy drawn at random, from several senders.

`row_trials.py` writes what exporters send. Here nothing is as it should be: fields twice, in another order and with
another wire type, lengths that are overlong or wrong, groups, values with two members or none, texts that are cut
apart, bytes that are no text, names of tenants where none belong. Records are copies of each other with a few bytes
changed, so that what is said of one could be believed of another. Rules are of all kinds, with ranges below zero,
patterns, tiers, hashes.

`wire_trial(seed)` asks two: the walk, which remembers nothing, and records by the hundred in one
that has seen the requests of all earlier trials under its policy, whoever sent them. Bytes and counts must be the same.
"""

from __future__ import annotations

import functools
import random
import struct
from typing import Any, Final
from unittest.mock import patch

from random_policies import KEYS, POLICIES, policy
from redaction_samples import CONTENT, ENCODINGS, RARE_ENCODINGS, REQUESTS, SECRETS, TEXTS, records, unknown_fields
from row_trials import MAY_NAME, SEEN, Rows, Walked, outcome

from sidecar.conventions import SIGNALS
from sidecar.redaction import MasterKey, Pseudonyms, Redactor
from sidecar.redaction.engine import Pass
from sidecar.redaction.memo import Memo
from sidecar.redaction.wire_format import delimited, varint
from sidecar.senders.debtors import Debtors

_NAMES: Final = Pseudonyms(MasterKey("k1", bytes(32)))
_TENANTS: Final = ("acme", "globex", "tenant-1", "tenant-2", "bank-7", "evil", "unknown", "", "bob@example.com")
_DEBTORS: Final = (None, None, Debtors(frozenset({b"acme"})), Debtors(frozenset(), frozenset({b"acme", b"unknown"})))
_SENDERS: Final = (None, MAY_NAME, frozenset({"acme"}), frozenset({"globex", "tenant-1"}), frozenset[str]())
_ENCODED: Final = [*(ENCODINGS | RARE_ENCODINGS).values()]
_SECRETS: Final = [*(SECRETS | CONTENT).values()]
#: Of each signal: the fields above the records, and for a record its fields with their wire types: the first ones are
#: the tag of attributes, those of messages with attributes, and what a text may be put into.
_ROOTS: Final[dict[str, tuple[tuple[int, ...], ...]]] = {
    "traces": ((1, 2, 2),), "logs": ((1, 2, 2),), "metrics": tuple((1, 2, 2, kind, 1) for kind in (5, 7, 9, 10, 11)),
}  # fmt: skip
_FIXED, _FIXED32, _INT, _TEXT, _ID, _ENTRY, _PART, _PACKED = range(8)
_SPAN: Final = (
    (1, _ID), (2, _ID), (3, _TEXT), (4, _ID), (5, _TEXT), (6, _INT), (7, _FIXED), (8, _FIXED), (9, _ENTRY), (10, _INT),
    (11, _PART), (12, _INT), (13, _PART), (14, _INT), (15, _PART), (16, _FIXED32), (17, _TEXT),
)  # fmt: skip
_LOG: Final = (
    (1, _FIXED), (2, _INT), (3, _TEXT), (5, _TEXT), (6, _ENTRY), (7, _INT), (8, _FIXED32), (9, _ID), (10, _ID),
    (11, _FIXED), (12, _TEXT), (13, _TEXT),
)  # fmt: skip
_POINTS: Final = {
    5: (7, ((2, _FIXED), (3, _FIXED), (4, _FIXED), (5, _PART), (6, _FIXED), (7, _ENTRY), (8, _INT))),
    7: (7, ((2, _FIXED), (3, _FIXED), (4, _FIXED), (5, _PART), (6, _FIXED), (7, _ENTRY), (8, _INT))),
    9: (9, ((2, _FIXED), (3, _FIXED), (4, _FIXED), (5, _FIXED), (6, _PACKED), (7, _PACKED), (8, _PART), (9, _ENTRY),
            (10, _INT), (11, _FIXED), (12, _FIXED))),
    10: (1, ((1, _ENTRY), (2, _FIXED), (3, _FIXED), (4, _FIXED), (5, _FIXED), (6, _INT), (7, _FIXED), (8, _PART),
             (9, _PART), (10, _INT), (11, _PART), (12, _FIXED), (13, _FIXED), (14, _FIXED))),
    11: (7, ((2, _FIXED), (3, _FIXED), (4, _FIXED), (5, _FIXED), (6, _PART), (7, _ENTRY), (8, _INT))),
}  # fmt: skip


@functools.cache
def _redactor(number: int, _: str) -> Redactor:
    return Redactor(policy(number), _NAMES if number % 3 else None)


def wire_trial(seed: int) -> None:
    """Write, redact, compare. Raises AssertionError, with the seed."""
    chance = random.Random(seed)
    number = chance.randrange(POLICIES)
    warm, cold = _redactor(number, "warm"), _redactor(number, "cold")
    writer = Attacker(chance)
    for signal in chance.choices(SIGNALS, k=2):
        payload = writer.request(signal)
        tenants, debtors = chance.choice(_SENDERS), chance.choice(_DEBTORS)
        where = f"seed {seed}: policy {number}, {signal}, {tenants}"
        with patch.object(Memo, "remember", return_value=None):
            expected = outcome(Pass, cold, signal, payload, tenants, debtors)
        for kind in (Walked, Rows):
            assert outcome(kind, warm, signal, payload, tenants, debtors) == expected, where
        if not isinstance(expected, tuple):
            continue
        left, records_in, records_out, *_ = expected
        SEEN["records"] += records_in
        remains = REQUESTS[signal].FromString(left)
        assert unknown_fields(remains) == 0, where
        assert records(remains) == records_out, where
        if tenants is not None:
            assert b"evil" not in _tenants_in(remains) - {name.encode() for name in tenants}, where


def _tenants_in(message: Any) -> set[bytes]:
    """The values under the key of a tenant, wherever they stand in what is left."""
    found: set[bytes] = set()
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for child in value if field.label == field.LABEL_REPEATED else (value,):
            if child.DESCRIPTOR.name == "KeyValue":
                if child.key in ("tenant.id", "tenantscope.victim"):
                    found.add(child.value.string_value.encode())
            else:
                found |= _tenants_in(child)
    return found


class Attacker:
    """Writes requests byte by byte. `_odd` says how much of one is not as it should be."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._odd = chance.choice((0.0, 0.002, 0.02, 0.2))
        secret = chance.choice(_SECRETS)
        planted = chance.choice(_ENCODED)(secret)[: chance.choice((20, 120, 300))]
        cut = chance.randrange(len(planted))
        self._texts = [
            planted.encode(), planted[:cut].encode(), planted[cut:].encode(), b"", b"redacted", b"[redacted:email]",
            b"[redacted:policy]", b"[redacted:project]", b"tenant.id", b"tenantscope.victim", b"a\nb", b"chat\nchat",
            b"\x00", b"\xff\xfe", b"ok\xed\xa0\x80", "ünï".encode(), b"project-x", b"n12345", b"agent-17", b"agent-2b",
            b"x" * 127, b"y" * 128, b"chat m", b"process n1", b"send", b"0", b"AKIAIOSFODNN7EX4MPL",
            b"0b5cf5b1-0bfb-4c2e-8b8e-3b6f2c1f4a11", *(text.encode()[:200] for text in chance.sample(TEXTS, 4)),
            b"\x0a\x09tenant.id\x12\x06\x0a\x04evil",
        ]  # fmt: skip
        self._entries = [self._entry() for _ in range(chance.randint(4, 30))]

    def request(self, signal: str) -> bytes:
        """Some groups of records."""
        chance = self._chance
        request = b"".join(self._group(signal) for _ in range(chance.choice((1, 1, 1, 2))))
        return self._damaged(request) if chance.random() < self._odd else request

    def _group(self, signal: str) -> bytes:
        chance = self._chance
        *outer, innermost = path = chance.choice(_ROOTS[signal])
        if signal == "metrics":
            attributes, fields = _POINTS[path[3]]
        else:
            attributes, fields = (9, _SPAN) if signal == "traces" else (6, _LOG)
        made = [self._record(attributes, fields) for _ in range(chance.choice((1, 2, 6)))]
        rows = [made[0]] if chance.random() < 0.1 else []
        for _ in range(chance.choice((1, 3, 20))):
            record = chance.choice(made)
            rows.append(self._damaged(record) if chance.random() < self._odd * 3 else record)
        content = b"".join(self._field(innermost, row) for row in rows)
        for depth, number in reversed([*enumerate(outer)]):
            if signal == "metrics" and depth == 2:
                content = delimited(1, chance.choice((b"autogen.messages", b"m", *self._texts[:3]))) + content
            content = self._field(number, content)
            if depth == 1 and chance.random() < 0.3:
                content = delimited(1, b"".join(delimited(1, entry) for entry in chance.sample(self._entries, 2))) + (
                    content
                )
        return content

    def _record(self, attributes: int, fields: tuple[tuple[int, int], ...]) -> bytes:
        chance = self._chance
        pieces: list[bytes] = []
        wild = chance.random() < 0.1 + self._odd
        for number, kind in fields:
            if kind == _ENTRY:
                many = chance.choice((1, 3, 6))
                keys = {
                    entry[:12] if wild else entry[: entry[1] + 2] if entry[1:] else b"": entry
                    for entry in chance.choices(self._entries, k=many)
                }
                pieces += (self._field(number, entry) for entry in keys.values())
            elif chance.random() < 0.7 and (wild or self._is_usual(number, kind, attributes, pieces)):
                many = chance.choice((1, 1, 2)) if kind == _PART else 1
                pieces += (self._plain(number, kind, attributes) for _ in range(many))
        if chance.random() < self._odd * 3:
            chance.shuffle(pieces)
        if chance.random() < self._odd * 3:
            pieces.append(chance.choice(pieces))
        if chance.random() < self._odd * 3:
            pieces.insert(chance.randrange(len(pieces) + 1), self._strange())
        return b"".join(pieces)

    def _is_usual(self, number: int, kind: int, attributes: int, pieces: list[bytes]) -> bool:
        """Whether a field does not by itself let a record be walked."""
        if (attributes, kind, number) == (7, _FIXED, 6):  # a point has a number of one type
            return not any(piece.startswith(b"\x21") for piece in pieces)
        return kind != _TEXT or number < 12

    def _plain(self, number: int, kind: int, attributes: int = 0) -> bytes:
        chance = self._chance
        odd = chance.random() < self._odd
        match kind:
            case 0:  # 8 bytes
                return varint(number << 3 | 1) + chance.choice((bytes(8), b"\xff" * 8, chance.randbytes(8)))
            case 1:  # 4 bytes
                return varint(number << 3 | 5) + chance.choice((bytes(4), chance.randbytes(4)))
            case 2:  # a small number
                return varint(number << 3) + (chance.choice((b"\x07", b"\x80\x00", b"\xff" * 9 + b"\x01", b"\x80\x01"))
                                              if odd else bytes((chance.randrange(4),)))  # fmt: skip
            case 3:
                text = chance.choice(self._texts)
                return delimited(number, text if odd else text[:127] or b"x")
            case 4:
                size = 16 if number in (1, 9) else 8
                other = (b"", b"A" * size, b"AKIAIOSFODNN7EXA"[:size], chance.randbytes(size + 1))
                return delimited(number, chance.choice(other) if odd else chance.randbytes(size))
            case 5:
                return self._field(number, chance.choice(self._entries))
            case 6:
                return self._field(number, self._part() or b"\x09" + bytes(8))
            case _:
                if chance.random() < 0.2:
                    return varint(number << 3 | 1) + bytes(8)
                return delimited(number, chance.randbytes(8 * chance.choice((1, 3, 16, 17)) + odd))

    def _part(self) -> bytes:
        """An event, a link, a status, an exemplar, buckets: whichever it is read as, most of it is a surprise."""
        chance = self._chance
        pieces = [
            b"\x09" + chance.randbytes(8), delimited(2, chance.choice(self._texts)), b"\x20\x01", b"\x18\x02",
            delimited(3, chance.choice(self._entries)), delimited(7, chance.choice(self._entries)),
            delimited(1, chance.randbytes(16)), delimited(2, chance.randbytes(8)), b"\x11" + bytes(8),
            b"\x19" + bytes(8), b"\x31" + bytes(8),
            delimited(2, b"\x01\x02\x80\x01" + b"\x80" * 9 + b"\x01"), b"\x08\x05",
            delimited(4, chance.randbytes(8)), delimited(5, chance.randbytes(16)),
        ]  # fmt: skip
        picked = sorted(chance.sample(range(len(pieces)), chance.randint(0, 5)))
        return b"".join(pieces[at] for at in picked)

    def _entry(self) -> bytes:
        """A `KeyValue`."""
        chance = self._chance
        key = chance.choice((*KEYS, *KEYS, "unlisted", "message", "", "tenant.id ", "xtenant.id")).encode()
        if chance.random() < 0.05:
            key = chance.choice(self._texts)[:100]
        value = self._value(key)
        entry = delimited(1, key) + delimited(2, value)
        if chance.random() < self._odd:
            entry = chance.choice((
                delimited(2, value) + delimited(1, key), delimited(1, key), delimited(2, value), b"",
                entry + delimited(2, value), delimited(1, b"a") + entry, entry + b"\x18\x05", entry + b"\x28\x01",
                b"\x0a" + bytes((len(key) | 0x80, 0)) + key + delimited(2, value),
                delimited(1, key) + b"\x12" + bytes((len(value) & 0x7F | 0x80, len(value) >> 7)) + value,
            ))  # fmt: skip
        return entry

    def _value(self, key: bytes) -> bytes:
        chance = self._chance
        if key in (b"tenant.id", b"tenantscope.victim") and chance.random() < 0.8:
            return delimited(1, chance.choice(_TENANTS).encode())
        match chance.randrange(9):
            case 0:
                numbers = (0, 1, 5, 99, 100, 127, 128, 300, 16383, 16384, 2**21, 2**28 - 1, 2**28, 4111111111111111)
                number = chance.choice((*numbers, -1, -5, -300, 2**63 - 1, -(2**63)))
                return b"\x18" + varint(number % 2**64) + (b"\x00" if chance.random() < self._odd else b"")
            case 1:
                return b"\x21" + struct.pack("<d", chance.choice((0.0, 0.5, -1.0, 1e300, float("nan"), float("-inf"))))
            case 2:
                return b"\x10" + chance.choice((b"\x00", b"\x01", b"\x02", b"\x80\x01"))
            case 3:
                items = [delimited(1, delimited(1, chance.choice(self._texts))) for _ in range(chance.randrange(4))]
                return delimited(5, b"".join(items))
            case 4 if chance.random() < 0.3:
                text = delimited(1, chance.choice(self._texts))
                return chance.choice((text + text, text + b"\x10\x01", b"", b"\x10\x01" + text, delimited(7, text),
                                      delimited(6, delimited(1, delimited(1, b"a") + delimited(2, text))),
                                      delimited(5, delimited(1, delimited(5, delimited(1, text))))))  # fmt: skip
            case _:
                return delimited(1, chance.choice(self._texts))

    def _field(self, number: int, content: bytes) -> bytes:
        """A length-delimited field; some lengths are overlong, or wrong."""
        if self._chance.random() >= self._odd / 4:
            return delimited(number, content)
        size = len(content)
        length = self._chance.choice(
            (bytes((size & 0x7F | 0x80, size >> 7 & 0x7F)), varint(size + 1), varint(size // 2))
        )
        return varint(number << 3 | 2) + length + content

    def _strange(self) -> bytes:
        """What nobody knows, or knows otherwise."""
        chance = self._chance
        text = chance.choice(self._texts)
        return chance.choice((
            delimited(chance.randrange(1, 40), text), b"\x4b" + delimited(1, text) + b"\x4c", b"\x4b", b"\x4c", b"\x00",
            b"\xca\x80\x00", b"\x48\x01", b"\x2d" + bytes(4), varint(1 << 29 << 3),
            b"\x92\x00" + delimited(1, text)[1:], b"\x0a", b"\xff" * 11,
        ))  # fmt: skip

    def _damaged(self, content: bytes) -> bytes:
        chance = self._chance
        at = chance.randint(0, len(content))
        return content[:at] + chance.randbytes(chance.randint(0, 2)) + content[at + chance.randint(0, 2) :]
