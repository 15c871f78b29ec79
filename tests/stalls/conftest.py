"""A real gRPC server with the watchdog on it, and a sink that a test can wait on."""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry

from instrumentation import tenancy
from instrumentation.loop.cell import Cell
from sidecar.alerts import Alert, Alerts, MetricsSink
from sidecar.conventions import EVENT_LOOP_STARVED
from sidecar.watchdog import Watchdog

DEADLINE = 30.0
APPLICATION = Path(__file__).with_name("application.py")

Start = Callable[..., subprocess.Popen[str]]


class Inbox:
    """A sink that hands each alert to whoever waits for the next one.

    But for what may be true of the machine that the tests run on at any time: that it has too little CPU.
    """

    name = "inbox"

    def __init__(self) -> None:
        self._alerts: queue.Queue[Alert] = queue.Queue()

    def submit(self, alert: Alert) -> None:
        if alert.name != EVENT_LOOP_STARVED:
            self._alerts.put(alert)

    def next(self) -> Alert:
        return self._alerts.get(timeout=DEADLINE)

    def empty(self) -> bool:
        return self._alerts.empty()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def watchdog(inbox: Inbox, registry: CollectorRegistry) -> Iterator[Watchdog]:
    watchdog = Watchdog(
        stall_ns=100_000_000,
        alerts=Alerts([inbox, MetricsSink(registry)]),
        registry=registry,
        runbook_url="https://runbooks.example/",
    )
    watchdog.start()
    yield watchdog
    watchdog.stop()


@pytest.fixture
def server(watchdog: Watchdog) -> Iterator[str]:
    """The endpoint of a server with the watchdog's service."""
    server = grpc.server(ThreadPoolExecutor(8))
    watchdog.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(0).wait(DEADLINE)


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    folder = tmp_path / "cells"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def make_cell(cells: Path) -> Iterator[Callable[[int], Cell]]:
    """Makes cells as the library does, under the names of a few tenants."""
    for name in ("acme", "globex", "initech"):
        tenancy.TABLE.intern(name)
    made: list[Cell] = []

    def make(loop_id: int = 1) -> Cell:
        made.append(Cell.create(cells, loop_id, 1))
        return made[-1]

    yield make
    for cell in made:
        cell.close()
        cell.release()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """When this file exists, the blocking code returns; nothing else makes it."""
    return tmp_path / "release"


@pytest.fixture
def start(server: str, cells: Path, release: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def run(*kind: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(APPLICATION), server, str(cells), str(release), *kind]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    release.touch()
    for application in started:
        application.kill()
        application.wait(DEADLINE)
        if application.stdout is not None:
            application.stdout.close()
