"""Whose records are refused at one moment: what quotas tell redaction, which reads whose a record is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Debtors:
    """The tenants that are in debt at one moment. Immutable; can be sent to another process.

    Attributes:
        tenants: those.
        known: when newcomers share an account that is in debt: those who have one of their own. None when they don't.
    """

    tenants: frozenset[bytes]
    known: frozenset[bytes] | None = None

    def __call__(self, tenant: bytes) -> bool:
        """Whether a record of this tenant is refused now."""
        return tenant in self.tenants or (self.known is not None and tenant not in self.known)
