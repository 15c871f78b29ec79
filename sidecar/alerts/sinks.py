"""Where alerts go without any setting: the sidecar's log, and its own metrics."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from sidecar import conventions

from .alert import Alert, printable

MAX_TENANTS: Final = 1000
MAX_IN_LOG: Final = 256  # characters of one value
_IN_LOG: Final = ("alertname", "tenant_id", "service_name", "instance", "duration_ms", "summary")
OTHER: Final = "other"


class LogSink:
    """One line an alert, for people: what, who, where, how long, and the innermost line of code.

    The whole stack, all victims and the link to the runbook are in `/status`, and with the receivers.
    """

    name = "log"

    def __init__(self, log: Any = None) -> None:
        self._log = structlog.get_logger("sidecar.alerts") if log is None else log

    def submit(self, alert: Alert) -> None:
        """Write the line: a warning when firing, information when resolved."""
        about = {**alert.labels, **alert.annotations}
        fields = {key: printable(about[key], MAX_IN_LOG) for key in _IN_LOG if about.get(key)}
        if "stack" in about:
            fields["at"] = printable(about["stack"].rpartition("\n")[2], MAX_IN_LOG)
        write = self._log.warning if alert.status == "firing" else self._log.info
        write("alert", status=alert.status, **fields)


class MetricsSink:
    """Counts alerts, and stalls by tenant; tenants beyond the thousandth are `other`.

    Args:
        registry: that `/metrics` serves.
    """

    name = "metrics"

    def __init__(self, registry: CollectorRegistry) -> None:
        self._alerts = _counter(conventions.ALERTS, registry)
        self._stalls = _counter(conventions.STALLS, registry)
        self._seconds = _counter(conventions.STALL_SECONDS, registry)
        spec = conventions.STALL_ACTIVE
        self._active = Gauge(spec.name, spec.description, spec.labels, registry=registry)
        self._holding: Tally[tuple[str, ...]] = Tally()
        self._tenants: set[str] = set()

    def submit(self, alert: Alert) -> None:
        """Count one change."""
        self._alerts.labels(alert.name, alert.status).inc()
        if alert.name != conventions.EVENT_LOOP_STALLED:
            return
        tenant = self._bounded(alert.labels["tenant_id"])
        where = (tenant, alert.labels["service_name"], alert.labels["instance"])
        if alert.status == "firing":
            self._stalls.labels(tenant).inc()
            self._holding[where] += 1
            self._active.labels(*where).set(1)
        else:
            if alert.ends_at is not None:
                seconds = (alert.ends_at - alert.starts_at).total_seconds()
                self._seconds.labels(tenant).inc(max(0.0, seconds))
            self._holding[where] -= 1
            if self._holding[where] <= 0:
                # The series goes with the stall: instances come and go, and each would leave one behind.
                del self._holding[where]
                self._active.remove(*where)

    def _bounded(self, tenant: str) -> str:
        if tenant not in self._tenants:
            if len(self._tenants) >= MAX_TENANTS:
                return OTHER
            self._tenants.add(tenant)
        return tenant


def _counter(spec: conventions.Metric, registry: CollectorRegistry) -> Counter:
    return Counter(spec.name, spec.description, spec.labels, registry=registry)
