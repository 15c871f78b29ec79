"""Tiers: rules that count for some tenants only, in the place of those for everybody.

A tier names its tenants, by their whole ids or by how they begin (`bank-*`), and the rules that differ. A whole id
counts before a beginning, a longer beginning before a shorter one. What it refuses: rules for what belongs to no single
tenant: resources, scopes, names of metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .rewrites import Rewrite
from .rules import AttributeRule
from .table import TEXT_FIELDS
from .texts import Text

#: The attribute that says whose a record is.
TENANT_ID: Final = "tenant.id"
#: The fields that a tier may have rules for: they stand inside of records.
RECORD_FIELDS: Final = tuple(path for path in TEXT_FIELDS if path.partition(".")[0] in ("Span", "LogRecord"))


@dataclass(frozen=True, slots=True)
class Tier:
    """The rules of some tenants.

    Attributes:
        tenants: whole ids, or beginnings that end in `*`.
        attributes, events, fields: as in a policy; what has no rule here has the one for everybody.
    """

    tenants: tuple[str, ...]
    attributes: Mapping[str, AttributeRule | Rewrite]
    events: Mapping[str, AttributeRule | Rewrite]
    fields: Mapping[str, Text | Rewrite]


class Membership:
    """Which tenant is in which tier."""

    def __init__(self, tiers: Mapping[str, Tier]) -> None:
        self._whole: dict[bytes, str] = {}
        beginnings: dict[bytes, str] = {}
        for name, tier in tiers.items():
            for tenant in tier.tenants:
                if tenant.endswith("*"):
                    beginnings[tenant[:-1].encode()] = name
                else:
                    self._whole[tenant.encode()] = name
        self._beginnings = sorted(beginnings.items(), key=lambda item: -len(item[0]))

    def tier_of(self, tenant: bytes) -> str | None:
        """The name of the tenant's tier; None for who is in none."""
        name = self._whole.get(tenant)
        if name is not None:
            return name
        return next((name for beginning, name in self._beginnings if tenant.startswith(beginning)), None)
