"""`python -m sidecar` is killed under load, again and again: what it acknowledged arrives."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from http_peers import running_http_upstream
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_peers import PATIENCE, outlet, refuse, running_upstream

from sidecar.delivery import BatchQueue
from sidecar.delivery.outlet import JOINED_RECORDS, NOTE_BATCHES
from sidecar.ledger import Ledger
from sidecar.network.otlp import SERVICES

KILLS = 10
SPANS = 4  # in a request


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short name: the address of a Unix socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="ts-") as folder:
        yield Path(folder)


@contextmanager
def running(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A sidecar on the same socket and with the same state folder each time; killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "--listen", f"unix:{home}/in/otlp.sock", "--admin", "127.0.0.1:0",
         "--state-dir", str(home / "state"), *arguments],
        stderr=subprocess.PIPE, text=True,
        env={key: value for key, value in os.environ.items() if not key.startswith("TENANTSCOPE_")},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = ""
        while 'event="sidecar ready"' not in (line := process.stderr.readline()):
            assert line, f"it ended before it was ready, with {process.wait()}, and said: {said}"
            said += line
        yield process
    finally:
        process.kill()
        process.communicate()


class Senders:
    """Threads that send spans with ids of their own and remember which were acknowledged; no request is repeated."""

    def __init__(self, target: str, threads: int = 4) -> None:
        self._target = target
        self._changed = threading.Condition()
        self._numbers = iter(range(1, 10**9))
        self._stop = threading.Event()
        self.acknowledged: set[int] = set()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        with grpc.insecure_channel(
            self._target,
            options=(
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 100),
            ),
        ) as channel:
            call = channel.unary_unary(SERVICES["traces"].method, None, None)
            while not self._stop.is_set():
                with self._changed:
                    numbers = [next(self._numbers) for _ in range(SPANS)]
                request = ExportTraceServiceRequest()
                scope = request.resource_spans.add().scope_spans.add()
                for number in numbers:
                    scope.spans.add(
                        trace_id=number.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"), name="process writer"
                    )
                try:
                    call(request.SerializeToString(), timeout=PATIENCE, wait_for_ready=True)
                except grpc.RpcError:
                    continue
                with self._changed:
                    self.acknowledged.update(numbers)
                    self._changed.notify_all()

    def wait_for_more(self, requests: int) -> None:
        """Wait until so many more requests were acknowledged."""
        with self._changed:
            wanted = len(self.acknowledged) + requests * SPANS
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= wanted, PATIENCE * 3), "nothing is taken"

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def spans_of(payloads: Iterable[bytes]) -> Counter[int]:
    return Counter(
        int.from_bytes(span.span_id, "big")
        for payload in payloads
        for group in ExportTraceServiceRequest.FromString(payload).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    )


def kill_under_load(
    home: Path, kills: int, chance: random.Random, killed: Callable[[int], None] = lambda number: None
) -> tuple[int, int, int]:
    """Kill a sidecar with two upstreams, one over gRPC that is out most of the time and one over HTTP.

    Args:
        killed: is told how often so far.

    Returns:
        How many spans were acknowledged, how many of these one of the upstreams did not have in the end, and how many
        copies too many the two had.
    """
    with running_upstream() as upstream, running_http_upstream() as other:
        upstream.always = lambda context: (
            refuse(grpc.StatusCode.UNAVAILABLE, 0)(context) if chance.random() < 0.7 else b""
        )
        file = home / "upstreams.yaml"
        file.write_text(
            f"upstreams:\n  near: {{url: '{upstream.url}'}}\n"
            f"  far: {{url: '{other.url}', protocol: http/protobuf, compression: zstd}}\n"
        )
        senders = Senders(f"unix:{home}/in/otlp.sock")
        try:
            for number in range(1, kills + 1):
                with running(home, "--upstreams-file", str(file)) as process:
                    senders.wait_for_more(chance.randrange(1, 60))
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                killed(number)
        finally:
            senders.stop()
        upstream.always = lambda context: b""
        with running(home, "--upstreams-file", str(file)) as process:
            process.terminate()
            _, err = process.communicate(timeout=PATIENCE * 3)
        assert "queued_records=0" in err.splitlines()[-1]
        assert process.returncode == 0
        near = spans_of(payload for _, payload in list(upstream.taken))
        far = spans_of(payload for _, payload in other.requests)
    again = sum(count - 1 for counts in (near, far) for count in counts.values())
    return len(senders.acknowledged), len(senders.acknowledged - (near.keys() & far.keys())), again


@pytest.mark.timeout(180)
def test_kills_under_load_lose_nothing_that_was_acknowledged(home: Path) -> None:
    """There is always something in the queue; in the end each of two upstreams has everything, however slow."""
    acknowledged, lost, again = kill_under_load(home, KILLS, random.Random(4))
    assert acknowledged >= KILLS * SPANS
    assert lost == 0
    # What was delivered and not yet noted: 64 requests, or what of them was joined, at each upstream.
    assert again <= KILLS * 2 * (NOTE_BATCHES * SPANS + JOINED_RECORDS)


@pytest.mark.timeout(120)
def test_the_embedded_store_has_everything_once(home: Path) -> None:
    """The store notes which batches it has in the transaction that stores them."""
    chance = random.Random(5)
    senders = Senders(f"unix:{home}/in/otlp.sock")
    try:
        for _ in range(3):
            with running(home) as process:
                senders.wait_for_more(chance.randrange(20, 80))
                process.send_signal(signal.SIGKILL)
                process.wait()
    finally:
        senders.stop()
    with running(home) as process:
        process.terminate()
        process.communicate(timeout=PATIENCE * 3)
    connection = sqlite3.connect(home / "state" / "telemetry.db")
    stored = Counter(int(span_id, 16) for (span_id,) in connection.execute("SELECT span_id FROM spans"))
    connection.close()
    assert senders.acknowledged - stored.keys() == set()
    assert set(stored.values()) == {1}


def test_a_storm_of_restarts_keeps_everything(tmp_path: Path) -> None:
    """Twenty processes in a row take two batches each and are killed; the last one finds all of them, in order."""
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from sidecar.ledger import Ledger
        from sidecar.delivery import Batch, BatchQueue
        queue = BatchQueue(Path(sys.argv[1]), Ledger())
        for payload in (sys.argv[2], sys.argv[2] + "+"):
            assert queue.offer(Batch("traces", payload.encode(), 1)) is None
        os.kill(os.getpid(), signal.SIGKILL)
    """
    for number in range(20):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "state"), f"{number}"], check=False)
        assert done.returncode == -signal.SIGKILL
    ledger = Ledger()
    queue = BatchQueue(tmp_path / "state", ledger)
    assert ledger.records()["traces"]["recovered"] == 40
    found = []
    while (batch := outlet(queue).head(0)) is not None:
        found.append(batch.payload.decode())
        outlet(queue).done()
    assert found == [f"{number}{half}" for number in range(20) for half in ("", "+")]
    queue.release()
    assert not [path for path in (tmp_path / "state" / "queue").iterdir() if re.search(r"\d", path.name)]
