"""Fans alerts out to sinks, and remembers the last ones."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final, Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter

from sidecar import conventions

from .alert import Alert

_log: Final = structlog.get_logger("sidecar.alerts")
_REMEMBERED: Final = 256
_KNOWN: Final = 4096

_Change = tuple[str, str, object]


class Sink(Protocol):
    """Somewhere alerts go. Called from the watchdog's thread: a sink that waits for a network needs its own.

    Attributes:
        name: in the metrics; no two have the same.
    """

    name: str

    def submit(self, alert: Alert) -> None:
        """Take one alert; whatever it raises is counted, and keeps it from nobody else."""


class Alerts:
    """Tells every sink every change once, in the order in which the changes came.

    Args:
        sinks: told one after the other.
        registry: gets the number of changes that a sink failed on.
    """

    def __init__(self, sinks: Sequence[Sink], registry: CollectorRegistry | None = None) -> None:
        self._sinks = tuple(sinks)
        spec = conventions.SINK_FAILURES
        self._failures = Counter(spec.name, spec.description, spec.labels, registry=registry)
        for sink in sinks:
            self._failures.labels(sink.name)  # 0 from the start: `increase` does not see a series begin
        # Held while telling: two changes of one alert must reach each sink in their order.
        self._telling = threading.Lock()
        self._known: OrderedDict[_Change, None] = OrderedDict()
        self._recent: deque[Alert] = deque(maxlen=_REMEMBERED)

    def submit(self, alert: Alert) -> None:
        """Tell the sinks, unless this change (labels, start and status) was told before. Never raises."""
        change = (alert.fingerprint, alert.status, alert.starts_at)
        with self._telling:
            if change in self._known:
                return
            self._known[change] = None
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
            self._recent.append(alert)
            for sink in self._sinks:
                self._tell(sink, alert)

    def _tell(self, sink: Sink, alert: Alert) -> None:
        try:
            sink.submit(alert)
        except Exception as error:  # noqa: BLE001  # a sink is foreign code; the others must get the alert
            self._failures.labels(sink.name).inc()
            _log.warning("an alert sink failed", sink=sink.name, error=type(error).__name__, alert=alert.name)

    def recent(self) -> list[Alert]:
        """The last 256 changes, newest last."""
        with self._telling:
            return list(self._recent)
