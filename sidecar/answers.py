"""What an operator asks of a running sidecar: is it ready, how does it stand, which spans are there.

What it refuses: to show a client that speaks for some tenants anything of others. Which parts of the status such a
client sees is decided in `admin.scope`; what is not decided there, it does not see.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .admin import scope
from .alerts import Alerts, printable
from .delivery import Delivery
from .destinations import Destinations
from .intake import HttpIntake, Intake
from .ledger import Ledger
from .policy.faces import REDACTED, Faces
from .policy.in_force import PolicyInForce
from .pulse import Pulses
from .senders.clients import ANYBODY, NOBODY, Client
from .senders.quotas import Quotas
from .watchdog import Watchdog
from .workers.pool import Workers


@dataclass(frozen=True, slots=True)
class Answers:
    """Looks at all parts, and changes none.

    Attributes:
        intakes: one for each protocol.
        workers: None where redaction is done in this process.
    """

    ledger: Ledger
    intakes: Sequence[Intake | HttpIntake]
    workers: Workers | None
    policy: PolicyInForce
    quotas: Quotas
    faces: Faces
    delivery: Delivery
    destinations: Destinations
    watchdog: Watchdog
    alerts: Alerts
    pulses: Pulses

    def readiness(self) -> dict[str, bool]:
        """What readiness depends on: that each part can do its work, and was heard of in time."""
        able = {
            "intake": all(each.ready for each in self.intakes),
            "policy": True,  # a stale one is alerted, and no reason to take no telemetry
            "queue": self.delivery.queue.ready,
            # One that is there is reason enough to take telemetry; the others' is on disk until they are.
            "destination": any(self.delivery.ready.values()),
            "watchdog": self.watchdog.ready,
            **({} if self.workers is None else {"workers": self.workers.ready}),
        }
        in_time = self.pulses.in_time()
        return {name: able.get(name, True) and in_time.get(name, True) for name in (*able, *in_time)}

    def spans(self, client: Client, trace_id: str | None, limit: int) -> list[dict[str, Any]] | None:
        """The newest spans in the embedded store that a client may see, of a trace or of all; None without a store."""
        store = self.destinations.store
        if store is None:
            return None
        tenants = self._tenants_of(client)
        found = store.spans(tenants=tenants, trace_id=trace_id, limit=limit)
        return found if tenants is None else scope.spans(found, tenants)

    def status(self, client: Client = ANYBODY) -> dict[str, Any]:
        """The document of `/status`, as far as a client may see it."""
        tenants = self._tenants_of(client)
        document = self._status()
        return document if tenants is None else scope.status(document, tenants)

    def _tenants_of(self, client: Client) -> frozenset[str] | None:
        """The tenants that a client may see, as the policy shows them; None when it may see all."""
        if client.tenants is None:
            return None
        # What several tenants are shown as is nobody's own.
        own = filter(self.policy.stands_apart, client.tenants)
        shown = frozenset(map(self.faces.of, own)) - NOBODY - {REDACTED}
        return shown | frozenset(map(printable, shown))  # as the watchdog writes it

    def _status(self) -> dict[str, Any]:
        store = self.destinations.store
        tenants, fault = ([], "") if store is None else (store.tenants(), store.fault)
        findings, fault = ([], "") if store is None else (store.findings(), fault or store.fault)
        return {
            "version": version(),
            "policy": self.policy.status(),
            "pid": os.getpid(),
            "destination": str(self.destinations),
            "destinations": {
                name: {"ready": ready, "records": self.ledger.records(name)}
                for name, ready in self.delivery.ready.items()
            },
            "records": self.ledger.records(),
            "reasons": self.ledger.reasons(),
            "redactions": self.ledger.redactions(),
            "quotas": self.quotas.status(),
            "loops": self.watchdog.loops(),
            "stalls": self.watchdog.stalls(),
            "alerts": [alert.as_dict() for alert in self.alerts.recent()],
            "tenants": tenants,
            "findings": findings,
            "store_fault": fault,
            "evicted": {} if store is None else store.evicted,
        }


def version() -> str:
    """The installed version of tenantscope."""
    try:
        return importlib.metadata.version("tenantscope")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
