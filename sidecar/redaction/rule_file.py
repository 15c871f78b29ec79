"""One rule of a policy's file → a rule. What is said wrong is noted with the key that it is about.

What it refuses: keys that `grammar.py` does not know (with the nearest one it does), values of another type, and rules
that contradict themselves.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sidecar.configuration.strict_yaml import Place

from . import shapes
from .detectors import MAX_TEXT
from .grammar import ALLOW, TRUNCATE, Choice, Value
from .patterns import Patterns
from .rewrites import Action, Rewrite
from .rules import AttributeRule, BoolValue, DoubleValue, IntValue, StringListValue, StringValue
from .texts import Text


class RuleReading:
    """One rule while it is read: the values of known keys are taken out, what is left at the end is a mistake."""

    def __init__(self, note: Callable[[Place, str], None], place: Place, rule: Mapping[Any, Any]) -> None:
        self._note_at = note
        self._place = place
        self._fine = True
        self._left = dict(rule)
        self._known: list[str] = []
        self._said: dict[str, Any] = {}
        # After a choice that cannot be understood it is not known which keys there may be.
        self._complete = True

    def read(self, grammar: Mapping[str, Value]) -> dict[str, Any] | None:
        """What the rule says, by key; None after a mistake."""
        missing = self._take(grammar)
        if self._complete:
            for key in self._left:
                self._note(str(key), unknown(key, self._known))
        for key, value in missing.items():
            # A misspelt key is the more helpful thing to say than a missing one.
            if not any(key in difflib.get_close_matches(str(other), [key]) for other in self._left):
                self._note(key, f"is missing; must be {value.what}")
            elif not self._complete:
                self._note(difflib.get_close_matches(key, map(str, self._left))[0], unknown(key, [key]))
        return self._said if self._fine else None

    def _take(self, grammar: Mapping[str, Value]) -> dict[str, Value]:
        """Take out the values of these keys and of those that they bring; the ones that are missing."""
        missing: dict[str, Value] = {}
        for key, value in grammar.items():
            self._known.append(key)
            default = value.default if isinstance(value, Choice) else None
            if key not in self._left and default is None:
                missing[key] = value
                self._complete &= not isinstance(value, Choice)
                continue
            word = self._left.pop(key, default)
            if value.fits(word):
                self._said[key] = word
                if isinstance(value, Choice):
                    missing |= self._take(value.brings[word])
            else:
                near = nearest(word, value.brings) if isinstance(value, Choice) else ""
                self._note(key, f"is not known; did you mean {near}?" if near else f"must be {value.what}")
                self._complete &= not isinstance(value, Choice)
        return missing

    def _note(self, key: str, what: str) -> None:
        self._fine = False
        self._note_at((*self._place, key), what)


class Contradiction(ValueError):  # noqa: N818  # the user's, not ours
    """Each key is fine, together they are not."""

    def __init__(self, what: str, *keys: str) -> None:
        super().__init__(what)
        self.what = what
        self.keys = keys


def attribute_rule(said: Mapping[str, Any], patterns: Patterns | None) -> AttributeRule | Rewrite:
    if said["action"] != ALLOW:
        return _rewrite(said, patterns, typed=True)
    kind = said["type"]
    if kind == "bool":
        return BoolValue()
    if kind in ("int", "double"):
        if not said["min"] <= said["max"]:
            raise Contradiction("min must be at most max")
        least, most = said["min"], said["max"]
        return IntValue(least, most) if kind == "int" else DoubleValue(float(least), float(most))
    text = _text(said, patterns)
    if kind == "string":
        return StringValue(text)
    most = said["max_items"]
    if text.shape.scanned and text.max_length > (longest := MAX_TEXT // most):
        # The items are also read as one text, which must be short enough to be scanned.
        raise Contradiction(f"must be a whole number from 1 to {longest} with {most} items", "max_length")
    return StringListValue(text, most)


def field_rule(said: Mapping[str, Any], patterns: Patterns | None) -> Text | Rewrite:
    return _text(said, patterns) if said["action"] == ALLOW else _rewrite(said, patterns, typed=False)


def _rewrite(said: Mapping[str, Any], patterns: Patterns | None, *, typed: bool) -> Rewrite:
    action = Action(said["action"])
    if said["action"] != TRUNCATE:
        return Rewrite(action)
    text = _text(said, patterns)
    if said["length"] >= text.max_length:
        raise Contradiction(f"must be less than the longest text that fits, {text.max_length}", "length")
    return Rewrite(action, text, said["length"], typed)


def _text(said: Mapping[str, Any], patterns: Patterns | None) -> Text:
    masks = said.get("misfit") == "mask"
    name = said["shape"]
    if name == shapes.ENUM:
        return Text(shapes.enum(said["values"]), max(map(len, said["values"])), masks, patterns)
    shape = shapes.operation(said["verbs"]) if name == shapes.OPERATION else shapes.SHAPES[name]
    return Text(shape, said["max_length"], masks, patterns)


def unknown(word: object, known: Iterable[str]) -> str:
    """That a word is not known, and the nearest that is."""
    near = nearest(word, known)
    return f"is not known; did you mean {near}?" if near else "is not known"


def nearest(word: object, known: Iterable[str]) -> str:
    """The known word that is most like this one; nothing when none is."""
    return next(iter(difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)), "")
