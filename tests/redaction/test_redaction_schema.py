"""The JSON Schema for editors and the reader of policies say the same, for they are made from one grammar."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.conventions import POLICIES
from sidecar.redaction import Policy, PolicyError, json_schema
from sidecar.redaction.policy import shipped_file

SCHEMA = json_schema.schema()
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}
#: What the schema cannot say.
ARITHMETIC = re.compile(
    r": (min must be at most max|must be less than the longest text that fits, \d+|is not an expression of RE2: .*"
    r"|must be a whole number from 1 to \d+ with \d+ items)$"
)


def valid(value: Any, schema: Any) -> bool:
    """As much of a JSON Schema validator as the schema needs; an unknown keyword is an error."""
    return all(KEYWORDS[keyword](value, said, schema) for keyword, said in schema.items())


def _referred(reference: str) -> Any:
    return SCHEMA["definitions"][reference.removeprefix("#/definitions/")]


def _is_one(value: Any, names: str | list[str]) -> bool:
    kinds = tuple(TYPES[name] for name in ([names] if isinstance(names, str) else names))
    # JSON's true is no number.
    return not isinstance(value, bool) and any(isinstance(value, kind) for kind in kinds)


def _others_fit(value: Any, said: Any, schema: Any) -> bool:
    others = {key: inner for key, inner in value.items() if key not in schema.get("properties", {})}
    return not others if said is False else all(valid(inner, said) for inner in others.values())


def _only_for(kind: Any, check: Any) -> Any:
    """A keyword that says nothing about values of another type."""
    return lambda value, said, schema: (
        not isinstance(value, kind) or isinstance(value, bool) or check(value, said, schema)
    )


KEYWORDS = {
    "$schema": lambda *_: True,
    "title": lambda *_: True,
    "definitions": lambda *_: True,
    "$ref": lambda value, said, _: valid(value, _referred(said)),
    "anyOf": lambda value, said, _: any(valid(value, each) for each in said),
    "type": lambda value, said, _: _is_one(value, said),
    "const": lambda value, said, _: value == said and type(value) is type(said),
    "enum": lambda value, said, _: value in said,
    "minimum": _only_for((int, float), lambda value, said, _: value >= said),
    "maximum": _only_for((int, float), lambda value, said, _: value <= said),
    "minLength": _only_for(str, lambda value, said, _: len(value) >= said),
    "maxLength": _only_for(str, lambda value, said, _: len(value) <= said),
    "minItems": _only_for(list, lambda value, said, _: len(value) >= said),
    "uniqueItems": _only_for(list, lambda value, *_: all(value.count(item) == 1 for item in value)),
    "items": _only_for(list, lambda value, said, _: all(valid(item, said) for item in value)),
    "required": _only_for(dict, lambda value, said, _: set(said) <= set(value)),
    "properties": _only_for(dict, lambda value, said, _: all(valid(value[k], said[k]) for k in said if k in value)),
    "propertyNames": _only_for(dict, lambda value, said, _: all(valid(key, said) for key in value)),
    "maxProperties": _only_for(dict, lambda value, said, _: len(value) <= said),
    "pattern": _only_for(str, lambda value, said, _: re.search(said, value) is not None),
    "additionalProperties": _only_for(dict, _others_fit),
}


def accepted(document: Any) -> bool:
    """Whether the reader takes it, arithmetic aside."""
    try:
        Policy.parse(yaml.safe_dump(document, allow_unicode=True).encode())
    except PolicyError as error:
        return all(ARITHMETIC.search(mistake) for mistake in error.mistakes)
    return True


def test_the_schema_in_the_package_is_up_to_date() -> None:
    """`python -m sidecar.redaction.json_schema > sidecar/redaction/policies/schema.json` renews it."""
    assert shipped_file("schema.json").decode() == json_schema.text()


@pytest.mark.parametrize("name", POLICIES)
def test_shipped_policies_fit_the_schema_and_name_it(name: str) -> None:
    """Editors find the schema by the first line."""
    content = shipped_file(f"{name}.yaml").decode()
    assert content.startswith("# yaml-language-server: $schema=schema.json\n")
    assert valid(yaml.safe_load(content), SCHEMA)


ACTIONS = ["allow", "drop", "mask", "hash", "pseudonymise", "truncate"]
WORDS = ["string", "string[]", "int", "double", "bool", "identifier", "enum", "operation", "uuid", "mask", "drop", "x"]
ODD = st.one_of(
    st.sampled_from([0, 1, 64, 65, 1024, 1025, -1, 2**63, -(2**63), 10**400, 0.5, 1.0, True, None, "", "x" * 1025]),
    st.sampled_from([[], ["a"], ["a", "a"], ["a", "b"], [""], [1], {}, {"a": 1}]),
)
RULES = st.one_of(
    ODD,
    st.dictionaries(
        st.sampled_from(["type", "shape", "max_length", "max_items", "values", "verbs", "min", "max", "misfit", "x"]),
        st.one_of(ODD, st.sampled_from(WORDS)),
    ),
    st.fixed_dictionaries(
        {"action": st.sampled_from([*ACTIONS, "keep"])},
        optional={
            "type": st.sampled_from(["string", "int"]),
            "shape": st.sampled_from(WORDS[5:9]),
            "max_length": st.sampled_from([2, 64]),
            "length": st.sampled_from([0, 1, 64, "1"]),
            "values": st.just(["a"]),
        },
    ),
    # Nearly right ones, which chance alone would hardly make.
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(WORDS[:2]),
            "shape": st.sampled_from(WORDS[5:9]),
            "max_length": st.sampled_from([1, 64, 1024, 1025]),
        },
        optional={"max_items": st.integers(0, 65), "values": st.just(["a"]), "verbs": st.just(["a", "b"]), "min": ODD},
    ),
    st.fixed_dictionaries({"type": st.sampled_from(["int", "double"]), "min": ODD, "max": ODD}),
    st.fixed_dictionaries(
        {"shape": st.sampled_from(WORDS[5:9]), "max_length": st.sampled_from([1, 1024, 1025])},
        optional={"misfit": st.sampled_from(["mask", "drop", "keep", None]), "values": st.just(["a"])},
    ),
)
SECTION = st.one_of(
    st.none(), st.just([]), st.dictionaries(st.sampled_from(["a.key", "", "k" * 255, "k" * 256]), RULES)
)
FIELDS = st.one_of(st.none(), st.dictionaries(st.sampled_from(["Span.name", "Metric.unit", "Span.kind", "x"]), RULES))


@given(
    document=st.fixed_dictionaries(
        {"attributes": SECTION, "fields": FIELDS},
        optional={
            "version": st.sampled_from([1, 1, 1, 2, True, "1", None]),
            "events": st.just({}),
            "resource": st.none(),
            "more": st.just({}),
            "patterns": st.one_of(
                ODD, st.dictionaries(st.sampled_from(["order", "x-1", "Order", "", "1x"]), st.just("ORD-[0-9]+") | ODD)
            ),
            "tiers": st.one_of(
                ODD,
                st.dictionaries(
                    st.sampled_from(["quiet", "x" * 32, "x" * 33, "Loud"]),
                    st.one_of(
                        ODD,
                        st.fixed_dictionaries(
                            {"tenants": st.sampled_from([["bank"], [], "bank", ["bank", "bank-*"]])},
                            optional={"attributes": SECTION, "fields": FIELDS, "resource": st.none()},
                        ),
                    ),
                    max_size=1,
                ),
            ),
        },
    )
)
@settings(max_examples=300, deadline=None)
def test_schema_and_reader_agree_on_documents(document: Any) -> None:
    """Sections, keys, versions: both take it or neither does."""
    assert valid(document, SCHEMA) == accepted(document)


@given(section=st.sampled_from(["attributes", "fields"]), rule=RULES)
@settings(max_examples=600, deadline=None)
def test_schema_and_reader_agree_on_rules(section: str, rule: Any) -> None:
    """In a document with nothing else in it, so that the rule alone decides."""
    document = {"version": 1, "attributes": {}, "events": {}, "resource": {}, "fields": {}}
    document[section] = {"Span.name": rule}
    assert valid(document, SCHEMA) == accepted(document)
