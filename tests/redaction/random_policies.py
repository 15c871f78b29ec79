"""Policies drawn at random, by number: rules of all kinds, ranges below zero, patterns, tiers, hashes, cut texts."""

from __future__ import annotations

import json
import random
from typing import Any, Final

from sidecar.redaction import Policy, shapes
from sidecar.redaction.table import TEXT_FIELDS
from sidecar.redaction.tiers import RECORD_FIELDS

#: Those that are tried.
POLICIES: Final = 60
#: Keys that most of them have rules for.
KEYS: Final = (
    "tenant.id", "tenantscope.victim", "a", "b", "gen_ai.tool.name", "gen_ai.agent.name", "n", "tokens", "d", "flag",
    "list", "exception.type", "kind", "a" * 100, "a" * 125,
)  # fmt: skip


def policy(seed: int) -> Policy:
    """A policy with rules of all kinds, by its number; the same each time."""
    chance = random.Random(seed)
    patterns = chance.random() < 0.15
    said: dict[str, Any] = {
        "version": 1,
        "attributes": _attribute_rules(chance),
        "events": _attribute_rules(chance),
        "resource": _attribute_rules(chance),
        "fields": _field_rules(chance, TEXT_FIELDS),
    }
    if patterns:
        said["patterns"] = {"project": "(?i)project-[a-z]+", "digits": "[0-9]{5}"}
    if chance.random() < 0.4:
        said["tiers"] = {
            "one": {"tenants": ["acme", "tenant-*"], "attributes": _attribute_rules(chance)},
            "two": {
                "tenants": ["globex", "bank-*"],
                "attributes": _attribute_rules(chance),
                "events": _attribute_rules(chance),
                "fields": _field_rules(chance, RECORD_FIELDS),
            },
        }
    return Policy.parse(json.dumps(said).encode())


def _attribute_rules(chance: random.Random) -> dict[str, dict[str, Any]]:
    return {key: _attribute_rule(chance) for key in KEYS if chance.random() < 0.7}


def _attribute_rule(chance: random.Random) -> dict[str, Any]:
    match chance.randrange(12):
        case 0:
            return {"action": chance.choice(("drop", "mask", "hash", "pseudonymise"))}
        case 1:
            return {"action": "truncate", "type": "string", "length": 3, **_shape(chance)}
        case 2:
            least = chance.choice((-(2**62), -300, -1, 0, 1, 100))
            return {"type": "int", "min": least, "max": least + chance.choice((0, 1, 99, 200, 2**20, 2**62))}
        case 3:
            least = chance.choice((-1.5e9, -2.5, 0, 1))
            return {"type": "double", "min": least, "max": least + chance.choice((0, 1, 1.5e9))}
        case 4:
            return {"type": "bool"}
        case 5:
            return {"type": "string[]", **_shape(chance, 40), "max_items": 3}
        case _:
            return {"type": "string", **_shape(chance)}


def _field_rules(chance: random.Random, fields: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    rules: dict[str, dict[str, Any]] = {}
    for field in fields:
        match chance.randrange(8):
            case 0:
                continue
            case 1:
                rules[field] = {"action": chance.choice(("drop", "mask", "hash", "pseudonymise"))}
            case 2:
                rules[field] = {"action": "truncate", "length": 3, **_shape(chance)}
            case _:
                rules[field] = {**_shape(chance), "misfit": chance.choice(("drop", "mask"))}
    return rules


def _shape(chance: random.Random, most: int = 300) -> dict[str, Any]:
    match chance.randrange(8):
        case 0:
            return {"shape": "enum", "values": ["send", "publish", "a\nb", "ünï", "0", "bob@example.com"]}
        case 1:
            return {"shape": "operation", "verbs": ["chat", "process", "a.b"], "max_length": most}
        case 2:
            return {"shape": chance.choice([*shapes.SHAPES]), "max_length": most}
        case 3 | 4:
            return {"shape": chance.choice(("tenant", "free")), "max_length": most}
        case _:
            return {"shape": "identifier", "max_length": chance.choice((4, 20, most))}
