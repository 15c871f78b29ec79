"""What watching costs: CPU of a real sidecar process while it watches event loops, and while it watches none.

Each loop lives in a process of its own and runs a callback every 10 ms. No telemetry is sent: what the sidecar spends
is the watch. CPU time of all its threads as the kernel counts it, so neighbours don't count for much.

    python -m benchmarks.watch_cost [--loops 8] [--seconds 20] [--threshold-ms 100]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.targets import at_most
from benchmarks.watched import DEADLINE, applications

CORE_PERCENT, TARGET_LOOPS = 2.0, 8


class Sidecar:
    """A sidecar process with an address of its own."""

    def __init__(self, folder: Path, threshold_ms: int) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TENANTSCOPE_", "OTEL_"))}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._admin = f"127.0.0.1:{probe.getsockname()[1]}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sidecar"],
            stderr=subprocess.DEVNULL,
            env=environment
            | {
                "TENANTSCOPE_LISTEN": f"unix:{folder}/socket",
                "TENANTSCOPE_ADMIN": self._admin,
                "TENANTSCOPE_STATE_DIR": str(folder / "state"),
                "TENANTSCOPE_STALL_MS": str(threshold_ms),
            },
        )
        self.endpoint = f"unix:{folder}/socket"

    def loops(self) -> int:
        """How many it watches."""
        try:
            with urllib.request.urlopen(f"http://{self._admin}/status", timeout=DEADLINE) as answer:
                return len(json.load(answer)["loops"])
        except OSError:
            return -1

    def wait_for(self, loops: int) -> None:
        """Until it watches so many."""
        deadline = time.monotonic() + DEADLINE
        while self.loops() != loops:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the sidecar does not watch {loops} loops")
            time.sleep(0.1)

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(DEADLINE)


@contextmanager
def watching(loops: int, threshold_ms: int) -> Iterator[Sidecar]:
    """A sidecar that watches so many loops."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        sidecar = Sidecar(folder, threshold_ms)
        stack.callback(sidecar.stop)
        sidecar.wait_for(0)
        stack.enter_context(applications(sidecar.endpoint, folder, loops))
        sidecar.wait_for(loops)
        time.sleep(2)  # connections, first looks
        yield sidecar


def measure(loops: int, seconds: float, threshold_ms: int) -> float:
    """Percent of a core."""
    with watching(loops, threshold_ms) as sidecar:
        before, began = sidecar.cpu(), time.monotonic()
        time.sleep(seconds)
        used, elapsed = sidecar.cpu() - before, time.monotonic() - began
    return 100 * used / elapsed


def main() -> None:
    """Print what the sidecar takes with and without loops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--threshold-ms", type=int, default=100)
    asked = parser.parse_args()
    idle = measure(0, asked.seconds, asked.threshold_ms)
    print(f"no loops {idle:>16.2f} % of a core")
    watched = measure(asked.loops, asked.seconds, asked.threshold_ms)
    target = at_most(watched, CORE_PERCENT, "%") if asked.loops <= TARGET_LOOPS else "no target for so many"
    print(
        f"{asked.loops} loops {watched:>17.2f} % of a core, {watched - idle:.2f} % of it the watch; {target}",
        flush=True,
    )


if __name__ == "__main__":
    main()
