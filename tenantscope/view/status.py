"""The sidecar's `/status` as typed values. Times are in seconds, unless a name says otherwise.

What it refuses: a document that is no JSON object. Anything else is read as far as it goes, see `fields.py`; what does
not fit is counted in `Status.faults`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Final

from .fields import Fields

# What becomes of a record that was received.
WAYS_TO_END: Final = ("forwarded", "rejected", "dropped", "queued")

_SIGNALS: Final = 8
_DESTINATIONS: Final = 64
_FRAMES: Final = 128
_VICTIMS: Final = 256
_LABELS: Final = 16
_SENTENCES: Final = 4

LoopKey = tuple[str, str, int, int]


class NotAStatusError(ValueError):
    """It cannot be the document of `/status`; the text says why."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one tenant had of one loop, since the loop began; `queued` messages waited `queue_seconds` together."""

    tenant: str
    loop_seconds: float
    slices: int
    longest_seconds: float
    delay_suffered_seconds: float
    delay_caused_seconds: float
    waits: int
    queue_seconds: float
    queued: int


@dataclass(frozen=True, slots=True)
class Pair:
    """How long one tenant's ready work waited for another's slices, since the loop began; `other` twice: the rest."""

    culprit: str
    victim: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Running:
    """Who has a loop at this moment, and for how long already."""

    tenant: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Loop:
    """One event loop under watch; `running` is None while it idles.

    Attributes:
        mode: how it is watched: `cell`, `cell_alone` or `heartbeats`.
        cannot: what that way cannot tell, a sentence each.
    """

    service: str
    instance: str
    pid: int
    loop_id: int
    tenants: tuple[Share, ...]
    running: Running | None
    heartbeat_age_seconds: float
    pairs: tuple[Pair, ...] = ()
    mode: str = "cell"
    cannot: tuple[str, ...] = ()

    @property
    def key(self) -> LoopKey:
        """Which loop it is, from one status to the next."""
        return self.service, self.instance, self.pid, self.loop_id


@dataclass(frozen=True, slots=True)
class Stall:
    """One overdue slice; the innermost frame of `stack` is the last. `began_at` is RFC 3339, or empty."""

    id: int
    tenant: str
    service: str
    instance: str
    pid: int
    seconds: float
    detected_after_ms: float
    stack: tuple[str, ...]
    stack_unavailable: str | None
    active: bool
    victims: tuple[str, ...]
    began_at: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """A verdict that changed; `ends_at` is None while it holds. Times are RFC 3339."""

    name: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: str
    ends_at: str | None


