"""The redaction rules: which attributes and texts may leave, in which shape. What has no rule is dropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Self

from sidecar.configuration import strict_yaml
from sidecar.configuration.strict_yaml import Place
from sidecar.conventions import POLICIES

from .patterns import Patterns
from .policy_file import Mistake, PolicyError, Reading
from .rewrites import Action, Rewrite
from .rules import AttributeRule
from .table import TABLE
from .texts import Text
from .tiers import TENANT_ID, Membership, Tier

__all__ = ["Policy", "PolicyError", "Rule", "shipped_file"]

#: Any rule of a policy.
Rule = AttributeRule | Text | Rewrite

_DIGEST_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules by key; immutable once made, shared by threads.

    Attributes:
        attributes: of spans, metric data points and log records.
        events: of events on spans.
        resource: of resources.
        fields: of OTLP's own text fields, by path such as `Span.name`.
        patterns: what else is a secret here; None without any.
        tiers: rules for some tenants, by the name of their tier.
        source: the name of a shipped policy, or the path of the file, or nothing.
        document: what it was read from.
        lines: where in the source a key stands, by place such as `("attributes", "tenant.id")`.
    """

    attributes: Mapping[str, AttributeRule | Rewrite]
    events: Mapping[str, AttributeRule | Rewrite]
    resource: Mapping[str, AttributeRule | Rewrite]
    fields: Mapping[str, Text | Rewrite]
    patterns: Patterns | None = field(default=None, compare=False)
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    source: str = field(default="", compare=False)
    document: bytes = field(default=b"", compare=False, repr=False)
    lines: Mapping[Place, int] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def default(cls) -> Self:
        """The policy that counts when nobody names another."""
        return cls.load(POLICIES[0])

    @classmethod
    def load(cls, source: str | Path) -> Self:
        """A shipped policy, by its name, or the policy in a YAML file; a file called like one is `./default`.

        Raises:
            PolicyError: the file cannot be read or has mistakes; one line each, with the file's name before
                it.
        """
        if source in POLICIES:
            return cls.parse(shipped_file(f"{source}.yaml"), str(source))
        try:
            content = strict_yaml.read_file(Path(source))
        except strict_yaml.YamlError as error:
            raise PolicyError([Mistake(str(error), None)], str(source)) from None
        return cls.parse(content, str(source))

    @classmethod
    def parse(cls, content: bytes, source: str = "") -> Self:
        """The policy in a YAML document.

        Raises:
            PolicyError: it has mistakes; one line each.
        """
        try:
            document = strict_yaml.parse(content)
        except strict_yaml.YamlError as error:
            raise PolicyError([Mistake(str(error), error.line)], source) from None
        reading = Reading(document)
        policy = cls(
            attributes=reading.attributes("attributes"),
            events=reading.attributes("events"),
            resource=reading.attributes("resource"),
            fields=reading.fields(),
            patterns=reading.patterns(),
            tiers=reading.tiers(),
            source=source,
            document=content,
            lines=document.lines,
        )
        if reading.mistakes:
            raise PolicyError(reading.mistakes, source)
        return policy

    def of_tier(self, name: str) -> Policy:
        """What this policy is for the tenants of a tier: a policy for everybody, with the tier's rules in place."""
        tier = self.tiers[name]
        lines = {place[2:]: line for place, line in self.lines.items() if place[:2] == ("tiers", name)}
        return replace(
            self,
            attributes={**self.attributes, **tier.attributes},
            events={**self.events, **tier.events},
            fields={**self.fields, **tier.fields},
            tiers={},
            lines={**self.lines, **{place: line for place, line in lines.items() if len(place) > 1}},
        )

    def of_tenant(self, tenant: str) -> Policy:
        """What this policy is for one tenant."""
        name = Membership(self.tiers).tier_of(tenant.encode(errors="replace"))
        return replace(self, tiers={}) if name is None else self.of_tier(name)

    @property
    def asks_for_tenants(self) -> bool:
        """Whether it matters whose a record is before its attributes are judged."""
        return bool(self.tiers) or self.is_keyed

    @property
    def is_keyed(self) -> bool:
        """Whether a tenant's own key goes into what leaves of its records, whatever tier it is in."""
        keyed = (rule for (_, key), rule in self.rules.items() if key != TENANT_ID)
        return any(isinstance(rule, Rewrite) and rule.action is Action.PSEUDONYMISE for rule in keyed)

    @property
    def rules(self) -> dict[Place, Rule]:
        """All rules for everybody, by place; in the order of the file."""
        sections: dict[str, Mapping[str, Rule]] = {
            "attributes": self.attributes,
            "events": self.events,
            "resource": self.resource,
            "fields": self.fields,
        }
        return {(section, key): rule for section, rules in sections.items() for key, rule in rules.items()}

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that say which decisions these are: of every field of OTLP and of every rule.

        Comments, order and layout of the file don't count; two policies with one digest treat every key alike.
        """
        decisions: dict[str, Any] = {path: decision.name for path, decision in TABLE.items()}
        decisions |= {f"{section}/{key}": rule.written for (section, key), rule in self.rules.items()}
        if self.patterns is not None:
            decisions["patterns"] = self.patterns.written
        for name, tier in self.tiers.items():
            own = self.of_tier(name).rules
            decisions[f"tiers/{name}"] = sorted(tier.tenants)
            decisions |= {f"tiers/{name}/{'/'.join(place)}": rule.written for place, rule in own.items()}
        return hashlib.sha256(json.dumps(decisions, sort_keys=True).encode()).hexdigest()[:_DIGEST_LENGTH]


def shipped_file(name: str) -> bytes:
    """A file beside the shipped policies."""
    return (resources.files(__package__) / "policies" / name).read_bytes()
