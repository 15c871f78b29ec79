"""Who is told by a thread of its own: the way of telemetry, the receivers that the settings name; and their metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from sidecar import conventions
from sidecar.configuration.ownership import private_folder

from .alertmanager import PATH, Alertmanager
from .courier import REFUSED, Courier
from .outbox import QUEUE_FULL
from .post import Endpoint
from .records import Records
from .signature import HEADER, sign
from .state_file import StateFile
from .webhook import Webhook

STATE_KEY: Final = "TENANTSCOPE_STATE_DIR"
FOLDER: Final = "alerts"


class Receivers(Collector):
    """Everybody who is told of alerts by a thread of its own. Over the network: nobody, unless the settings say so.

    Args:
        records: hands alerts on as telemetry.
        state_dir: their state is in a folder of its own there; it must be ours alone when they start.
        admin_url: the sidecar's own address, as messages name it.
        alertmanager: URL of an Alertmanager, up to and without `/api/v2`.
        webhook: URL of a receiver of Alertmanager's webhook messages.
        secret: what webhook messages are signed with; None leaves them unsigned.
        registry: gets the counts.

    Attributes:
        sinks: for `Alerts`.
    """

    def __init__(
        self,
        *,
        records: Records,
        state_dir: Path,
        admin_url: Callable[[], str],
        registry: CollectorRegistry,
        alertmanager: str | None = None,
        webhook: str | None = None,
        secret: bytes | None = None,
    ) -> None:
        self._folder = state_dir / FOLDER
        couriers: list[Courier] = []
        if alertmanager is not None:
            endpoint = Endpoint(alertmanager + PATH)
            couriers.append(
                Courier("alertmanager", Alertmanager(admin_url), endpoint, state=self._state("alertmanager"))
            )
        if webhook is not None:
            couriers.append(
                Courier(
                    "webhook",
                    Webhook(admin_url),
                    Endpoint(webhook),
                    headers=lambda body: {} if secret is None else {HEADER: sign(secret, body, int(time.time()))},
                    state=self._state("webhook"),
                )
            )
        self._couriers = couriers
        self.sinks: Sequence[Courier | Records] = [records, *couriers]
        registry.register(self)

    def start(self) -> None:
        """Begin to tell, with what was told before a restart in mind.

        Raises:
            ConfigurationError: the folder of their state is not ours alone.
        """
        if self._couriers:
            private_folder(self._folder, STATE_KEY)
        for sink in self.sinks:
            sink.start()

    def stop(self, grace: float) -> None:
        """Tell what is due within `grace` seconds in all; idempotent."""
        deadline = time.monotonic() + grace
        for sink in self.sinks:
            sink.stop(max(0.0, deadline - time.monotonic()))

    def _state(self, name: str) -> StateFile:
        return StateFile(self._folder / f"{name}.json")

    def collect(self) -> Iterator[Family]:
        """For `/metrics`: the counts of one receiver are read at one moment, so that its equation holds."""
        taken, told, dropped, waiting, failures = (
            metric.family()
            for metric in (
                conventions.CHANGES_TAKEN,
                conventions.CHANGES_TOLD,
                conventions.CHANGES_DROPPED,
                conventions.CHANGES_WAITING,
                conventions.RECEIVER_FAILURES,
            )
        )
        for sink in self.sinks:
            took, has_told, gave_up, waits = sink.counts()
            taken.add_metric((sink.name,), took)
            told.add_metric((sink.name,), has_told)
            waiting.add_metric((sink.name,), waits)
            # Both from the start: `increase` does not see a series begin.
            for reason, count in {QUEUE_FULL: 0, REFUSED: 0, **gave_up}.items():
                dropped.add_metric((sink.name, reason), count)
            for reason, count in sink.failures().items():
                failures.add_metric((sink.name, reason), count)
        yield from (taken, told, dropped, waiting, failures)