@dataclass(frozen=True, slots=True)
class Stored:
    """What the embedded store knows of one tenant; there is none when telemetry goes upstream."""

    tenant: str
    messages: int
    errors: int
    tokens: int
    spans: int
    findings: int


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule of isolation that was seen broken, with a tenant who was part of it."""

    tenant: str
    rule: str
    count: int


@dataclass(frozen=True, slots=True)
class Status:
    """One answer of a sidecar; stalls and alerts are in the order in which they came.

    Attributes:
        records: by signal, what came in and what became of it.
        forwarded: spans that arrived, by the name of each destination.
        store_fault: why the sidecar's store cannot be read; what it knows of tenants is missing then.
        faults: values that were not what they should be.
    """

    version: str = ""
    pid: int = 0
    destination: str = ""
    records: dict[str, dict[str, int]] = field(default_factory=dict)
    forwarded: dict[str, int] = field(default_factory=dict)
    loops: tuple[Loop, ...] = ()
    stalls: tuple[Stall, ...] = ()
    alerts: tuple[Alert, ...] = ()
    tenants: tuple[Stored, ...] = ()
    findings: tuple[Finding, ...] = ()
    store_fault: str = ""
    faults: int = 0


def read(body: bytes) -> Status:
    """The status in the body of an answer.

    Raises:
        NotAStatusError: it is no JSON object.
    """
    try:
        document = json.loads(body)
    except RecursionError:
        raise NotAStatusError("its answer is nested too deeply") from None
    except ValueError:
        raise NotAStatusError("its answer is not JSON") from None
    if not isinstance(document, dict):
        raise NotAStatusError("its answer is not a JSON object")
    faults: list[str] = []
    status = Fields(document, faults)
    records, destinations = status.record("records"), status.record("destinations")
    return Status(
        version=status.text("version"),
        pid=status.count("pid"),
        destination=status.text("destination"),
        records={name: records.record(name).counts() for name in records.names(_SIGNALS)},
        forwarded={
            name: destinations.record(name).record("records").record("traces").count("forwarded")
            for name in destinations.names(_DESTINATIONS)
        },
        loops=tuple(map(_loop, status.each("loops"))),
        stalls=tuple(map(_stall, status.each("stalls"))),
        alerts=tuple(map(_alert, status.each("alerts"))),
        tenants=tuple(map(_stored, status.each("tenants"))),
        findings=tuple(map(_finding, status.each("findings"))),
        store_fault=status.text("store_fault"),
        faults=len(faults),
    )


def _loop(loop: Fields) -> Loop:
    running = loop.record("running") if loop.has("running") else None
    return Loop(
        service=loop.text("service"),
        instance=loop.text("instance"),
        pid=loop.count("pid"),
        loop_id=loop.count("loop_id"),
        tenants=tuple(map(_share, loop.each("tenants"))),
        running=None if running is None else Running(running.text("tenant"), running.number("seconds")),
        heartbeat_age_seconds=loop.number("heartbeat_age_seconds"),
        pairs=tuple(
            Pair(pair.text("culprit"), pair.text("victim"), pair.number("seconds")) for pair in loop.each("pairs")
        ),
        mode=loop.text("mode") or "cell",
        cannot=loop.texts("cannot", _SENTENCES),
    )


def _share(entry: Fields) -> Share:
    return Share(
        tenant=entry.text("tenant"),
        loop_seconds=entry.number("loop_seconds"),
        slices=entry.count("slices"),
        longest_seconds=entry.number("longest_seconds"),
        delay_suffered_seconds=entry.number("delay_suffered_seconds"),
        delay_caused_seconds=entry.number("delay_caused_seconds"),
        waits=entry.count("waits"),
        queue_seconds=entry.number("queue_seconds"),
        queued=entry.count("queued"),
    )


def _stall(stall: Fields) -> Stall:
    return Stall(
        id=stall.count("id"),
        tenant=stall.text("tenant"),
        service=stall.text("service"),
        instance=stall.text("instance"),
        pid=stall.count("pid"),
        seconds=stall.number("seconds"),
        detected_after_ms=stall.number("detected_after_ms"),
        stack=stall.texts("stack", _FRAMES),
        stack_unavailable=stall.text("stack_unavailable") if stall.has("stack_unavailable") else None,
        active=stall.flag("active"),
        victims=stall.texts("victims", _VICTIMS),
        began_at=stall.text("began_at"),
    )


def _alert(alert: Fields) -> Alert:
    labels, annotations = alert.record("labels"), alert.record("annotations")
    return Alert(
        name=alert.text("name"),
        status=alert.text("status"),
        labels={name: labels.text(name) for name in labels.names(_LABELS)},
        annotations={name: annotations.text(name) for name in annotations.names(_LABELS)},
        starts_at=alert.text("starts_at"),
        ends_at=alert.text("ends_at") if alert.has("ends_at") else None,
    )


def _finding(entry: Fields) -> Finding:
    return Finding(entry.text("tenant"), entry.text("rule"), entry.count("count"))


def _stored(entry: Fields) -> Stored:
    names = ("messages", "errors", "tokens", "spans", "findings")
    return Stored(entry.text("tenant"), *(entry.count(name) for name in names))
