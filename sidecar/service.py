"""The sidecar as a whole: joins the stages, starts and stops them in order.

    intake -> redaction -> queue -> forwarder -> upstream or embedded store
    watchdog -> alerts -> log, metrics, receivers; and as telemetry, from redaction on
    admin looks at all of them

It starts from the far end, so that nothing is taken in before it can go on, and stops from the near end: new
exports are refused, the queue drains for a grace period, what is left stays on disk for the next process, and the
admin listener goes last. What it refuses: to take a request that has not been redacted, and to hand one on that was
not accounted.
"""

from __future__ import annotations

import importlib.metadata
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry

from . import intake, redaction, watchdog
from .accounting import Ledger
from .address import Address
from .admin import Admin, Figures, scope
from .alerts import Alerts, LogSink, MetricsSink, Receivers, Records, printable, read_secret
from .clients import ANYBODY, NOBODY, Client, Clients
from .conventions import Signal
from .delivery import Batch, Delivery, EmbeddedStore
from .destinations import Destinations
from .faces import Faces
from .intake import Certificate, HttpIntake, Intake
from .policy_in_force import PULSE_SECONDS as POLICY_PULSE_SECONDS
from .policy_in_force import SERVICE, PolicyInForce, load_policies
from .pulse import Busy, Pulses
from .quotas import Quotas
from .renewal import Renewed
from .settings import ConfigurationError, Settings
from .watchdog import Watchdog
from .wire.limits import KEY as LIMITS_KEY
from .wire.limits import Limits, LimitsError
from .wire.limits import load as load_limits
from .workers import Unavailable, Workers

REDACTED: Final = "redacted"
GRACE_SECONDS: Final = 10.0
INTAKE_GRACE_SECONDS: Final = 2.0
RECEIVERS_GRACE_SECONDS: Final = 2.0
FIRST_ANSWER_SECONDS: Final = 0.5
# Five waits of this length fit into the 10 s after which an OpenTelemetry exporter gives a batch up.
RETRY_AFTER_SECONDS: Final = 1.5

OURSELVES: Final = Client("tenantscope")

log = structlog.get_logger("sidecar")


