"""Asks the engine what becomes of one value at one place: builds a request around it, redacts it, looks for it.

A place is a field of OTLP by its path, such as `Span.name`, or a list of attributes, such as `Span.attributes`
and a key in it. Nothing of the value is kept or printed here; an outcome holds what the policy let out.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sidecar.conventions import SIGNALS, Signal
from sidecar.redaction import MasterKey, Policy, Pseudonyms, Redactor
from sidecar.redaction.pseudonyms import KEY_BYTES
from sidecar.redaction.schema import ROOTS, fields, name_of, path_of
from sidecar.redaction.table import TABLE, Decision

#: Places of attributes, by the word that people use; in the order in which they are explained.
PLACES: Final = {
    "span": "Span.attributes",
    "metric": "NumberDataPoint.attributes",
    "log": "LogRecord.attributes",
    "event": "Span.Event.attributes",
    "resource": "Resource.attributes",
    "link": "Span.Link.attributes",
    "scope": "InstrumentationScope.attributes",
    "exemplar": "Exemplar.filtered_attributes",
    "metadata": "Metric.metadata",
}
#: What was done to a value, by the engine's word for it.
VERDICTS: Final = {
    "drop": "dropped",
    "mask": "masked",
    "hash": "hashed",
    "pseudonymise": "pseudonymised",
    "truncate": "truncated",
}
#: The section of a policy that decides a place; for the others the table has decided.
SECTION_OF: Final = {
    Decision.ATTRIBUTES: "attributes",
    Decision.EVENT_ATTRIBUTES: "events",
    Decision.RESOURCE_ATTRIBUTES: "resource",
}

_F = FieldDescriptor
_FLOATING: Final = (_F.TYPE_DOUBLE, _F.TYPE_FLOAT)


class Target(NamedTuple):
    """Where a value stands: the path of a field of OTLP; for an attribute, of its list, and the key in it."""

    path: str
    key: str | None = None

    @property
    def section(self) -> str | None:
        """The section of a policy that has the rule for it, if a policy has a say."""
        if self.key is not None:
            return SECTION_OF.get(TABLE[self.path])
        return "fields" if TABLE[self.path] in (Decision.TEXT, Decision.NAME) else None

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The signals whose requests have such a place."""
        return tuple(signal for signal in SIGNALS if _way(signal, self.path) is not None)

    def __str__(self) -> str:
        return self.path if self.key is None else f"{self.path}[{self.key}]"


class Outcome(NamedTuple):
    """What the engine did.

    Attributes:
        verdict: `passes`, `dropped`, or what else was done.
        reason: the engine's word for why; empty when it passes.
        leaves: what stands in the place after it; None when nothing does.
    """

    verdict: str
    reason: str = ""
    leaves: Any = None

    def __str__(self) -> str:
        return f"{self.verdict}:{self.reason}" if self.reason else self.verdict


class Probe:
    """One policy's engine, to be asked about values one by one."""

    def __init__(self, policy: Policy) -> None:
        # A key of its own: what it shows as a pseudonym is none that a sidecar writes.
        self._redactor = Redactor(policy, Pseudonyms(MasterKey("try", secrets.token_bytes(KEY_BYTES))))

    def ask(self, target: Target, signal: Signal, value: object) -> Outcome:
        """What becomes of `value` at `target` in a request of `signal`.

        Raises:
            ValueError: such a value cannot stand there, or the signal has no such place.
        """
        way = _way(signal, target.path)
        if way is None:
            raise ValueError(f"{signal} have no {target.path}")
        request = GetMessageClass(ROOTS[signal])()
        _put(request, way, target, value)
        redacted = self._redactor.redact(signal, request.SerializeToString())
        found = [(action, reason) for action, reason in redacted.actions if action != "drop"]
        found += [("drop", reason) for action, reason in redacted.actions if action == "drop"]
        found += [("drop", reason) for reason in redacted.dropped]
        leaves = _get(type(request).FromString(redacted.payload), way, target)
        if not found:
            return Outcome("passes", leaves=leaves)
        action, reason = found[0]
        return Outcome(VERDICTS[action], reason, leaves)


