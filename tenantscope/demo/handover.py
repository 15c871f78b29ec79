"""What the demo's conductor and its application share: the cast, a plan going in, a report coming out.

Plan and report are JSON files in the run's private folder; both hold canaries, so neither ever lies in the
sidecar's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

SERVICE: Final = "tenantscope-demo"
HOG: Final = "acme"
BURSTER: Final = "globex"
FAILER: Final = "initech"
MAILER: Final = "umbrella"
VICTIM: Final = "hooli"

CAST: Final[dict[str, str]] = {
    HOG: "a tool of its team blocks the event loop",
    BURSTER: "sends 200 messages at a time",
    FAILER: "its tools fail, with a secret in the message",
    MAILER: "uses e-mail addresses as agent keys, and the front desk of another",
    VICTIM: "does nothing wrong, and waits for the others",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the application gets to know.

    Attributes:
        marker: first characters of every canary.
        model_url: base URL of the model server.
        report: where the application writes its `Report`.
        log: file for the application's own logging.
        limit: seconds after which the application ends even if nobody tells it to.
    """

    marker: str
    model_url: str
    report: str
    log: str
    limit: float

    def save(self, path: Path) -> None:
        """Write the plan to `path`."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text()))


@dataclass(slots=True)
class Report:
    """What the application did, by its own count.

    Attributes:
        sent: messages that the scenario sent itself, by tenant.
        team_runs: team runs that ended, by tenant.
        errors: exceptions that the scenario provoked, by tenant.
        blocked: how long each blocking call was made to hold the loop, in seconds.
        round_trips: how long each small call of the victim took, in seconds.
        canaries: all that the application planted.
        places: how often something was planted, by place.
        faults: what tenantscope's library says that it dropped or caught, by reason.
    """

    sent: dict[str, int] = field(default_factory=dict)
    team_runs: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    blocked: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)
    canaries: list[str] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the report to `path`."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text()))
