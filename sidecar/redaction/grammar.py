"""What a policy's file may say: the one table that reads files (`policy_file.py`) and writes the schema for
editors (`json_schema.py`).

A rule is a mapping; a `Value` says what may stand behind one of its keys. A `Choice` is a word that brings
further keys with it: `shape: enum` brings `values`. What is not here is a mistake.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from . import shapes
from .detectors import MAX_TEXT

VERSION: Final = 1
ATTRIBUTE_SECTIONS: Final = ("attributes", "events", "resource")
FIELDS: Final = "fields"
SECTIONS: Final = (*ATTRIBUTE_SECTIONS, FIELDS)
#: Sections that may be missing: patterns by name; rules for some tenants, by the name of their tier.
PATTERNS: Final = "patterns"
TIERS: Final = "tiers"
OPTIONAL_SECTIONS: Final = (PATTERNS, TIERS)
#: What a tier says besides the tenants that are in it.
TIER_SECTIONS: Final = ("attributes", "events", FIELDS)
MAX_TIERS: Final = 32
MAX_KEY: Final = 255

_INT64: Final = 1 << 63
_LARGEST: Final = sys.float_info.max


class Value(Protocol):
    """What may stand behind a key."""

    @property
    def what(self) -> str:
        """In words, to go on after "must be"."""

    def fits(self, value: object) -> bool:
        """Whether this is one, of exactly this type: nothing is converted."""

    def schema(self) -> dict[str, Any]:
        """The same in JSON Schema."""


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number from 1 to `most`."""

    most: int

    @property
    def what(self) -> str:
        return f"a whole number from 1 to {self.most}"

    def fits(self, value: object) -> bool:
        # `type`, here and below, for True is an int to isinstance.
        return type(value) is int and 1 <= value <= self.most

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": 1, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number of 64 bits."""

    what = "a whole number of 64 bits"

    def fits(self, value: object) -> bool:
        return type(value) is int and -_INT64 <= value < _INT64

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": -_INT64, "maximum": _INT64 - 1}


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number."""

    what = "a finite number"

    def fits(self, value: object) -> bool:
        # Not a number is beyond no bound, and within none.
        return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST  # type: ignore[operator]

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": -_LARGEST, "maximum": _LARGEST}


@dataclass(frozen=True, slots=True)
class Words:
    """Different strings."""

    what = f"a list of different strings of 1 to {MAX_TEXT} characters; quote yes, no and numbers"

    def fits(self, value: object) -> bool:
        if type(value) is not list or not all(type(word) is str and 0 < len(word) <= MAX_TEXT for word in value):
            return False
        return 0 < len(value) == len(set(value))

    def schema(self) -> dict[str, Any]:
        word = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
        return {"type": "array", "items": word, "minItems": 1, "uniqueItems": True}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words, each with the keys that it brings; with a `default` the key may be missing."""

    brings: Mapping[str, Mapping[str, Value]]
    default: str | None = None

    @property
    def what(self) -> str:
        return f"one of {', '.join(self.brings)}"

    def fits(self, value: object) -> bool:
        return type(value) is str and value in self.brings

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.brings)}


_LENGTH: Final = Count(MAX_TEXT)
_SHAPE: Final = Choice(
    {name: {"max_length": _LENGTH} for name in shapes.SHAPES}
    | {shapes.ENUM: {"values": Words()}, shapes.OPERATION: {"verbs": Words(), "max_length": _LENGTH}}
)
_TYPE: Final = Choice(
    {
        "string": {"shape": _SHAPE},
        "string[]": {"shape": _SHAPE, "max_items": Count(64)},
        "int": {"min": Whole(), "max": Whole()},
        "double": {"min": Number(), "max": Number()},
        "bool": {},
    }
)

#: What a rule does when it does not say: let pass what fits.
ALLOW: Final = "allow"
TRUNCATE: Final = "truncate"
_REWRITES: Final[Mapping[str, Mapping[str, Value]]] = {"drop": {}, "mask": {}, "hash": {}, "pseudonymise": {}}

#: The keys of a rule for an attribute, and of one for a field of OTLP.
ATTRIBUTE: Final[Mapping[str, Value]] = {
    "action": Choice(
        {
            ALLOW: {"type": _TYPE},
            TRUNCATE: {"type": Choice({"string": {"shape": _SHAPE}}), "length": _LENGTH},
            **_REWRITES,
        },
        default=ALLOW,
    )
}
FIELD: Final[Mapping[str, Value]] = {
    "action": Choice(
        {
            ALLOW: {"shape": _SHAPE, "misfit": Choice({"drop": {}, "mask": {}}, default="drop")},
            TRUNCATE: {"shape": _SHAPE, "length": _LENGTH},
            **_REWRITES,
        },
        default=ALLOW,
    )
}
