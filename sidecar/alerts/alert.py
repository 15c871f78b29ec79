"""What an alert is, and how foreign text gets into one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal


def printable(text: str, limit: int = 512) -> str:
    """`text` on one line and at most `limit` characters long: what a terminal or a log would obey is escaped.

    Control characters, line breaks, escape sequences, bidirectional overrides and lone surrogates all count.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class Alert:
    """A verdict that changed.

    Attributes:
        name: one of `conventions.ALERT_NAMES`; the label `alertname`.
        status: `firing` when it came to hold, `resolved` when it ceased to.
        labels: what it is about; the same for both changes.
        annotations: what a person on call wants to read.
        starts_at: when it came to hold; the same for both changes.
        ends_at: when it ceased to; None while firing.
        fingerprint: of the labels; stable between processes and versions.
    """

    name: str
    status: Literal["firing", "resolved"]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: datetime
    ends_at: datetime | None = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
        object.__setattr__(self, "annotations", MappingProxyType(dict(self.annotations)))
        canonical = json.dumps(sorted(self.labels.items()), ensure_ascii=True).encode("ascii")
        object.__setattr__(self, "fingerprint", hashlib.sha256(canonical).hexdigest()[:16])

    @property
    def about(self) -> str:
        """The tenant; the instance for an alert that names none."""
        return (
            self.labels.get("tenant_id") or f"{self.labels.get('service_name', '')}/{self.labels.get('instance', '')}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; times in RFC 3339, UTC."""
        return {
            "name": self.name,
            "status": self.status,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "starts_at": rfc3339(self.starts_at),
            "ends_at": None if self.ends_at is None else rfc3339(self.ends_at),
        }


def rfc3339(moment: datetime) -> str:
    """In UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
