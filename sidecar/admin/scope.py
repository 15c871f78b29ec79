"""What of the sidecar's facts a client sees that speaks for some tenants only: what is about those, and nothing else.

An allow-list, as everything that decides what leaves: a part of `/status` that is not named here is not shown to such a
client. A tenant of somebody else is as absent as one that never was. Where another tenant's name would stand beside its
own, as of who made it wait, `other` stands there; texts that were written for an operator are left out, for they may
name anybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

OTHER: Final = "other"
#: Parts of `/status` that such a client sees none of: they are about the sidecar as a whole.
WITHHELD: Final = frozenset(
    {"policy", "destination", "records", "reasons", "redactions", "evicted", "quotas", "destinations", "health"}
)
_ANNOTATIONS: Final = ("duration_ms", "stack", "runbook_url")
_ALERT: Final = ("name", "status", "labels", "starts_at", "ends_at")
_STALL: Final = (
    "id", "tenant", "service", "instance", "pid", "host", "seconds", "detected_after_ms", "stack", "stack_unavailable",
    "active",
)  # fmt: skip
_VICTIM: Final = "tenantscope.victim"

Json = dict[str, Any]
Owns = Callable[[Any], bool]


def status(document: Mapping[str, Any], tenants: frozenset[str]) -> Json:
    """The part of `/status` that is about these tenants, named as people are shown them."""
    owns = tenants.__contains__
    return {
        "version": document["version"],
        "pid": document["pid"],
        "loops": [
            _loop(loop, owns) for loop in document["loops"] if any(owns(each["tenant"]) for each in loop["tenants"])
        ],
        "stalls": [_stall(stall, owns) for stall in document["stalls"] if owns(stall["tenant"])],
        "alerts": [_alert(alert) for alert in document["alerts"] if owns(alert["labels"].get("tenant_id"))],
        "tenants": [row for row in document["tenants"] if owns(row["tenant"])],
        "findings": [row for row in document["findings"] if owns(row["tenant"])],
        "store_fault": document["store_fault"],  # a word of SQLite's: nothing found is not nothing there
    }


def spans(found: list[Json], tenants: frozenset[str]) -> list[Json]:
    """Spans of these tenants, without the names of others in them."""
    return [
        {
            **span,
            "attributes": {
                key: value for key, value in span["attributes"].items() if key != _VICTIM or value in tenants
            },
        }
        for span in found
        if span["tenant"] in tenants
    ]


def _loop(loop: Json, owns: Owns) -> Json:
    waited: Counter[tuple[str, str]] = Counter()
    for pair in loop["pairs"]:
        culprit, victim = (name if owns(name) else OTHER for name in (pair["culprit"], pair["victim"]))
        if (culprit, victim) != (OTHER, OTHER):
            waited[culprit, victim] += pair["seconds"]
    running = loop["running"]
    kept = ("service", "instance", "host", "pid", "loop_id", "mode", "cannot", "heartbeat_age_seconds")
    return {
        **{key: loop[key] for key in kept},
        "tenants": [each for each in loop["tenants"] if owns(each["tenant"])],
        "pairs": [
            {"culprit": culprit, "victim": victim, "seconds": seconds} for (culprit, victim), seconds in waited.items()
        ],
        "running": running if running is not None and owns(running["tenant"]) else None,
    }


def _stall(stall: Json, owns: Owns) -> Json:
    return {
        **{key: stall[key] for key in _STALL if key in stall},
        "victims": [victim for victim in stall["victims"] if owns(victim)],
    }


def _alert(alert: Json) -> Json:
    kept = {key: alert[key] for key in _ALERT}
    said = {key: alert["annotations"][key] for key in _ANNOTATIONS if key in alert["annotations"]}
    return {**kept, "annotations": {"summary": f"{alert['name']}: tenant {alert['labels']['tenant_id']}", **said}}
