"""One trial: a small message made from the descriptors, with a secret planted anywhere in any form, redacted twice.

`trial(seed)` is the whole of it; the seed says everything, so a failure is found again by its number. The engine must
agree with the reference redactor on what remains, and nothing of the secret may be left. `make test` runs 20,000
trials, `make soak` a million (`soak_redaction.py`).
"""

from __future__ import annotations

import functools
import random
from typing import Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from redaction_samples import (
    CONTENT,
    ENCODINGS,
    RARE_ENCODINGS,
    REQUESTS,
    SECRETS,
    TEXTS,
    Path,
    leaves,
    records,
    traces_of,
    unknown_fields,
)
from reference_redactor import Reference

from sidecar.conventions import POLICIES, SIGNALS
from sidecar.redaction import Policy, Redactor
from sidecar.redaction.schema import path_of
from sidecar.redaction.table import TABLE, Decision

_F = FieldDescriptor
_ALL: Final = ENCODINGS | RARE_ENCODINGS
_SECTIONS: Final = {
    Decision.ATTRIBUTES: "attributes",
    Decision.EVENT_ATTRIBUTES: "events",
    Decision.RESOURCE_ATTRIBUTES: "resource",
}
_KINDS: Final = tuple(kind for kind in range(1, 19) if kind not in (_F.TYPE_GROUP, _F.TYPE_MESSAGE))
_NUMBERS: Final = (0, 1, 5000, 4111111111111111, 78051120, 4155550132, -1, 2**31 - 1, 127, 128)
_FLOATS: Final = (0.0, 0.25, 1e7, 4111111111111111.0, -1.0, float("inf"), 5e-324)


@functools.cache
def _leaves(signal: str) -> list[Path]:
    return leaves(signal, _KINDS)


@functools.cache
def _open_leaves(signal: str) -> list[Path]:
    """Those that a policy lets text pass in: what only patterns keep a secret from."""
    return [
        path
        for path in leaves(signal)
        if TABLE[path_of(path[-1])] in (Decision.TEXT, Decision.NAME)
        or (path[-1].name == "string_value" and TABLE[path_of(path[-3])] in _SECTIONS)
        or (path[-1].name == "string_value" and len(path) > 5 and TABLE[path_of(path[-5])] in _SECTIONS)
    ]


@functools.cache
def _redactor(policy: str) -> Redactor:
    return Redactor(Policy.load(policy))


@functools.cache
def _keys(policy: str) -> dict[str, list[str]]:
    rules = Policy.load(policy).rules
    texts = [
        place for place, rule in rules.items() if rule.written.get("shape") in ("identifier", "tenant", "hostname")
    ]
    return {
        # Those that take text come three times.
        section: [key for place, key in (*rules, *texts, *texts) if place == section]
        for section in _SECTIONS.values()
    }


@functools.cache
def _names(policy: str) -> set[str]:
    return {key for (_, key), rule in Policy.load(policy).rules.items() if rule.written.get("shape") == "tenant"}


def trial(seed: int) -> None:
    """Make, redact, compare. Raises AssertionError, with the seed."""
    chance = random.Random(seed)
    signal, policy = chance.choice(SIGNALS), chance.choice(POLICIES)
    # Prose is a tenant's id where ids have no shape: what keeps it out elsewhere are shapes alone.
    secret = chance.choice(sorted((SECRETS | CONTENT).values()))
    planted = _all_encoded(secret)[chance.choice(sorted(_ALL))][:1024]
    request = REQUESTS[signal]()
    plants = _Plants(chance, policy, planted, secret not in CONTENT.values())
    for number in range(chance.randint(1, 4)):
        among = _open_leaves(signal) if number == 0 and chance.random() < 0.7 else _leaves(signal)
        plants.plant(request, chance.choice(among), number == 0)

    redacted = _redactor(policy).redact(signal, request.SerializeToString())
    held, remains = records(request), REQUESTS[signal].FromString(redacted.payload)
    reference = Reference(request, policy)
    where = f"seed {seed}: {policy}, {signal}, {planted!r}"
    assert remains == request or str(remains) == str(request), where  # not a number is not equal to itself
    assert redacted.dropped == +reference.dropped, where
    assert redacted.records_in == held, where
    assert redacted.records_out == reference.records_out == records(remains), where
    assert unknown_fields(remains) == 0, where
    assert planted.encode() not in redacted.payload, where
    assert not traces_of(secret, redacted.payload), where


@functools.cache
def _all_encoded(secret: str) -> dict[str, str]:
    return {name: encode(secret) for name, encode in _ALL.items()}


class _Plants:
    """Puts values at the ends of paths; into what is there already, half of the time."""

    def __init__(self, chance: random.Random, policy: str, planted: str, anywhere: bool) -> None:
        self._chance = chance
        self._keys = _keys(policy)
        # Where customers' names stand, which may be several words.
        self._names = _names(policy)
        self._planted = planted
        self._anywhere = anywhere

    def plant(self, message: Message, path: Path, secret: bool) -> None:
        section = None
        for field in path[:-1]:
            section = _SECTIONS.get(TABLE[path_of(field)], section)
            many = field.label == _F.LABEL_REPEATED
            child = getattr(message, field.name)
            if many:
                child = child[-1] if len(child) and self._chance.random() < 0.5 else child.add()
            child.SetInParent()
            if child.DESCRIPTOR.name == "KeyValue" and not child.key:
                child.key = self._key(section)
                child.value.string_value = "acme"
            elif child.DESCRIPTOR.name == "Metric" and not child.name:
                child.name = "autogen.messages"
            message = child
        self._put(message, path[-1], secret)

    def _key(self, section: str | None) -> str:
        keys = self._keys[section or "attributes"]
        if not self._anywhere:
            keys = [key for key in keys if key not in self._names]
        return self._chance.choice(keys) if self._chance.random() < 0.8 else self._chance.choice(TEXTS)

    def _put(self, message: Message, field: FieldDescriptor, secret: bool) -> None:
        value = self._value(field, secret)
        if field.label == _F.LABEL_REPEATED:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)

    def _value(self, field: FieldDescriptor, secret: bool) -> object:
        chance = self._chance
        if field.type == _F.TYPE_STRING:
            return self._planted if secret or chance.random() < 0.3 else chance.choice(TEXTS)
        if field.type == _F.TYPE_BYTES:
            return self._planted.encode() if secret else chance.randbytes(chance.choice((0, 8, 16, 16)))
        if field.type == _F.TYPE_BOOL:
            return chance.random() < 0.5
        if field.type == _F.TYPE_ENUM:
            return chance.choice([*(value.number for value in field.enum_type.values), 99])
        if field.type in (_F.TYPE_DOUBLE, _F.TYPE_FLOAT):
            return chance.choice(_FLOATS)
        number = chance.choice(_NUMBERS)
        if field.type in (_F.TYPE_UINT32, _F.TYPE_FIXED32, _F.TYPE_UINT64, _F.TYPE_FIXED64):
            number = abs(number)
        narrow = (_F.TYPE_INT32, _F.TYPE_UINT32, _F.TYPE_SINT32, _F.TYPE_FIXED32, _F.TYPE_SFIXED32)
        return number % 2**31 if field.type in narrow else number
