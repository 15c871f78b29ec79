"""What the benchmarks of the watchdog share: a watchdog behind real gRPC, applications in processes of their own."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry

from instrumentation.loop import Loops
from sidecar.alerts import Alert, Alerts
from sidecar.watchdog import Watchdog

DEADLINE = 60.0


class Heard:
    """A sink that notes when each alert came."""

    name = "heard"

    def __init__(self) -> None:
        self._alerts: queue.SimpleQueue[tuple[int, Alert]] = queue.SimpleQueue()
        self._others: list[Alert] = []

    def submit(self, alert: Alert) -> None:
        """From the watchdog's thread."""
        self._alerts.put((time.monotonic_ns(), alert))

    def wait_for(self, name: str, status: str) -> int:
        """When the next such alert came, which is then done with."""
        while True:
            came, alert = self._alerts.get(timeout=DEADLINE)
            if (alert.name, alert.status) == (name, status):
                return came
            self._others.append(alert)

    def rest(self) -> list[Alert]:
        """Those that came and that nobody waited for; once."""
        found, self._others = self._others, []
        while not self._alerts.empty():
            found.append(self._alerts.get()[1])
        return found


class Desk:
    """A watchdog that can be started and stopped, always at the same address.

    Attributes:
        heard: the alerts.
        endpoint: for the applications.
        folder: for their cells.
    """

    def __init__(
        self, folder: Path, threshold_ms: int, wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.heard = Heard()
        self.folder = folder
        self.endpoint = f"unix:{folder}/socket"
        self._threshold_ms = threshold_ms
        self._wall = wall
        self.start()

    def start(self) -> None:
        """Watch."""
        self.watchdog = Watchdog(
            self._threshold_ms * 1_000_000, Alerts([self.heard]), CollectorRegistry(), wall=self._wall
        )
        self._server = grpc.server(ThreadPoolExecutor(8))
        self.watchdog.add_to(self._server)
        self._server.add_insecure_port(self.endpoint)
        self.watchdog.start()
        self._server.start()

    def stop(self) -> None:
        """Watch no more."""
        self._server.stop(0).wait()
        self.watchdog.stop()

    def wait_for(self, loops: int) -> None:
        """Until it watches so many."""
        deadline = time.monotonic() + DEADLINE
        while len(self.watchdog.loops()) != loops:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{loops} loops are not under watch")
            time.sleep(0.005)


@contextmanager
def desk(threshold_ms: int, wall: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Desk]:
    """A desk with a folder of its own in shared memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        desk = Desk(Path(folder), threshold_ms, wall)
        try:
            yield desk
        finally:
            desk.stop()


@contextmanager
def applications(endpoint: str, folder: Path, count: int = 1) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Children with one loop each that runs a callback every 10 ms, until the end of their input."""
    with ExitStack() as stack:
        children = []
        for _ in range(count):
            command = [sys.executable, "-m", "benchmarks.watched", endpoint, str(folder)]
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
            stack.callback(child.communicate, timeout=DEADLINE)
            children.append(child)
        yield children


def application(endpoint: str, cells: str) -> None:
    """The child."""
    loops = Loops(Path(cells), "watched", "benchmark", endpoint)
    loops.start()

    async def main() -> None:
        over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        while not over.done():
            await asyncio.sleep(0.01)

    asyncio.run(main())
    loops.stop()


if __name__ == "__main__":
    application(*sys.argv[1:])
