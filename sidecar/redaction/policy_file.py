"""A policy's file → rules. Every mistake in it is one line that names the key; all are found in one reading.

What it refuses: keys it does not know (with the nearest one it does), values of another type, rules that
contradict themselves, and any expression of one's own: shapes are picked by name.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from . import shapes
from .detectors import MAX_TEXT
from .rules import AttributeRule, BoolValue, DoubleValue, IntValue, StringListValue, StringValue, Text
from .table import TEXT_FIELDS

VERSION: Final = 1
ATTRIBUTE_SECTIONS: Final = ("attributes", "events", "resource")
_SECTIONS: Final = ("version", *ATTRIBUTE_SECTIONS, "fields")
_MAX_KEY: Final = 255
_MAX_ITEMS: Final = 64
_INT64: Final = 1 << 63


class PolicyError(ValueError):
    """The policy cannot be used: one line for each mistake, with the key that it is about."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class _Mistake(ValueError):  # noqa: N818  # the user's, not ours
    """One mistake; raised with the key's path and what is wrong."""


def attribute_rules(document: Mapping[str, Any], section: str, mistakes: list[str]) -> dict[str, AttributeRule]:
    """The rules of an allow-list, by attribute key."""
    return _each(document.get(section), section, mistakes, _attribute_key, _attribute_rule)


def field_rules(document: Mapping[str, Any], mistakes: list[str]) -> dict[str, Text]:
    """The rules of OTLP's own text fields, by path."""
    return _each(document.get("fields"), "fields", mistakes, _field_key, _field_rule)


def checked(document: object, mistakes: list[str]) -> Mapping[str, Any]:
    """The document as a mapping of the sections that there are; notes what is wrong with its outside."""
    if not isinstance(document, dict):
        mistakes.append("the policy must be a mapping of sections")
        return {}
    mistakes += [f"{key}: {_unknown(key, _SECTIONS)}" for key in document if key not in _SECTIONS]
    if document.get("version") != VERSION or type(document["version"]) is not int:
        mistakes.append(f"version: must be {VERSION}")
    mistakes += [f"{section}: is missing" for section in _SECTIONS[1:] if section not in document]
    return document


def _each(
    section: object,
    name: str,
    mistakes: list[str],
    check_key: Callable[[str], None],
    rule_of: Callable[[_Keys], Any],
) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    if section is None:
        return rules
    if not isinstance(section, dict):
        mistakes.append(f"{name}: must be a mapping")
        return rules
    for key, rule in section.items():
        path = f"{name}.{key}"
        try:
            if not isinstance(key, str):
                raise _Mistake(f"{path}: the key must be a string; quote it")
            check_key(key)
            keys = _Keys(path, rule)
            rules[key] = rule_of(keys)
            keys.done()
        except _Mistake as mistake:
            mistakes.append(str(mistake))
    return rules


