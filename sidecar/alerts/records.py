"""Alerts as telemetry: each change of verdict is one OTLP log record, which goes the way of all telemetry.

So it is redacted by the policy in force, counted in the ledger, kept on disk until the upstream has it, and is found
beside the tenant's spans. The resource is the sidecar, for it is who speaks; what the verdict is about is in attributes
(`conventions.ALERT_ATTRIBUTES`). Prose stays behind: a summary is for people, and goes to receivers.

The one who changes a verdict only leaves it here; a thread of its own hands the records on, in their order, and waits
when nothing can be taken. What it refuses: to keep more than `MAX_WAITING`, to lose a change without a count, and to be
the cause of an alert, which would go round for ever.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import structlog
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from sidecar import conventions

from .alert import Alert
from .outbox import QUEUE_FULL

MAX_WAITING: Final = 4096
MAX_BATCH: Final = 256
RETRY_SECONDS: Final = 1.0
BUSY: Final = "busy"
FAULT: Final = "fault"
SCOPE: Final = "tenantscope.alerts"
MAX_STACK: Final = 1024  # characters, what a policy may let through; the innermost frames come first
_MAX_FRAME: Final = 256

_log: Final = structlog.get_logger("sidecar.alerts")
_FRAME: Final = re.compile(r"(.+):([0-9]+) (.+)", re.DOTALL)
_NOT_IN_A_FILE: Final = re.compile(r"[^A-Za-z0-9_.+@~<>/-]")
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_.<>]")


class Records:
    """A sink of alerts.

    Args:
        hand_on: takes a request's bytes; false when it cannot now. Whatever it raises, it has not and will not.
        whose: the id of the tenant who is shown so in an alert.
        resource: the sidecar's attributes.
        wall: the present time.
        retry_seconds: until it is tried again.
    """

    name = "otlp"

    def __init__(
        self,
        hand_on: Callable[[bytes], bool],
        whose: Callable[[str], str],
        resource: Mapping[str, str],
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._hand_on = hand_on
        self._whose = whose
        self._resource = resource
        self._wall = wall
        self._retry_seconds = retry_seconds
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Alert, datetime]] = deque()
        self._taken = 0
        self._told = 0
        self._dropped: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="alerts-otlp", daemon=True)

    def submit(self, alert: Alert) -> None:
        """Take a change; returns at once."""
        with self._changed:
            self._taken += 1
            if len(self._waiting) >= MAX_WAITING:
                self._dropped[QUEUE_FULL] += 1
                return
            self._waiting.append((alert, self._wall()))
            self._changed.notify()

    def counts(self) -> tuple[int, int, dict[str, int], int]:
        """Taken, told, dropped by reason, waiting; all read at one moment."""
        with self._changed:
            return self._taken, self._told, dict(self._dropped), len(self._waiting)

    def failures(self) -> dict[str, int]:
        """Failed attempts, by reason."""
        with self._changed:
            return dict(self._failures)

    def start(self) -> None:
        """Begin; to be called once."""
        self._thread.start()

    def stop(self, grace: float) -> None:
        """Hand on what waits within `grace` seconds."""
        with self._changed:
            self._deadline = time.monotonic() + grace
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(grace)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._deadline is not None)
                batch = [self._waiting[place] for place in range(min(len(self._waiting), MAX_BATCH))]
            if not batch or self._too_late():
                return
            self._tell(batch)

    def _tell(self, batch: list[tuple[Alert, datetime]]) -> None:
        try:
            taken = self._hand_on(self._request(batch))
        except Exception as error:  # noqa: BLE001  # a fault of ours must not end the thread, nor be tried for ever
            _log.error("alerts could not be recorded", alerts=len(batch), error=type(error).__name__)
            self._settle(len(batch), FAULT)
            return
        if taken:
            self._settle(len(batch), None)
            return
        with self._changed:
            self._failures[BUSY] += 1
            self._changed.wait_for(lambda: self._deadline is not None, self._retry_seconds)

    def _settle(self, count: int, dropped: str | None) -> None:
        with self._changed:
            for _ in range(count):
                self._waiting.popleft()
            if dropped is None:
                self._told += count
            else:
                self._dropped[dropped] += count
                self._failures[dropped] += 1

    def _too_late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _request(self, batch: Iterable[tuple[Alert, datetime]]) -> bytes:
        request = ExportLogsServiceRequest()
        group = request.resource_logs.add()
        group.resource.attributes.extend(_entries(self._resource))
        scope = group.scope_logs.add()
        scope.scope.name = SCOPE
        scope.log_records.extend(record(alert, self._whose, observed) for alert, observed in batch)
        return request.SerializeToString()


def record(alert: Alert, whose: Callable[[str], str], observed: datetime) -> LogRecord:
    """One change as a log record; `tenant.id` is the id itself, for the policy that the record goes through."""
    firing = alert.status == "firing"
    severity = conventions.severity(alert.name) if firing else "info"
    number, text = conventions.SEVERITIES[severity]
    about = {
        conventions.ALERT_NAME: alert.name,
        conventions.ALERT_STATUS: alert.status,
        conventions.ALERT_SERVICE: alert.labels.get("service_name", ""),
        conventions.ALERT_INSTANCE: alert.labels.get("instance", ""),
        conventions.ALERT_STACK: _stack(alert.annotations.get("stack", "")),
    }
    tenant = alert.labels.get("tenant_id", "")
    if tenant:
        about = {conventions.TENANT_ID: whose(tenant), **about}
    found = LogRecord(
        time_unix_nano=_nanoseconds(alert.starts_at if alert.ends_at is None else alert.ends_at),
        observed_time_unix_nano=_nanoseconds(observed),
        severity_number=number,  # type: ignore[arg-type]  # protobuf's enum is an int
        severity_text=text,
        event_name=conventions.ALERT_EVENT,
        attributes=_entries(about),
    )
    if alert.annotations.get("duration_ms", "").isdigit():
        seconds = int(alert.annotations["duration_ms"]) / 1000
        found.attributes.append(KeyValue(key=conventions.ALERT_DURATION, value=AnyValue(double_value=seconds)))
    return found


def _stack(text: str) -> str:
    """Innermost first: what is cut off says least. Empty without one."""
    frames = [_frame(found) for found in map(_FRAME.fullmatch, text.split("\n")[::-1]) if found]
    shown = ""
    for frame in frames:
        longer = f"{shown}\n{frame}" if shown else frame
        if len(longer) > MAX_STACK:
            break
        shown = longer
    return shown


def _frame(found: re.Match[str]) -> str:
    file, line, function = found.groups()
    return f"{_NOT_IN_A_FILE.sub('_', file)[-_MAX_FRAME:]}:{line[:7]} {_NOT_IN_A_NAME.sub('_', function)[-_MAX_FRAME:]}"


def _entries(attributes: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in attributes.items() if text]


def _nanoseconds(moment: datetime) -> int:
    return max(0, round(moment.timestamp() * 1_000_000) * 1000)
