"""What the benchmark of the sidecar needs around it: a real sidecar in a process, an upstream in another, senders.

The upstream takes everything and looks at nothing, so that what is measured is the sidecar. Run as a program it is that
upstream: it prints its port, and stops when its input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from sidecar.network.otlp import SERVICES

TRACES: Final = SERVICES["traces"]
ANSWER_SECONDS: Final = 30.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Sidecar:
    """A `python -m sidecar` that is ready.

    Attributes:
        target: where it takes exports.
    """

    def __init__(self, process: subprocess.Popen[str], ready: str) -> None:
        words = dict(word.split("=", 1) for word in ready.split() if "=" in word)
        self.process = process
        self.target = words["listen"].strip('"')
        self._admin = words["admin"].strip('"')

    def cpu_seconds(self) -> float:
        """Of all of its processes and threads so far."""
        return sum(_cpu_seconds(pid) for pid in self._pids())

    def resident_bytes(self) -> int:
        """Of all of its processes now; pages that they share count for each."""
        return sum(_status(pid, "VmRSS") for pid in self._pids())

    def records(self) -> dict[str, int]:
        """What became of the spans so far."""
        with urllib.request.urlopen(f"{self._admin}/status", timeout=ANSWER_SECONDS) as answer:
            found: dict[str, int] = json.load(answer)["records"]["traces"]
        return found

    def wait_for_forwarded(self, spans: int, seconds: float) -> float:
        """Wait until so many spans have gone on; how long it took."""
        begun = time.monotonic()
        while self.records()["forwarded"] < spans:
            if time.monotonic() - begun > seconds:
                raise TimeoutError(f"{self.records()} after {seconds} s")
            time.sleep(0.02)
        return time.monotonic() - begun

    def _pids(self) -> list[int]:
        found = [self.process.pid]
        for pid in found:  # grows while it is walked
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError):  # the thread has ended
                    found += map(int, (task / "children").read_text().split())
        return found


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS  # own and waited-for children, user and system


def _status(pid: int, key: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


@contextmanager
def sidecar(state: Path, *options: str) -> Iterator[Sidecar]:
    """A sidecar with these options, on ports of its own; stopped in good order in the end."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TENANTSCOPE_")}
    arguments = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state-dir", str(state), *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", *arguments], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stderr is not None
    try:
        seen = ""
        while 'event="sidecar ready"' not in (line := process.stderr.readline()):
            seen += line
            if not line:
                raise RuntimeError(f"the sidecar did not start: {seen}")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield Sidecar(process, line)
    finally:
        process.terminate()
        try:
            process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def upstream(port: int = 0) -> Iterator[str]:
    """An upstream in a process of its own; its `host:port`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sidecar_process", str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(ANSWER_SECONDS)


@dataclass
class Sent:
    """What senders saw.

    Attributes:
        waits: seconds from a request to its acknowledgement.
        spans: those that were acknowledged. refused: requests that were put off.
        seconds: from the first request to the last answer.
    """

    waits: list[float] = field(default_factory=list)
    spans: int = 0
    refused: int = 0
    seconds: float = 0.0


def send(
    target: str,
    payloads: Sequence[bytes],
    spans: int,
    *,
    seconds: float,
    senders: int,
    rate: float | None = None,
    token: str | None = None,
) -> Sent:
    """Send requests of so many spans each from several connections; what is put off is not sent again.

    Args:
        rate: spans a second of all senders together, each request at any moment of its share of the time: two clients
            do not keep step. None: each sends as soon as it has its answer.
    """
    sent, lock = Sent(), threading.Lock()
    channels = [grpc.insecure_channel(target, (("grpc.use_local_subchannel_pool", 1),)) for _ in range(senders)]
    for channel in channels:  # an exporter's is there long before: what is waited for is the answer
        grpc.channel_ready_future(channel).result(ANSWER_SECONDS)
    begun = time.monotonic()
    metadata: tuple[tuple[str, Any], ...] = () if token is None else (("authorization", f"Bearer {token}"),)

    def run(number: int) -> None:
        channel = channels[number]
        export = channel.unary_unary(TRACES.method, None, None)
        turn, chance = number, random.Random()
        while (due := begun + (0.0 if rate is None else (turn + chance.random()) * spans / rate)) < begun + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            if rate is None and time.monotonic() > begun + seconds:
                break
            start = time.perf_counter()
            try:
                export(payloads[turn % len(payloads)], timeout=ANSWER_SECONDS, metadata=metadata)
            except grpc.RpcError:
                with lock:
                    sent.refused += 1
                time.sleep(0.05)
            else:
                with lock:
                    sent.waits.append(time.perf_counter() - start)
                    sent.spans += spans
            turn += senders
        channel.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent.seconds = time.monotonic() - begun
    return sent


def _serve(port: int) -> None:
    def take(_: bytes, __: grpc.ServicerContext) -> bytes:
        return b""

    server = grpc.server(ThreadPoolExecutor(2), options=(("grpc.max_receive_message_length", 8 * 1024 * 1024),))
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(service.name, {"Export": grpc.unary_unary_rpc_method_handler(take)})
            for service in SERVICES.values()
        ]
    )
    print(server.add_insecure_port(f"127.0.0.1:{port}"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
