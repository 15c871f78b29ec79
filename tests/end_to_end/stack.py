"""What stands between an application and the people on call, as one value that tests can ask."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import programs
from alert_receiver import Receiver
from collector_process import Collector
from programs import Prometheus, Sidecar

APPLICATION = Path(__file__).with_name("application.py")


def say(child: subprocess.Popen[bytes], word: str) -> None:
    """Tell an application what to do."""
    assert child.stdin is not None
    child.stdin.write(f"{word}\n".encode())
    child.stdin.flush()


@dataclass(frozen=True)
class Stack:
    """What runs: the way of the telemetry, the way of the alerts, and who is told in the end."""

    folder: Path
    collector: Collector
    sidecar: Sidecar
    prometheus: Prometheus
    receiver: Receiver
    runbooks: str
    others: list[str]  # addresses that Prometheus scrapes as well; a test may put sidecars there

    def told(self, name: str, status: str, **labels: str) -> dict[str, Any] | None:
        """The alert of that name, status and labels, as people were told of it."""
        with self.receiver.changed:
            requests = list(self.receiver.requests)
        for request in requests:
            for alert in request.document["alerts"]:
                if alert["status"] == status and {"alertname": name, **labels}.items() <= alert["labels"].items():
                    return dict(alert)
        return None

    @contextmanager
    def application(
        self, service: str, sidecar: Sidecar | None = None, model_url: str = "", **environment: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The application of `application.py`, under its own service name; told what to do on its input."""
        cells = self.folder / f"cells-{service}"
        cells.mkdir(mode=0o700)
        endpoint = f"http://{(sidecar or self.sidecar).listen}"
        command = [sys.executable, str(APPLICATION), endpoint, str(cells), service, model_url]
        quick = {"OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_BSP_SCHEDULE_DELAY": "500", **environment}
        with programs.process(command, self.folder / f"{service}.log", **quick) as child:
            yield child
