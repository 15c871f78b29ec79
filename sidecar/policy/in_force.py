"""The policy in force: redacts by it, and puts another in its place while requests go on.

A version is a policy, its compiled rules and the keys of its pseudonyms, immutable. A request takes hold of the version
once, so all of its records are redacted by one policy, and counted by that policy's digest.

`reload` reads the files again: on SIGHUP, and when one of them has changed and then stayed as it is for one look. What
cannot be used changes nothing: the last good version stays, `tenantscope_policy_stale` is 1 and an alert fires, until a
reload succeeds. What it refuses: to ever redact by half a policy, or by none.

A second policy can be tried: it sees the same requests, counts what it would do, and nothing else of it is ever used.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from sidecar import conventions
from sidecar.alerts import Alert
from sidecar.configuration.renewal import looks
from sidecar.configuration.settings import ConfigurationError, Settings
from sidecar.conventions import Signal
from sidecar.pulse import Pulse
from sidecar.redaction import Kernel, Policy, Redacted
from sidecar.senders.debtors import Debtors
from sidecar.workers.pool import Workers

from .counts import APPLIED, REFUSED, UNCHANGED, Counts
from .keyring import NAME as KEYS_NAME
from .keyring import known_keys, read_keys
from .version import POLICY_SETTING, Version, load_policies

STATE_SETTING: Final = "TENANTSCOPE_STATE_DIR"
SERVICE: Final = "tenantscope-sidecar"
LOOK_SECONDS: Final = 1.0
PULSE_SECONDS: Final = 30.0  # a policy that is large takes some to be compiled

log = structlog.get_logger("sidecar.policy")


class PolicyInForce(Collector):
    """Redacts requests by the version in force. Thread-safe; a collector of `prometheus_client`.

    Args:
        settings: name the files.
        policies: as loaded from them.
        alert: told when a reload is refused, and when one succeeds after that.
        workers: redact in this process's place.
        pulse: is told of every look at the files.
        wall: the present time, for alerts.

    Raises:
        ConfigurationError: the keys cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        policies: tuple[Policy, Policy | None],
        alert: Callable[[Alert], None],
        workers: Workers | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        pulse: Pulse | None = None,
    ) -> None:
        self._settings = settings
        self._pulse = pulse or Pulse(PULSE_SECONDS)
        self._alert = alert
        self._wall = wall
        self._workers = workers
        sources = [settings.policy, settings.trial_policy, settings.state_dir / KEYS_NAME]
        self._files = [source for source in sources if isinstance(source, Path)]
        self.version = Version.of(*policies, read_keys(settings.state_dir, STATE_SETTING), workers)
        self._loaded = self._seen = looks(self._files)
        self._loading = threading.Lock()
        self._firing: Alert | None = None
        self._counts = Counts()
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="policy", daemon=True)

    # Requests -----------------------------------------------------------------------------------------------
    def redact(
        self,
        signal: Signal,
        payload: bytes,
        tenants: frozenset[str] | None = None,
        debtors: Debtors | None = None,
    ) -> Redacted:
        """What may leave of a request, by one version; `tenants` and `debtors` as in `Kernel.redact`.

        Raises:
            Malformed: the request cannot be read down to its records.
            Unavailable: no worker could redact it.
        """
        version = self.version
        redacted = version.kernel.redact(signal, payload, tenants, debtors)
        self._counts.redacted(signal, version.digest, redacted.records_in)
        if version.trial is not None:
            self._try(version.trial, signal, payload)
        return redacted

    def tenant(self, tenant_id: str) -> str:
        """A tenant's id as telemetry shows it."""
        return self.version.redactor.tenant(tenant_id)

    def stands_apart(self, tenant_id: str) -> bool:
        """Whether no other tenant is shown in telemetry as this one is."""
        return self.version.redactor.stands_apart(tenant_id)

    def _try(self, trial: Kernel, signal: Signal, payload: bytes) -> None:
        try:
            redacted = trial.redact(signal, payload)
        except Exception:  # noqa: BLE001  # a trial never costs anybody anything; the real one has read this request
            redacted = None
        self._counts.tried(signal, redacted)

    # Reloads ------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Look at the files from now on."""
        self._watcher.start()

    def stop(self) -> None:
        """Look no more; idempotent."""
        self._stopping.set()
        if self._watcher.ident is not None:
            self._watcher.join()

    def look(self) -> None:
        """Reload when a file is another than the one that was read, and has not changed since the last look."""
        seen = looks(self._files)
        settled, self._seen = seen == self._seen, seen
        if settled and seen != self._loaded:
            self.reload()

    def reload(self) -> str:
        """Read the policies and the keys again: `applied`, `unchanged` or `refused`. Never raises."""
        with self._loading:
            # Before they are read: what changes meanwhile is seen at the next look.
            self._loaded = looks(self._files)
            try:
                policies = load_policies(self._settings)
                version = Version.of(*policies, known_keys(self._settings.state_dir, STATE_SETTING), self._workers)
            except ConfigurationError as error:
                outcome, lines = REFUSED, error.lines
            except Exception as error:  # noqa: BLE001  # whatever it is, the version in force is good
                outcome, lines = REFUSED, (f"{POLICY_SETTING}: {type(error).__name__}",)
            else:
                outcome, lines = UNCHANGED if version.told == self.version.told else APPLIED, ()
                if outcome == APPLIED:
                    self.version = version
            self._counts.reloaded(outcome)
            self._tell(outcome, lines)
            return outcome

    def _watch(self) -> None:
        self._pulse.beat()
        while not self._stopping.wait(LOOK_SECONDS):
            self.look()
            self._pulse.beat()

    def _tell(self, outcome: str, lines: tuple[str, ...]) -> None:
        digest = self.version.digest
        if outcome == REFUSED:
            log.error("the new policy cannot be used, the old one stays", mistakes=len(lines), first=lines[0])
        elif outcome == APPLIED:
            log.info("another policy is in force", policy_digest=digest, key=self.version.keys[0].id)
        if outcome == REFUSED and self._firing is None:
            self._firing = self._refused(digest, lines)
            self._alert(self._firing)
        elif outcome != REFUSED and self._firing is not None:
            resolved, self._firing = self._firing, None
            self._alert(replace(resolved, status="resolved", ends_at=self._wall()))

    def _refused(self, digest: str, lines: tuple[str, ...]) -> Alert:
        name = conventions.REDACTION_POLICY_REFUSED
        annotations = {"summary": f"the redaction policy {digest} stays in force, the new one is wrong: {lines[0]}"}
        if self._settings.runbook_url:
            annotations["runbook_url"] = f"{self._settings.runbook_url}/{name}.md"
        labels = {"alertname": name, "tenant_id": "", "service_name": SERVICE, "instance": str(os.getpid())}
        return Alert(name, "firing", labels, annotations, self._wall())

    # What an operator asks ----------------------------------------------------------------------------------
    @property
    def stale(self) -> bool:
        """Whether the last reload was refused: what is in force is not what the file says."""
        return self._firing is not None

    def status(self) -> dict[str, Any]:
        """For `/status`."""
        version = self.version
        said: dict[str, Any] = {
            "source": str(version.policy.source),
            "digest": version.digest,
            "stale": self.stale,
            "key": version.keys[0].id,
        }
        if version.trial_policy is not None:
            said["trial"] = {
                "source": str(version.trial_policy.source),
                "digest": version.trial_policy.digest,
                **self._counts.of_trial(),
            }
        return said

    def collect(self) -> Iterator[Family]:
        """For `/metrics`."""
        info = conventions.POLICY_INFO.family()
        info.add_metric((self.version.digest,), 1)
        stale = conventions.POLICY_STALE.family()
        stale.add_metric((), self.stale)
        yield from (info, stale, *self._counts.families())
