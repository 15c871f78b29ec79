"""A real sidecar that watches a real application, and a console on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sidecars import configured

from sidecar.service import Sidecar
from tenantscope.console.server import Console
from tenantscope.view.client import Admin

APPLICATION = Path(__file__).with_name("console_application.py")


@dataclass(frozen=True)
class Scene:
    """What runs, and the address of the console."""

    url: str
    process: subprocess.Popen[str]
    sidecar: Sidecar

    def say(self, word: str) -> None:
        """Tell the application what to do."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()


@contextmanager
def playing(folder: Path, clients: str = "", token: str | None = None) -> Iterator[Scene]:
    """Three tenants at work on one loop; application and console show `token`, where there is a list of clients."""
    (folder / "cells").mkdir(mode=0o700)
    if clients:
        (folder / "clients.yaml").write_text(clients)
    sidecar = Sidecar(configured(folder, **({"CLIENTS_FILE": str(folder / "clients.yaml")} if clients else {})))
    sidecar.start()
    endpoint = f"http://{sidecar.listen_address.target}"
    command = [sys.executable, str(APPLICATION), endpoint, str(folder / "cells")]
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{token}"} if token else {}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env={**os.environ, **headers})
    try:
        with Console(Admin(sidecar.admin_address.target, token=token)).running() as url:
            yield Scene(url, process, sidecar)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)
        sidecar.stop(0)


@contextmanager
def doing(act: Callable[[], None], undo: Callable[[], None]) -> Iterator[None]:
    """One inside, the other in the end."""
    act()
    try:
        yield
    finally:
        undo()
