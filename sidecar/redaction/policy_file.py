"""A policy's file → rules. Every mistake in it is one line that names the key; all are found in one reading.

What it refuses: keys that `grammar.py` does not know (with the nearest one it does), values of another type,
rules that contradict themselves, and any expression of one's own: shapes are picked by name.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from . import shapes
from .detectors import MAX_TEXT
from .grammar import ATTRIBUTE, FIELD, FIELDS, MAX_KEY, SECTIONS, VERSION, Choice, Value
from .rules import AttributeRule, BoolValue, DoubleValue, IntValue, StringListValue, StringValue, Text
from .strict_yaml import Document, Place
from .table import TEXT_FIELDS

_EXAMPLE: Final = "{type: string, shape: identifier, max_length: 64}"


class Mistake(NamedTuple):
    """What is wrong, beginning with the key; and on which line of the file, if it is on one."""

    what: str
    line: int | None


class PolicyError(ValueError):
    """The policy cannot be used.

    Attributes:
        mistakes: one line for each, with the file, the line in it and the key that it is about.
    """

    def __init__(self, found: Iterable[Mistake], source: str = "") -> None:
        self.mistakes = tuple(_shown(mistake, source) for mistake in found)
        super().__init__("\n".join(self.mistakes))


def _shown(mistake: Mistake, source: str) -> str:
    if mistake.line is None:
        return f"{source}: {mistake.what}" if source else mistake.what
    return f"{source}:{mistake.line}: {mistake.what}" if source else f"line {mistake.line}: {mistake.what}"


class Reading:
    """One reading of a policy's document; `mistakes` fills up as it goes on."""

    def __init__(self, document: Document) -> None:
        self._lines = document.lines
        self.mistakes: list[Mistake] = []
        self._sections: Mapping[str, Any] = {}
        if not isinstance(document.value, dict):
            self.note((), "the policy must be a mapping of sections")
            return
        self._sections = document.value
        for key in self._sections:
            if key not in (known := ("version", *SECTIONS)):
                self.note((str(key),), unknown(key, known))
        version = self._sections.get("version")
        if type(version) is not int or version != VERSION:
            self.note(("version",), f"must be {VERSION}")
        for section in SECTIONS:
            if section not in self._sections:
                self.note((section,), "is missing")

    def attributes(self, section: str) -> dict[str, AttributeRule]:
        """The rules of an allow-list, by attribute key."""
        rules: dict[str, AttributeRule] = self._each(section, self._is_attribute, ATTRIBUTE, _attribute)
        return rules

    def fields(self) -> dict[str, Text]:
        """The rules of OTLP's own text fields, by path."""
        rules: dict[str, Text] = self._each(FIELDS, self._is_field, FIELD, _text)
        return rules

    def note(self, place: Place, what: str) -> None:
        """Note a mistake."""
        line = next((self._lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self._lines), None)
        self.mistakes.append(Mistake(f"{'.'.join(place)}: {what}" if place else what, line))

    def _each(
        self,
        section: str,
        key_fits: Callable[[Place, str], bool],
        grammar: Mapping[str, Value],
        rule_of: Callable[[dict[str, Any]], Any],
    ) -> dict[str, Any]:
        entries = self._sections.get(section)
        if entries is None:
            return {}
        if not isinstance(entries, dict):
            self.note((section,), "must be a mapping")
            return {}
        rules: dict[str, Any] = {}
        for key, rule in entries.items():
            place = (section, str(key))
            if not isinstance(key, str):
                self.note(place, "the key must be a string; quote it")
            elif not isinstance(rule, dict):
                self.note(place, f"must be a mapping, such as {_EXAMPLE}")
            elif key_fits(place, key):
                said = _Rule(self, place, rule).read(grammar)
                try:
                    rules[key] = None if said is None else rule_of(said)
                except _Contradiction as mistake:
                    self.note((*place, *mistake.keys), mistake.what)
        return rules

    def _is_attribute(self, place: Place, key: str) -> bool:
        if 0 < len(key) <= MAX_KEY:
            return True
        self.note((place[0], key[:32]), f"an attribute's key has 1 to {MAX_KEY} characters")
        return False

    def _is_field(self, place: Place, key: str) -> bool:
        if key in TEXT_FIELDS:
            return True
        self.note(place, unknown(key, TEXT_FIELDS))
        return False


class _Rule:
    """One rule while it is read: the values of known keys are taken out, what is left at the end is a mistake."""

    def __init__(self, reading: Reading, place: Place, rule: Mapping[Any, Any]) -> None:
        self._reading = reading
        self._place = place
        self._left = dict(rule)
        self._known: list[str] = []
        self._said: dict[str, Any] = {}
        # After a choice that cannot be understood it is not known which keys there may be.
        self._complete = True

    def read(self, grammar: Mapping[str, Value]) -> dict[str, Any] | None:
        """What the rule says, by key; None after a mistake."""
        before = len(self._reading.mistakes)
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
        return self._said if len(self._reading.mistakes) == before else None

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
        self._reading.note((*self._place, key), what)


class _Contradiction(ValueError):  # noqa: N818  # the user's, not ours
    """Each key is fine, together they are not."""

    def __init__(self, what: str, *keys: str) -> None:
        super().__init__(what)
        self.what = what
        self.keys = keys


def _attribute(said: Mapping[str, Any]) -> AttributeRule:
    kind = said["type"]
    if kind == "bool":
        return BoolValue()
    if kind in ("int", "double"):
        if not said["min"] <= said["max"]:
            raise _Contradiction("min must be at most max")
        least, most = said["min"], said["max"]
        return IntValue(least, most) if kind == "int" else DoubleValue(float(least), float(most))
    text = _text(said)
    if kind == "string":
        return StringValue(text)
    most = said["max_items"]
    if text.shape.scanned and text.max_length > (longest := MAX_TEXT // most):
        # The items are also read as one text, which must be short enough to be scanned.
        raise _Contradiction(f"must be a whole number from 1 to {longest} with {most} items", "max_length")
    return StringListValue(text, most)


def _text(said: Mapping[str, Any]) -> Text:
    masks = said.get("misfit") == "mask"
    name = said["shape"]
    if name == shapes.ENUM:
        return Text(shapes.enum(said["values"]), max(map(len, said["values"])), masks)
    shape = shapes.operation(said["verbs"]) if name == shapes.OPERATION else shapes.SHAPES[name]
    return Text(shape, said["max_length"], masks)


def unknown(word: object, known: Iterable[str]) -> str:
    """That a word is not known, and the nearest that is."""
    near = nearest(word, known)
    return f"is not known; did you mean {near}?" if near else "is not known"


def nearest(word: object, known: Iterable[str]) -> str:
    """The known word that is most like this one; nothing when none is."""
    return next(iter(difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)), "")
