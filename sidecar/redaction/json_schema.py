"""The grammar of policies as JSON Schema, for editors that complete and check while one types.

`python -m sidecar.redaction.json_schema` prints it; the result lies beside the shipped policies, and a test
holds the two together. It says what stands alone in `grammar.py`. What needs arithmetic, such as `min` being at
most `max`, only `tenantscope policy check` knows.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from .grammar import (
    ATTRIBUTE,
    ATTRIBUTE_SECTIONS,
    FIELD,
    FIELDS,
    MAX_KEY,
    MAX_TIERS,
    PATTERNS,
    SECTIONS,
    TIERS,
    VERSION,
    Choice,
    Value,
    Words,
)
from .patterns import MAX_EXPRESSION, MAX_PATTERNS, NAME
from .table import TEXT_FIELDS
from .tiers import RECORD_FIELDS

_DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_SECTION_TYPES: Final = ["object", "null"]  # an empty section is none


def schema() -> dict[str, Any]:
    """The schema of a policy's file."""
    attributes = {
        "type": _SECTION_TYPES,
        "propertyNames": {"minLength": 1, "maxLength": MAX_KEY},
        "additionalProperties": {"$ref": "#/definitions/attribute"},
    }
    tier = {
        "type": "object",
        "properties": {
            "tenants": Words().schema(),
            "attributes": attributes,
            "events": attributes,
            FIELDS: _fields(RECORD_FIELDS),
        },
        "required": ["tenants"],
        "additionalProperties": False,
    }
    return {
        "$schema": _DRAFT,
        "title": "redaction policy of the tenantscope sidecar",
        "type": "object",
        "properties": {
            "version": {"const": VERSION},
            **dict.fromkeys(ATTRIBUTE_SECTIONS, attributes),
            FIELDS: _fields(TEXT_FIELDS),
            PATTERNS: {
                "type": _SECTION_TYPES,
                "propertyNames": {"pattern": f"^{NAME}$"},
                "additionalProperties": {"type": "string", "minLength": 1, "maxLength": MAX_EXPRESSION},
                "maxProperties": MAX_PATTERNS,
            },
            TIERS: {
                "type": _SECTION_TYPES,
                "propertyNames": {"pattern": f"^{NAME}$"},
                "additionalProperties": tier,
                "maxProperties": MAX_TIERS,
            },
        },
        "required": ["version", *SECTIONS],
        "additionalProperties": False,
        "definitions": {"attribute": _any_of(ATTRIBUTE), "field": _any_of(FIELD)},
    }


def _fields(paths: Iterable[str]) -> dict[str, Any]:
    return {
        "type": _SECTION_TYPES,
        "properties": {path: {"$ref": "#/definitions/field"} for path in paths},
        "additionalProperties": False,
    }


def _any_of(grammar: Mapping[str, Value]) -> dict[str, Any]:
    return {"anyOf": [_mapping(form) for form in _forms(grammar)]}


def _mapping(form: Mapping[str, Value]) -> dict[str, Any]:
    optional = {key for key, value in form.items() if isinstance(value, Choice) and value.default is not None}
    return {
        "type": "object",
        "properties": {key: value.schema() for key, value in form.items()},
        "required": [key for key in form if key not in optional],
        "additionalProperties": False,
    }


def _forms(grammar: Mapping[str, Value]) -> Iterator[dict[str, Value]]:
    """Every set of keys that a rule may have: choices unfolded, those of one set together."""
    for key, value in grammar.items():
        if isinstance(value, Choice) and any(value.brings.values()):
            sets: list[Mapping[str, Value]] = []
            for brought in value.brings.values():
                if brought in sets:
                    continue
                sets.append(brought)
                words: dict[str, Mapping[str, Value]] = {
                    word: {} for word, other in value.brings.items() if other == brought
                }
                alike = Choice(words, value.default if value.default in words else None)
                yield from _forms({**grammar, key: alike, **brought})
            return
    yield dict(grammar)


def text() -> str:
    """The schema as it lies in the package."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
