"""The sidecar's `/status` as typed values. Times are in seconds, unless a name says otherwise.

What it refuses: a document that is no JSON object. Anything else is read as far as it goes: a field that is missing is
empty or 0, and one that has the wrong type is too, but is counted in `Status.faults`. All text is escaped here, once,
so that nothing behind this file can write to a terminal; all numbers are finite and not
negative.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sidecar.alerts import printable

# What becomes of a record that was received.
WAYS_TO_END: Final = ("forwarded", "rejected", "dropped", "queued")

_NAME: Final = 128  # characters of an id
_LINE: Final = 512  # of a sentence, or of a frame
_SIGNALS: Final = 8
_DESTINATIONS: Final = 64
_COUNTERS: Final = 16
_FRAMES: Final = 128
_VICTIMS: Final = 256
_LABELS: Final = 16
_SENTENCES: Final = 4
_MOST: Final = 2**64  # what any counter can hold

_T = TypeVar("_T")
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
    status = _Fields(document, faults)
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
        faults=len(faults),
    )


def _loop(loop: _Fields) -> Loop:
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


def _share(entry: _Fields) -> Share:
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


def _stall(stall: _Fields) -> Stall:
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


def _alert(alert: _Fields) -> Alert:
    labels, annotations = alert.record("labels"), alert.record("annotations")
    return Alert(
        name=alert.text("name"),
        status=alert.text("status"),
        labels={name: labels.text(name) for name in labels.names(_LABELS)},
        annotations={name: annotations.text(name) for name in annotations.names(_LABELS)},
        starts_at=alert.text("starts_at"),
        ends_at=alert.text("ends_at") if alert.has("ends_at") else None,
    )


def _finding(entry: _Fields) -> Finding:
    return Finding(entry.text("tenant"), entry.text("rule"), entry.count("count"))


def _stored(entry: _Fields) -> Stored:
    names = ("messages", "errors", "tokens", "spans", "findings")
    return Stored(entry.text("tenant"), *(entry.count(name) for name in names))


class _Fields:
    """The fields of one JSON object, each read with a type in mind; what has another is noted in `faults`."""

    def __init__(self, document: dict[str, Any], faults: list[str]) -> None:
        self._document = document
        self._faults = faults

    def has(self, name: str) -> bool:
        return self._document.get(name) is not None

    def names(self, limit: int) -> list[str]:
        """The names that are fit to be shown; nobody has more than `limit`."""
        names = [name for name in self._document if name == printable(name, _NAME)]
        if len(names) < len(self._document):
            self._faults.append("a name")
        return names[:limit]

    def text(self, name: str) -> str:
        value = self._document.get(name, "")
        return printable(value, _LINE) if isinstance(value, str) else self._fault(name, "")

    def texts(self, name: str, limit: int) -> tuple[str, ...]:
        found = self._list(name)
        texts = tuple(printable(text, _LINE) for text in found if isinstance(text, str))
        if len(texts) < len(found):
            self._faults.append(name)
        return texts[-limit:]

    def number(self, name: str) -> float:
        value = self._document.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST:
            return self._fault(name, 0.0)
        return float(value)

    def count(self, name: str) -> int:
        value = self._document.get(name, 0)
        return value if type(value) is int and 0 <= value < _MOST else self._fault(name, 0)

    def counts(self) -> dict[str, int]:
        return {name: self.count(name) for name in self.names(_COUNTERS)}

    def flag(self, name: str) -> bool:
        value = self._document.get(name, False)
        return value if isinstance(value, bool) else self._fault(name, False)

    def record(self, name: str) -> _Fields:
        value = self._document.get(name, {})
        return _Fields(value if isinstance(value, dict) else self._fault(name, {}), self._faults)

    def each(self, name: str) -> list[_Fields]:
        found = self._list(name)
        records = [_Fields(value, self._faults) for value in found if isinstance(value, dict)]
        if len(records) < len(found):
            self._faults.append(name)
        return records

    def _list(self, name: str) -> list[Any]:
        value = self._document.get(name, [])
        return value if isinstance(value, list) else self._fault(name, [])

    def _fault(self, name: str, instead: _T) -> _T:
        self._faults.append(name)
        return instead
