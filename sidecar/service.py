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

import threading
import time
import uuid
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from . import intake, redaction, watchdog
from .admin import Admin, Figures
from .alerts import Alerts, LogSink, MetricsSink, Receivers, Records
from .answers import Answers, version
from .configuration.settings import Settings
from .conventions import Signal
from .delivery import Batch, Delivery, EmbeddedStore
from .destinations import Destinations
from .intake import HttpIntake, Intake
from .ledger import Ledger
from .loading import load_certificate, load_renewed_limits, load_secret
from .network.address import Address
from .policy.faces import REDACTED, Faces
from .policy.in_force import PULSE_SECONDS as POLICY_PULSE_SECONDS
from .policy.in_force import SERVICE, PolicyInForce
from .policy.version import load_policies
from .pulse import Busy, Pulses
from .senders.clients import Client, Clients
from .senders.quotas import Quotas
from .watchdog import Watchdog
from .workers.pool import Unavailable, Workers

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
        answers: what an operator may ask, from `start` on.

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
            admin_url=lambda: self.admin_address.url,
            registry=self.registry,
            alertmanager=settings.alertmanager,
            webhook=settings.webhook,
            secret=load_secret(settings),
        )
        self._alerts = Alerts([LogSink(), MetricsSink(self.registry), *self._receivers.sinks], self.registry)
        self._pulses = Pulses()
        self.registry.register(self._pulses)
        self._clients = Clients(settings.clients_file)
        self._limits = load_renewed_limits(settings)
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
        hands = intake.Hands(settings.workers or 1)
        admission = intake.Admission(self._clients, self._consume, quotas=self._quotas, hands=hands)
        self._pulses.add("intake", Busy(intake.PULSE_SECONDS, lambda: admission.turns.longest))
        self._intake = Intake(settings.listen, admission, self.ledger, certificate, [self._watchdog.add_to])
        self._http_intake = (
            None
            if settings.listen_http is None
            else HttpIntake(settings.listen_http, admission, self.ledger, certificate)
        )
        self.answers: Answers
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
            self.answers = Answers(
                ledger=self.ledger,
                intakes=[each for each in (self._intake, self._http_intake) if each is not None],
                workers=self._workers,
                policy=self._policy,
                quotas=self._quotas,
                faces=self._faces,
                delivery=self._delivery,
                destinations=self._destinations,
                watchdog=self._watchdog,
                alerts=self._alerts,
                pulses=self._pulses,
            )
            ready, hanging = self.answers.readiness, self._pulses.hanging
            self._admin = Admin(
                self.settings.admin,
                ready=ready,
                hanging=hanging,
                status=self.answers.status,
                spans=self.answers.spans,
                registry=self.registry,
                clients=self._clients,
            )
            self._admin.start()
            if self.settings.metrics is not None:
                self._figures = Figures(self.settings.metrics, ready=ready, hanging=hanging, registry=self.registry)
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

    @property
    def destinations(self) -> list[str]:
        """The names of where telemetry goes."""
        return self._destinations.names

    @property
    def store(self) -> EmbeddedStore | None:
        """The embedded store; None without one, or before `start`."""
        return self._destinations.store

    # The way of a request -----------------------------------------------------------------------------------
    def _consume(self, signal: Signal, payload: bytes, client: Client, hand: intake.Hand) -> int:
        policy = self._policy
        if policy is None:  # intake is the last to start; but nothing passes that has not been redacted
            raise intake.Busy(RETRY_AFTER_SECONDS, "starting")

        def redact() -> redaction.Redacted:
            # What we say of a tenant is not what it sends: an alert about one that floods is on nobody's account.
            debtors = None if client is OURSELVES else self._quotas.debtors()
            return policy.redact(signal, payload, client.nameable, debtors)

        try:
            redacted = hand(redact)
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
            self._consume("logs", payload, OURSELVES, lambda work: work())
        except intake.Busy:
            return False
        return True