@cache
def _way(signal: Signal, path: str) -> tuple[FieldDescriptor, ...] | None:
    """The shortest way from a request down to a field; None when there is none."""
    waiting: deque[tuple[Descriptor, tuple[FieldDescriptor, ...]]] = deque([(ROOTS[signal], ())])
    seen = {ROOTS[signal].full_name}
    while waiting:
        message, way = waiting.popleft()
        for field in message.fields:
            if path_of(field) == path:
                return (*way, field)
            inner = field.message_type
            if inner is not None and inner.full_name not in seen:
                seen.add(inner.full_name)
                waiting.append((inner, (*way, field)))
    return None


def _put(message: Message, way: tuple[FieldDescriptor, ...], target: Target, value: object) -> None:
    *around, last = way
    for field in around:
        child = getattr(message, field.name)
        message = child.add() if field.label == _F.LABEL_REPEATED else child
        message.SetInParent()
    if target.key is not None:
        attribute = getattr(message, last.name).add(key=target.key)
        _fill(attribute.value, value)
    elif last.message_type is not None:
        if name_of(last.message_type) != "AnyValue" or last.label == _F.LABEL_REPEATED:
            raise ValueError(f"{target.path} holds no single value; ask for a field in {name_of(last.message_type)}")
        _fill(getattr(message, last.name), value)
    elif last.label == _F.LABEL_REPEATED:
        getattr(message, last.name).append(_scalar(last, value))
    else:
        setattr(message, last.name, _scalar(last, value))


def _scalar(field: FieldDescriptor, value: object) -> object:
    """`value` as the field's type has it: bytes as hexadecimal digits, numbers also written out."""
    text = str(value)
    try:
        if field.type == _F.TYPE_BYTES:
            return bytes.fromhex(text)
        if field.type == _F.TYPE_STRING:
            return text
        if field.type == _F.TYPE_BOOL:
            return {"true": True, "false": False}[text.lower()]
        return float(text) if field.type in _FLOATING else int(text)
    except (ValueError, KeyError):
        kind = "hexadecimal digits" if field.type == _F.TYPE_BYTES else "a number, true or false"
        raise ValueError(f"{path_of(field)} must be {kind}") from None


def _fill(value: Any, content: object) -> None:
    """Write `content` into an `AnyValue`, as its own type."""
    match content:
        case bool():
            value.bool_value = content
        case int():
            value.int_value = content
        case float():
            value.double_value = content
        case list():
            value.array_value.SetInParent()
            for item in content:
                _fill(value.array_value.values.add(), item)
        case dict():
            value.kvlist_value.SetInParent()
            for key, inner in content.items():
                _fill(value.kvlist_value.values.add(key=str(key)).value, inner)
        case _:
            value.string_value = "" if content is None else str(content)


def _get(message: Message, way: tuple[FieldDescriptor, ...], target: Target) -> Any:
    """What stands at the target in a request that left; None when nothing does."""
    here: Any = next(_at(message, way), None)
    if here is None:
        return None
    return _plain(here.value if target.key is not None else here)


def _at(message: Any, way: tuple[FieldDescriptor, ...]) -> Iterator[Any]:
    field, *rest = way
    value = getattr(message, field.name)
    if field.label == _F.LABEL_REPEATED:
        children = list(value)
    elif field.has_presence:
        children = [value] if message.HasField(field.name) else []
    else:
        children = [value]
    for child in children:
        if rest:
            yield from _at(child, tuple(rest))
        else:
            yield child


def _plain(value: Any) -> Any:
    if not isinstance(value, Message):
        return value.hex() if isinstance(value, bytes) else value
    kind = value.WhichOneof("value")  # only an AnyValue is asked for
    inner: Any = None if kind is None else getattr(value, kind)
    return [_plain(item) for item in inner.values] if kind == "array_value" else inner


def resolve(key: str) -> Target | None:
    """The place that a key with the name of a message in front says: a field of OTLP, or an attribute there.

    `Span.name` is a field, `Span.Event.exception.message` an attribute of events; None when it is neither, but
    the key of an attribute wherever it may stand.
    """
    if key in fields():
        return Target(key)
    lists = {path.rpartition(".")[0]: path for path in ATTRIBUTE_LISTS}
    for cut in range(len(key) - 1, 0, -1):
        if key[cut] == "." and (path := lists.get(key[:cut])) is not None:
            return Target(path, key[cut + 1 :])
    return None


#: Every field of OTLP that is a list of attributes.
ATTRIBUTE_LISTS: Final = tuple(
    path
    for path, field in fields().items()
    if field.message_type is not None and name_of(field.message_type) == "KeyValue" and not path.startswith("KeyValue")
)
