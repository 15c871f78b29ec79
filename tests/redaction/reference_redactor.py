"""A second redactor, written for being read: works on parsed messages, one field at a time, by table and
policy file.

It shares with the engine the table and the detectors, and nothing else: it reads the policy with PyYAML, has
its own idea of every shape, and knows no bytes.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from importlib import resources

import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from sidecar.redaction.detectors import REASONS, detect
from sidecar.redaction.schema import path_of
from sidecar.redaction.table import TABLE, Decision

_SECTIONS = {
    Decision.ATTRIBUTES: "attributes",
    Decision.EVENT_ATTRIBUTES: "events",
    Decision.RESOURCE_ATTRIBUTES: "resource",
}
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.:/\-]*"
_SHAPES = {
    "identifier": _NAME,
    "version": r"[A-Za-z0-9][A-Za-z0-9.+_\-]*",
    "hostname": r"[A-Za-z0-9][A-Za-z0-9._\-]*",
    "unit": r"[A-Za-z0-9%/*.^'\[\]{}_\-]*",
    "severity": r"(?i)(trace|debug|info|notice|warn|warning|error|critical|fatal|emergency|alert)[1-4]?",
    "schema_url": r"https://opentelemetry\.io/schemas/\d{1,2}\.\d{1,3}\.\d{1,3}",
    "stack": r"([\w.+@~<>/\-]+:\d{1,7} [\w.<>]+(\n(?!$)|$))+",
    "uuid": r"(?i)(?=.*[a-f])[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
}
_UNSCANNED = {"enum", "uuid", "severity", "schema_url"}
_TENANTS = {"tenant.id", "tenantscope.victim"}
_MASKS = {"redacted", "", *(f"[redacted:{reason}]" for reason in REASONS)}


class _Out(Exception):
    """The message around this does not leave."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class Reference:
    """One redaction of one message by a shipped policy, in place, for a sender that may name some tenants, or all."""

    def __init__(self, request: Message, policy: str, tenants: Collection[str] | None = None) -> None:
        self._policy = _policy(policy)
        self._tenants = tenants
        self.dropped: Counter[str] = Counter()
        self.records_out = 0
        self._message(request)

    def _message(self, message: Message) -> None:
        for field, value in message.ListFields():
            decision = TABLE.get(path_of(field), Decision.DROP)
            if decision is Decision.NUMBER:
                if field.type == FieldDescriptor.TYPE_ENUM and value not in field.enum_type.values_by_number:
                    message.ClearField(field.name)
            elif decision in (Decision.TRACE_ID, Decision.SPAN_ID):
                self._id(value, 16 if decision is Decision.TRACE_ID else 8)
            elif decision in (Decision.TEXT, Decision.NAME):
                self._field(message, field, value, decision)
            elif decision in _SECTIONS:
                self._attributes(value, self._policy[_SECTIONS[decision]])
            elif decision is Decision.DROP:
                message.ClearField(field.name)
            elif field.label == FieldDescriptor.LABEL_REPEATED:
                kept = [child for child in value if self._child(child, decision)]
                children = [type(child).FromString(child.SerializeToString()) for child in kept]
                message.ClearField(field.name)
                getattr(message, field.name).extend(children)
            elif not self._child(value, decision):
                message.ClearField(field.name)

    def _child(self, child: Message, decision: Decision) -> bool:
        out_before, dropped_before = self.records_out, Counter(self.dropped)
        held = _records(child)
        try:
            self._message(child)
        except _Out as out:
            if decision is Decision.RECORD:
                self.dropped[out.reason] += 1
            elif decision is Decision.INTO:
                # All records go for the reason that this goes, but for those that had one of their own.
                own = Counter(self.dropped)
                own.subtract(dropped_before)
                self.records_out = out_before
                self.dropped[out.reason] += held - sum(own.values())
            return False
        self.records_out += decision is Decision.RECORD
        return True

    def _id(self, value: bytes, length: int) -> None:
        if value and (len(value) != length or (value.isascii() and detect(value.decode(), numbers=False))):
            raise _Out("identity")

    def _field(self, message: Message, field: FieldDescriptor, value: str, decision: Decision) -> None:
        rule = self._policy["fields"].get(path_of(field))
        allowed = None if rule is None else _text(rule, value)
        if allowed is None and rule is not None and rule.get("misfit") == "mask":
            allowed = "redacted"
        if allowed is None and decision is Decision.NAME:
            raise _Out("name")
        if allowed is None:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, allowed)

    def _attributes(self, attributes: object, rules: dict[str, dict]) -> None:
        kept = []
        for attribute in attributes:
            if self._tenants is not None:
                self._may_name(attribute)
            rule = rules.get(attribute.key)
            again = any(attribute.key == other.key for other in kept)
            if rule is None or again or attribute.key_strindex or not attribute.HasField("value"):
                continue
            if _value(attribute.value, rule):
                kept.append(type(attribute).FromString(attribute.SerializeToString()))
        del attributes[:]
        attributes.extend(kept)

    def _may_name(self, attribute: Message) -> None:
        """Raises _Out for one that names another tenant, and for one that mentions a name in words of its own."""
        if attribute.key_strindex:
            named = any(key.encode() in attribute.SerializeToString() for key in _TENANTS)
        else:
            named = attribute.key in _TENANTS
        value = attribute.value
        known = not attribute.key_strindex and value.WhichOneof("value") == "string_value"
        if named and not (known and value.string_value in self._tenants):
            raise _Out("foreign_tenant")