class _Keys:
    """The keys of one rule, taken out one by one; what is left at the end is a mistake."""

    def __init__(self, path: str, rule: object) -> None:
        if not isinstance(rule, dict):
            raise _Mistake(f"{path}: must be a mapping, such as {{type: string, shape: identifier, max_length: 64}}")
        self.path = path
        self._rule = dict(rule)
        self._known: list[str] = []

    def take(self, key: str, kind: type | tuple[type, ...], what: str) -> Any:
        """The value of a key that must be there."""
        if key not in self._rule:
            self._known.append(key)
            # A misspelt key is the more helpful thing to say than a missing one.
            for other in self._rule:
                if key in difflib.get_close_matches(str(other), [key]):
                    raise _Mistake(f"{self.path}.{other}: {_unknown(other, [key])}")
            raise _Mistake(f"{self.path}.{key}: is missing; must be {what}")
        return self.take_if_any(key, kind, what, None)

    def take_if_any(self, key: str, kind: type | tuple[type, ...], what: str, default: Any) -> Any:
        """The value of a key that may be missing."""
        self._known.append(key)
        value = self._rule.pop(key, default)
        # `type`, for True is an int to isinstance.
        if value is not default and type(value) not in (kind if isinstance(kind, tuple) else (kind,)):
            raise _Mistake(f"{self.path}.{key}: must be {what}")
        return value

    def take_word(self, key: str, words: Iterable[str]) -> str:
        """The value of a key that must be one of `words`."""
        words = tuple(words)
        word: str = self.take(key, str, f"one of {', '.join(words)}")
        if word not in words:
            raise _Mistake(f"{self.path}.{key}: {_unknown(word, words)}")
        return word

    def take_count(self, key: str, most: int) -> int:
        """The value of a key that must be a positive number, at most `most`."""
        what = f"a whole number from 1 to {most}"
        number: int = self.take(key, int, what)
        if not 1 <= number <= most:
            raise _Mistake(f"{self.path}.{key}: must be {what}")
        return number

    def take_words(self, key: str) -> list[str]:
        """The value of a key that must be a list of words, each once."""
        what = f"a list of different strings of 1 to {MAX_TEXT} characters; quote yes, no and numbers"
        words: list[Any] = self.take(key, list, what)
        fine = words and all(type(word) is str and 0 < len(word) <= MAX_TEXT for word in words)
        if not fine or len(set(words)) < len(words):
            raise _Mistake(f"{self.path}.{key}: must be {what}")
        return words

    def done(self) -> None:
        for key in self._rule:
            raise _Mistake(f"{self.path}.{key}: {_unknown(key, self._known)}")


def _attribute_key(key: str) -> None:
    if not 0 < len(key) <= _MAX_KEY:
        raise _Mistake(f"{key[:32]!r}: an attribute's key has 1 to {_MAX_KEY} characters")


def _field_key(key: str) -> None:
    if key not in TEXT_FIELDS:
        raise _Mistake(f"fields.{key}: {_unknown(key, TEXT_FIELDS)}")


def _attribute_rule(keys: _Keys) -> AttributeRule:
    return _TYPES[keys.take_word("type", _TYPES)](keys)


def _field_rule(keys: _Keys) -> Text:
    text = _text(keys)
    misfit = keys.take_if_any("misfit", str, "mask or drop", "drop")
    if misfit not in ("mask", "drop"):
        raise _Mistake(f"{keys.path}.misfit: must be mask or drop")
    return replace(text, misfit_masks=misfit == "mask")


def _text(keys: _Keys, longest: int = MAX_TEXT) -> Text:
    name = keys.take_word("shape", (*shapes.SHAPES, shapes.ENUM, shapes.OPERATION))
    if name == shapes.ENUM:
        values = keys.take_words("values")
        return Text(shapes.enum(values), max(map(len, values)))
    shape = shapes.operation(keys.take_words("verbs")) if name == shapes.OPERATION else shapes.SHAPES[name]
    return Text(shape, keys.take_count("max_length", longest))


def _strings(keys: _Keys) -> StringListValue:
    most = keys.take_count("max_items", _MAX_ITEMS)
    # The items are also read as one text.
    return StringListValue(_text(keys, MAX_TEXT // most), most)


def _int(keys: _Keys) -> IntValue:
    least, most = (keys.take(key, int, "a whole number of 64 bits") for key in ("min", "max"))
    if not -_INT64 <= least <= most < _INT64:
        raise _Mistake(f"{keys.path}: min must be at most max, and both numbers of 64 bits")
    return IntValue(least, most)


def _double(keys: _Keys) -> DoubleValue:
    least, most = (float(keys.take(key, (int, float), "a number")) for key in ("min", "max"))
    if not (math.isfinite(least) and math.isfinite(most) and least <= most):
        raise _Mistake(f"{keys.path}: min must be at most max, and both finite")
    return DoubleValue(least, most)


_TYPES: Final[dict[str, Callable[[_Keys], AttributeRule]]] = {
    "string": lambda keys: StringValue(_text(keys)),
    "string[]": _strings,
    "int": _int,
    "double": _double,
    "bool": lambda _: BoolValue(),
}


def _unknown(word: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f"is not known; did you mean {near[0]}?" if near else "is not known"