class Sidecar:
    """One sidecar: `start`, then `stop`; not to be started twice.

    Attributes:
        registry: every metric of this sidecar.
        ledger: what became of every record.

    Raises:
        ConfigurationError: grpcio is too old, or the policy is wrong.
    """

    def __init__(self, settings: Settings) -> None:
        intake.refuse_unsafe_grpc()
        self.settings = settings
        self.registry = CollectorRegistry()
        self._destinations = Destinations(settings)
        self.ledger = Ledger(self._destinations.names)
        self.registry.register(self.ledger)
        self._policies = load_policies(settings)
        self._policy: PolicyInForce | None = None  # made at start: its keys are in the state folder
        self._delivery: Delivery | None = None
        self._workers = Workers(settings.workers) if settings.workers else None
        if self._workers is not None:
            self.registry.register(self._workers)
        self._faces = Faces(lambda tenant: REDACTED if self._policy is None else self._policy.tenant(tenant))
        resource = {"service.name": SERVICE, "service.version": version(), "service.instance.id": str(uuid.uuid4())}
        self._receivers = Receivers(
            records=Records(self._record, self._faces.whose, resource),
            state_dir=settings.state_dir,
            admin_url=lambda: f"http://{self.admin_address.target}",
            registry=self.registry,
            alertmanager=settings.alertmanager,
            webhook=settings.webhook,
            secret=load_secret(settings),
        )
        self._alerts = Alerts([LogSink(), MetricsSink(self.registry), *self._receivers.sinks], self.registry)
        self._pulses = Pulses()
        self.registry.register(self._pulses)
        self._clients = Clients(settings.clients_file)
        self._limits = limits_in(settings)
        self._quotas = Quotas(lambda: None if self._limits is None else self._limits.value, self._faces.of)
        self.registry.register(self._quotas)
        self._watchdog = Watchdog(
            clients=self._clients,
            stall_ns=settings.stall_ms * 1_000_000,
            alerts=self._alerts,
            registry=self.registry,
            runbook_url=settings.runbook_url,
            shown=self._faces.of,
            limits=settings.limits,
            pulse=self._pulses.part("watchdog", watchdog.PULSE_SECONDS),
        )
        certificate = load_certificate(settings)
        admission = intake.Admission(self._clients, self._consume, quotas=self._quotas)
        self._pulses.add("intake", Busy(intake.PULSE_SECONDS, lambda: admission.turns.longest))
        self._intake = Intake(settings.listen, admission, self.ledger, certificate, [self._watchdog.add_to])
        self._http_intake = (
            None
            if settings.listen_http is None
            else HttpIntake(settings.listen_http, admission, self.ledger, certificate)
        )
        self._admin: Admin | None = None
        self._figures: Figures | None = None
        self._stopping = threading.Lock()
        self._stopped = threading.Event()

    # Life ---------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start everything; returns when exports are being taken.

        Raises:
            ConfigurationError: an address or the state folder cannot be had; nothing is left running then.
        """
        try:
            self._delivery = Delivery(
                self.settings.state_dir,
                self.ledger,
                self._destinations.exits,
                self.settings.queue_bytes,
                self._pulses,
            )
            if self._workers is not None:
                self._workers.start()
            self._policy = PolicyInForce(
                self.settings,
                self._policies,
                self._alerts.submit,
                self._workers,
                pulse=self._pulses.part("policy", POLICY_PULSE_SECONDS),
            )
            self.registry.register(self._policy)
            self._policy.start()
            self._delivery.start()
            self._admin = Admin(
                self.settings.admin,
                ready=self.readiness,
                hanging=self._pulses.hanging,
                status=self.status,
                spans=self.spans,
                registry=self.registry,
                clients=self._clients,
            )
            self._admin.start()
            if self.settings.metrics is not None:
                self._figures = Figures(
                    self.settings.metrics, ready=self.readiness, hanging=self._pulses.hanging, registry=self.registry
                )
                self._figures.start()
            self._receivers.start()
            self._watchdog.start()
            self._intake.start()
            if self._http_intake is not None:
                self._http_intake.start()
        except BaseException:
            self.stop(0)
            raise
        self._pulses.wait_until_heard(FIRST_ANSWER_SECONDS)
        # Not a condition, a courtesy: who is told "started" finds `/readyz` in agreement if the destination
        # is there.
        self._delivery.wait_until_ready(FIRST_ANSWER_SECONDS)

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Stop everything within about `grace` seconds; idempotent."""
        with self._stopping:
            if self._stopped.is_set():
                return
            deadline = time.monotonic() + grace
            self._intake.stop(min(grace, INTAKE_GRACE_SECONDS))
            if self._http_intake is not None:
                self._http_intake.stop(max(0.0, min(deadline - time.monotonic(), INTAKE_GRACE_SECONDS)))
            self._watchdog.stop()
            if self._policy is not None:
                self._policy.stop()
            self._receivers.stop(min(grace, RECEIVERS_GRACE_SECONDS))
            if self._workers is not None:
                self._workers.stop()
            if self._delivery is not None:
                self._delivery.stop(max(0.0, deadline - time.monotonic()))
            for listener in (self._figures, self._admin):
                if listener is not None:
                    listener.stop()
            self._stopped.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until `stop` is through, at most `timeout` seconds; whether it is."""
        return self._stopped.wait(timeout)

    @property
    def policy(self) -> redaction.Policy:
        """The policy in force; before `start`, the one that will be."""
        return self._policies[0] if self._policy is None else self._policy.version.policy

    def reload(self) -> None:
        """Read again what may change while it runs: the policies and the keys, the clients, the limits.

        What cannot be used changes nothing, and is said in the log; a policy is alerted, too.
        """
        if self._policy is not None:
            self._policy.reload()
        self._clients.renew()
        if self._limits is not None and self._limits.renew():
            self._watchdog.use(self._limits.value)

    @property
    def listen_address(self) -> Address:
        """Where OTLP is taken in, with the real port."""
        return self._intake.address

    @property
    def http_address(self) -> Address | None:
        """Where OTLP/HTTP is taken in, with the real port; None where it is not."""
        return None if self._http_intake is None else self._http_intake.address

    @property
    def admin_address(self) -> Address:
        """Where the admin pages are, with the real port."""
        return self.settings.admin if self._admin is None else self._admin.address

    @property
    def metrics_address(self) -> Address | None:
        """Where other machines read health and metrics, with the real port; None: nowhere."""
        return self.settings.metrics if self._figures is None else self._figures.address

    # The way of a request -----------------------------------------------------------------------------------
    def _consume(self, signal: Signal, payload: bytes, client: Client) -> int:
        if self._policy is None:  # intake is the last to start; but nothing passes that has not been redacted
            raise intake.Busy(RETRY_AFTER_SECONDS, "starting")
        try:
            redacted = self._policy.redact(signal, payload, client.nameable, self._quotas.debtors())
        except redaction.Malformed as malformed:
            raise intake.Malformed(str(malformed)) from None
        except Unavailable:
            raise intake.Busy(RETRY_AFTER_SECONDS, "workers") from None
        self.ledger.arrived(signal, redacted.records_in, redacted.dropped, redacted.actions)
        if redacted.records_out:
            batch = Batch(signal, redacted.payload, redacted.records_out)
            refusal = "shutdown" if self._delivery is None else self._delivery.offer(batch)
            if refusal is not None:
                self.ledger.rejected(signal, redacted.records_out, refusal)
                raise intake.Busy(RETRY_AFTER_SECONDS, refusal)
        self._quotas.pay(client, redacted.records_in, 0)
        self._quotas.settle(redacted.taken, redacted.refused)
        return redacted.records_in - redacted.records_out

    def _record(self, payload: bytes) -> bool:
        """What the sidecar itself has to say: its alerts."""
        try:
            self._consume("logs", payload, OURSELVES)
        except intake.Busy:
            return False
        return True

    # What an operator asks ----------------------------------------------------------------------------------
    def readiness(self) -> dict[str, bool]:
        """What readiness depends on: that each part can do its work, and was heard of in time."""
        able = {
            "intake": self._intake.ready and (self._http_intake is None or self._http_intake.ready),
            "policy": self._policy is not None,  # a stale one is alerted, and no reason to take no telemetry
            "queue": self._delivery is not None and self._delivery.queue.ready,
            # One that is there is reason enough to take telemetry; the others' is on disk until they are.
            "destination": self._delivery is not None and any(self._delivery.ready.values()),
            "watchdog": self._watchdog.ready,
            **({} if self._workers is None else {"workers": self._workers.ready}),
        }
        in_time = self._pulses.in_time()
        return {name: able.get(name, True) and in_time.get(name, True) for name in (*able, *in_time)}

    def _by_destination(self) -> dict[str, dict[str, Any]]:
        ready = {} if self._delivery is None else self._delivery.ready
        return {
            name: {"ready": ready.get(name, False), "records": self.ledger.records(name)}
            for name in self._destinations.names
        }

    @property
    def destinations(self) -> list[str]:
        """The names of where telemetry goes."""
        return self._destinations.names

    @property
    def store(self) -> EmbeddedStore | None:
        """The embedded store; None without one, or before `start`."""
        return self._destinations.store

    def spans(self, client: Client, trace_id: str | None, limit: int) -> list[dict[str, Any]] | None:
        """The newest spans in the embedded store that a client may see, of a trace or of all; None without a store."""
        if self.store is None:
            return None
        tenants = self._tenants_of(client)
        found = self.store.spans(tenants=tenants, trace_id=trace_id, limit=limit)
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
        shown = frozenset(map(self._faces.of, client.tenants)) - NOBODY - {REDACTED}
        return shown | frozenset(map(printable, shown))  # as the watchdog writes it

    def _status(self) -> dict[str, Any]:
        return {
            "version": version(),
            "policy": {} if self._policy is None else self._policy.status(),
            "pid": os.getpid(),
            "destination": str(self._destinations),
            "destinations": self._by_destination(),
            "records": self.ledger.records(),
            "reasons": self.ledger.reasons(),
            "redactions": self.ledger.redactions(),
            "quotas": self._quotas.status(),
            "loops": self._watchdog.loops(),
            "stalls": self._watchdog.stalls(),
            "alerts": [alert.as_dict() for alert in self._alerts.recent()],
            "tenants": [] if self.store is None else self.store.tenants(),
            "findings": [] if self.store is None else self.store.findings(),
            "evicted": {} if self.store is None else self.store.evicted,
        }


def load_certificate(settings: Settings) -> Certificate | None:
    """What the listener serves TLS with; None without it.

    Raises:
        ConfigurationError: a file cannot be used; every line names its setting.
    """
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    return Certificate(settings.tls_certificate_file, settings.tls_key_file, settings.tls_client_ca_file)


def limits_in(settings: Settings) -> Renewed[Limits] | None:
    """The table of limits in its file; None without one.

    Raises:
        ConfigurationError: it cannot be used any more.
    """
    path = None if settings.limits is None else settings.limits.source
    return None if path is None else Renewed("limits", [path], lambda: _read_limits(path))


def _read_limits(path: Path) -> Limits:
    try:
        return load_limits(path)
    except LimitsError as error:
        raise ConfigurationError(*(f"{LIMITS_KEY}: {mistake}" for mistake in error.mistakes)) from None


def load_secret(settings: Settings) -> bytes | None:
    """What webhook messages are signed with; None without a file.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    if settings.webhook_secret_file is None:
        return None
    try:
        return read_secret(settings.webhook_secret_file)
    except ValueError as error:
        raise ConfigurationError(f"TENANTSCOPE_WEBHOOK_SECRET_FILE: {error}") from None


def version() -> str:
    """The installed version of tenantscope."""
    try:
        return importlib.metadata.version("tenantscope")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
