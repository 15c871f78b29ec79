"""A policy's file → rules. Every mistake in it is one line that names the key; all are found in one reading.

What it refuses: sections, tiers and patterns that are not known or not well made. Rules are read by `rule_file.py`;
shapes are picked by name, and expressions of one's own only ever mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sidecar.configuration.strict_yaml import Document, Place

from .detectors import REASONS
from .grammar import (
    ATTRIBUTE,
    FIELD,
    FIELDS,
    MAX_KEY,
    MAX_TIERS,
    OPTIONAL_SECTIONS,
    PATTERNS,
    SECTIONS,
    TIER_SECTIONS,
    TIERS,
    VERSION,
    Value,
    Words,
)
from .patterns import MAX_EXPRESSION, MAX_PATTERNS, Patterns, compile_pattern, is_name
from .rewrites import POLICY, Rewrite
from .rule_file import Contradiction, RuleReading, attribute_rule, field_rule, unknown
from .rules import AttributeRule
from .table import TEXT_FIELDS
from .texts import Text
from .tiers import RECORD_FIELDS, Tier

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
        self._patterns: Patterns | None = None
        if not isinstance(document.value, dict):
            self.note((), "the policy must be a mapping of sections")
            return
        self._sections = document.value
        for key in self._sections:
            if key not in (known := ("version", *SECTIONS, *OPTIONAL_SECTIONS)):
                self.note((str(key),), unknown(key, known))
        version = self._sections.get("version")
        if type(version) is not int or version != VERSION:
            self.note(("version",), f"must be {VERSION}")
        for section in SECTIONS:
            if section not in self._sections:
                self.note((section,), "is missing")

        self._patterns = self._read_patterns()

    def attributes(self, section: str) -> dict[str, AttributeRule | Rewrite]:
        """The rules of an allow-list, by attribute key."""
        return self._attributes((section,), self._sections.get(section))

    def fields(self) -> dict[str, Text | Rewrite]:
        """The rules of OTLP's own text fields, by path."""
        return self._fields((FIELDS,), self._sections.get(FIELDS), TEXT_FIELDS)

    def patterns(self) -> Patterns | None:
        """The policy's own patterns, which all of its rules look for; None without any."""
        return self._patterns

    def tiers(self) -> dict[str, Tier]:
        """The rules for some tenants, by the name of their tier."""
        tiers: dict[str, Tier] = {}
        taken: dict[str, str] = {}
        for name, said in self._named(TIERS, MAX_TIERS):
            place = (TIERS, name)
            if not isinstance(said, dict):
                self.note(place, "must be a mapping of tenants and sections")
                continue
            for key in said:
                if key not in (known := ("tenants", *TIER_SECTIONS)):
                    self.note((*place, str(key)), unknown(key, known))
            tiers[name] = Tier(
                tenants=self._tenants((*place, "tenants"), said.get("tenants"), name, taken),
                attributes=self._attributes((*place, "attributes"), said.get("attributes")),
                events=self._attributes((*place, "events"), said.get("events")),
                fields=self._fields((*place, FIELDS), said.get(FIELDS), RECORD_FIELDS),
            )
        return tiers

    def _read_patterns(self) -> Patterns | None:
        written: dict[str, str] = {}
        for name, expression in self._named(PATTERNS, MAX_PATTERNS):
            place = (PATTERNS, name)
            if name in (*REASONS, POLICY):
                self.note(place, "is the name of a built-in detector; choose another")
            elif not isinstance(expression, str) or not 0 < len(expression) <= MAX_EXPRESSION:
                self.note(place, f"must be an expression of 1 to {MAX_EXPRESSION} characters; quote it")
            else:
                try:
                    compile_pattern(expression)
                except ValueError as mistake:
                    self.note(place, str(mistake))
                else:
                    written[name] = expression
        return Patterns(written) if written else None

    def _named(self, section: str, most: int) -> Iterator[tuple[str, Any]]:
        """What stands in an optional section, by names that we allow."""
        entries = self._sections.get(section)
        if entries is None:
            return
        if not isinstance(entries, dict):
            self.note((section,), "must be a mapping")
            return
        if len(entries) > most:
            self.note((section,), f"must have at most {most} entries")
            return
        for name, said in entries.items():
            if isinstance(name, str) and is_name(name):
                yield name, said
            else:
                self.note((section, str(name)), "a name has 1 to 32 small letters, digits and dashes, a letter first")

    def _tenants(self, place: Place, said: object, tier: str, taken: dict[str, str]) -> tuple[str, ...]:
        words = Words()
        if not isinstance(said, list) or not words.fits(said):
            self.note(place, f"must be {words.what}" if said is not None else "is missing")
            return ()
        for index, tenant in enumerate(said):
            # Mistakes get into logs and alerts; ids of tenants don't.
            if "*" in tenant.removesuffix("*") or tenant == "*":
                self.note((*place, str(index)), "a tenant is a whole id or a beginning with one * at its end")
            elif tenant in taken:
                self.note((*place, str(index)), f"is in the tier {taken[tenant]}, too")
            taken[tenant] = tier
        return tuple(said)

    def _attributes(self, place: Place, entries: object) -> dict[str, AttributeRule | Rewrite]:
        rules: dict[str, AttributeRule | Rewrite] = self._each(
            place, entries, self._is_attribute, ATTRIBUTE, lambda said: attribute_rule(said, self._patterns)
        )
        return rules

    def _fields(self, place: Place, entries: object, known: Sequence[str]) -> dict[str, Text | Rewrite]:
        rules: dict[str, Text | Rewrite] = self._each(
            place,
            entries,
            lambda place, key: self._is_field(place, key, known),
            FIELD,
            lambda said: field_rule(said, self._patterns),
        )
        return rules

    def note(self, place: Place, what: str) -> None:
        """Note a mistake."""
        line = next((self._lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self._lines), None)
        self.mistakes.append(Mistake(f"{'.'.join(place)}: {what}" if place else what, line))

    def _each(
        self,
        around: Place,
        entries: object,
        key_fits: Callable[[Place, str], bool],
        grammar: Mapping[str, Value],
        rule_of: Callable[[dict[str, Any]], Any],
    ) -> dict[str, Any]:
        if entries is None:
            return {}
        if not isinstance(entries, dict):
            self.note(around, "must be a mapping")
            return {}
        rules: dict[str, Any] = {}
        for key, rule in entries.items():
            place = (*around, str(key))
            if not isinstance(key, str):
                self.note(place, "the key must be a string; quote it")
            elif not isinstance(rule, dict):
                self.note(place, f"must be a mapping, such as {_EXAMPLE}")
            elif key_fits(place, key):
                said = RuleReading(self.note, place, rule).read(grammar)
                try:
                    rules[key] = None if said is None else rule_of(said)
                except Contradiction as mistake:
                    self.note((*place, *mistake.keys), mistake.what)
        return rules

    def _is_attribute(self, place: Place, key: str) -> bool:
        if 0 < len(key) <= MAX_KEY:
            return True
        self.note((*place[:-1], key[:32]), f"an attribute's key has 1 to {MAX_KEY} characters")
        return False

    def _is_field(self, place: Place, key: str, known: Sequence[str]) -> bool:
        if key in known:
            return True
        if key in TEXT_FIELDS:
            self.note(place, "belongs to no tenant; its rule stands under `fields`")
        else:
            self.note(place, unknown(key, known))
        return False