@functools.cache
def _policy(name: str) -> dict:
    return yaml.safe_load(resources.files("sidecar.redaction").joinpath(f"policies/{name}.yaml").read_text())


def _value(value: Message, rule: dict) -> bool:
    """Whether an attribute's value may leave; masks it in place."""
    kinds = {"string": "string", "int": "int", "double": "double", "bool": "bool", "string[]": "array"}
    kind = kinds[rule["type"]]
    if value.WhichOneof("value") != f"{kind}_value":
        return False
    if kind in ("int", "double"):
        return rule["min"] <= getattr(value, f"{kind}_value") <= rule["max"]
    if kind == "string":
        allowed = _text(rule, value.string_value)
        if allowed is not None:
            value.string_value = allowed
        return allowed is not None
    return kind == "bool" or _list(value, rule)


def _list(value: Message, rule: dict) -> bool:
    items = value.array_value.values
    if len(items) > rule["max_items"] or any(item.WhichOneof("value") != "string_value" for item in items):
        return False
    texts = [item.string_value for item in items]
    allowed = []
    for text in texts:
        allowed.append(_text(rule, text))
        if allowed[-1] != text:  # the first that is refused or masked decides
            break
    if None in allowed:
        return False
    masked = [new for new, old in zip(allowed, texts, strict=False) if new != old]
    if not masked and len(texts) > 1 and rule["shape"] not in _UNSCANNED and (found := detect("".join(texts))):
        masked = [f"[redacted:{found}]"]
    if masked:
        del items[:]
        items.add(string_value=masked[0])
    return True


def _text(rule: dict, text: str) -> str | None:
    if text in _MASKS:
        return text
    shape = rule["shape"]
    if shape == "enum":
        return text if text in rule["values"] else None
    if len(text) > rule["max_length"]:
        return None
    if shape == "tenant":
        fits = not any(
            unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for character in text
        )
    elif shape == "operation":
        verb, _, target = text.partition(" ")
        fits = verb in rule["verbs"] and re.fullmatch(_NAME, target) is not None
    else:
        fits = re.fullmatch(_SHAPES[shape], text, re.ASCII) is not None
    if not fits:
        return None
    found = None if shape in _UNSCANNED else detect(text, numbers=shape != "tenant")
    return f"[redacted:{found}]" if found else text


def _records(message: Message) -> int:
    found = 0
    for field, value in message.ListFields():
        decision = TABLE.get(path_of(field))
        if decision is Decision.RECORD:
            found += len(value)
        elif decision is Decision.INTO:
            found += sum(map(_records, value if field.label == FieldDescriptor.LABEL_REPEATED else (value,)))
    return found
