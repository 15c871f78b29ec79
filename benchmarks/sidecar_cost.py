"""What the sidecar costs, end to end, with its targets beside the figures.

    python -m benchmarks.sidecar_cost [--seconds 20] [--workers 0 1 2] [--only cost stages rate outage neighbour]

A real sidecar in a process of its own takes requests over gRPC, redacts them with the default policy, puts them on disk
before it acknowledges, and hands them on over gRPC to an upstream in another process that looks at nothing. A request
is 512 spans of 1.2 kB with 12 attributes and an event; a fifth of the attributes must be dropped, a tenth masked, and
every name, id and number is new. CPU is that of all of the sidecar's processes, threads of gRPC and the kernel's share
included, as /proc counts it.

The stages are measured one by one in this process, with the real components, so that their sum can be held against the
whole: what the whole has beyond it is the price of having them together.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks import processors
from benchmarks.sidecar_neighbour import neighbour
from benchmarks.sidecar_process import Sent, Sidecar, send, sidecar, upstream
from benchmarks.sidecar_stages import line, stages
from benchmarks.spans import SPANS, stated
from sidecar.delivery import Batch, BatchQueue
from sidecar.ledger import Ledger
from sidecar.redaction import Policy, Redactor

RATE: Final = 3_000  # spans a second
BATCHES: Final = 64  # different requests; twice as many bytes as the sidecar remembers of names
SENDERS: Final = 4
OUTAGE_SPANS: Final = 2_160_000  # twelve minutes; an hour is 10,800,000 and takes 5 GB of disk
PROGRESS: Final = 5.0
TURN: Final = 2.0  # seconds


def hundredth(values: list[float], number: int) -> float:
    """A percentile, in milliseconds."""
    return statistics.quantiles(values, n=100)[number - 1] * 1e3


def cost(payloads: list[bytes], folder: Path, seconds: float, workers: int) -> None:
    """As fast as it goes, in turns of two seconds: CPU a span, spans a second."""
    with upstream() as destination, sidecar(folder, *options(destination, workers)) as running:
        taken: list[float] = []  # seconds of CPU a span, by turn
        turns: list[Sent] = []
        for turn in range(1 + max(4, round(seconds / TURN))):
            before = running.cpu_seconds()
            sent = send(running.target, payloads, SPANS, seconds=TURN, senders=SENDERS)
            running.wait_for_forwarded(kept(running.records()), 60)
            if turn:  # the first warms up
                taken.append((running.cpu_seconds() - before) / sent.spans)
                turns.append(sent)
        low, each, high = statistics.quantiles(taken, n=4)
        title = f"{workers} workers: " if workers else ""
        half = f"at most 16 us; {low * 1e6:.1f} to {high * 1e6:.1f} in half of the turns"
        line(f"{title}CPU a span, end to end", f"{each * 1e6:.1f} us", half)
        line(f"{title}spans a second and core", f"{1 / each:,.0f}")
        acknowledged = sum(sent.spans for sent in turns) / sum(sent.seconds for sent in turns)
        line(f"{title}spans a second, acknowledged", f"{acknowledged:,.0f}", "with the load on this machine")
        line(f"{title}resident memory, all processes", f"{running.resident_bytes() / 1024**2:.0f} MB", "at most 150 MB")


def options(destination: str, workers: int) -> list[str]:
    """The sidecar's."""
    return ["--upstream", f"http://{destination}", *(["--workers", str(workers)] if workers else [])]


def kept(records: dict[str, int]) -> int:
    """Spans that will have been forwarded in the end."""
    return records["received"] - records["dropped"] - records["rejected"]


def rate(payloads: list[bytes], folder: Path, seconds: float, workers: int) -> None:
    """How long an acknowledgement takes at a steady rate."""
    with upstream() as destination, sidecar(folder, *options(destination, workers)) as running:
        send(running.target, payloads, SPANS, seconds=3, senders=SENDERS, rate=RATE)
        sent = send(running.target, payloads, SPANS, seconds=2 * seconds, senders=SENDERS, rate=RATE)
        title = f"{workers} workers: " if workers else ""
        line(f"{title}acknowledgement at {RATE:,} spans/s, p50", f"{hundredth(sent.waits, 50):.1f} ms", "at most 10 ms")
        line(f"{title}acknowledgement at {RATE:,} spans/s, p99", f"{hundredth(sent.waits, 99):.1f} ms", "at most 50 ms")
        assert not sent.refused


def outage(payloads: list[bytes], folder: Path, seconds: float, spans: int) -> None:
    """An upstream that was away for so long that so many spans wait: a process finds them, and drains them.

    They are written by the queue itself, redacted, as intake would have; the process is a new one, because that is the
    worse case: it has to find out first what waits.
    """
    begun = time.monotonic()
    with sidecar(folder, *options("127.0.0.1:1", 0)):
        line("a process that finds nothing takes exports after", f"{time.monotonic() - begun:.1f} s")
    size = filled(payloads, folder, spans)
    waiting = f"{spans / RATE / 60:.0f} min at {RATE:,} spans/s; {size / 1024**3:.1f} GB on disk, not in memory"
    line("waiting after the outage", f"{spans:,} spans", waiting)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    begun = time.monotonic()
    arguments = (*options(f"127.0.0.1:{port}", 0), "--queue-bytes", str(2 * size + 1024**3))
    with sidecar(folder, *arguments) as running:
        line("a process that finds them takes exports after", f"{time.monotonic() - begun:.1f} s", "at most 2 s")
        assert running.records()["queued"] == spans
        first = send(running.target, payloads, SPANS, seconds=2, senders=SENDERS, rate=RATE)
        line("acknowledgement then, p50", f"{hundredth(first.waits, 50):.1f} ms")
        line("memory then", f"{running.resident_bytes() / 1024**2:.0f} MB", "at most 150 MB")
        with upstream(port):
            while not running.records()["forwarded"]:
                time.sleep(0.05)
            drained(running, payloads, seconds)


def filled(payloads: list[bytes], folder: Path, spans: int) -> int:
    """Put so many spans into the queue of a sidecar that does not run; bytes on disk, which are none in memory."""
    redactor = Redactor(Policy.default())
    batches = [
        Batch("traces", redacted.payload, redacted.records_out)
        for redacted in (redactor.redact("traces", payload) for payload in payloads)
    ]
    queue = BatchQueue(folder, Ledger(), max_bytes=2**40)

    def fill(number: int) -> None:
        for turn in range(number, spans // SPANS, SENDERS):
            assert queue.offer(batches[turn % len(batches)]) is None

    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(fill, range(SENDERS)))
    assert queue.records == spans // SPANS * SPANS
    queue.release()
    size = 0
    for file in folder.glob("queue/*.queue"):
        size += file.stat().st_size
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return size


def drained(running: Sidecar, payloads: list[bytes], seconds: float) -> None:
    """Wait until nothing waits, while more comes in; says every few seconds how far it is."""
    coming = threading.Event()
    sent: list[Sent] = []

    def come() -> None:
        while not coming.is_set():
            sent.append(send(running.target, payloads, SPANS, seconds=seconds, senders=SENDERS, rate=RATE))

    arriving = threading.Thread(target=come)
    arriving.start()
    before, begun, said, most = running.records(), time.monotonic(), time.monotonic(), 0
    while (now := running.records())["queued"] > 8 * SPANS:
        time.sleep(0.1)
        most = max(most, running.resident_bytes())
        if time.monotonic() - said > PROGRESS:
            said = time.monotonic()
            print(f"  {now['queued']:,} spans wait, {most / 1024**2:.0f} MB", flush=True)
    took = time.monotonic() - begun
    out, come_in = (now["forwarded"] - before["forwarded"]) / took, (now["received"] - before["received"]) / took
    coming.set()
    arriving.join()
    line("drained in", f"{took:.0f} s")
    line("drain while more comes in", f"{out:,.0f} spans/s", f"at least twice the intake of {come_in:,.0f} spans/s")
    waits = [wait for each in sent for wait in each.waits]
    line("acknowledgement meanwhile, p50", f"{hundredth(waits, 50):.1f} ms")
    line("acknowledgement meanwhile, p99", f"{hundredth(waits, 99):.1f} ms")
    line("most memory meanwhile", f"{most / 1024**2:.0f} MB", "at most 150 MB")
    line("put off meanwhile", f"{sum(each.refused for each in sent)} requests")


@contextlib.contextmanager
def told_of_processors() -> Iterator[None]:
    """Say how fast they were meanwhile."""
    with processors.watched() as speeds:
        yield
        line("  the processors' speeds meanwhile, of their best", str(speeds))


def main() -> None:
    """Print the table."""
    parts = ("cost", "stages", "rate", "outage", "neighbour")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--workers", type=int, nargs="*", default=[0], help="numbers of worker processes to compare")
    parser.add_argument("--outage-spans", type=int, default=OUTAGE_SPANS, help="that wait after the outage")
    parser.add_argument(
        "--folder", type=Path, default=None, help="on the disk to measure; the temporary folder if unset"
    )
    parser.add_argument("--only", nargs="*", default=parts, choices=parts, help="parts of the table")
    given = parser.parse_args()
    chance = random.Random(11)
    payloads = [stated(chance) for _ in range(BATCHES)]
    size = sum(map(len, payloads)) / BATCHES / SPANS
    print(
        f"Python {sys.version.split()[0]}, {SPANS} spans of {size:,.0f} bytes a request, "
        "a fifth of the attributes dropped, a tenth masked, all text new"
    )
    for part in given.only:
        for workers in given.workers if part in ("cost", "rate") else [0]:
            with tempfile.TemporaryDirectory(prefix="ts-", dir=given.folder) as name, told_of_processors():
                folder = Path(name)
                match part:
                    case "cost":
                        cost(payloads, folder, given.seconds, workers)
                    case "stages":
                        stages(payloads, folder)
                    case "rate":
                        rate(payloads, folder, given.seconds, workers)
                    case "outage":
                        outage(payloads, folder, given.seconds, given.outage_spans // SPANS * SPANS)
                    case "neighbour":
                        neighbour(folder, given.seconds / 4)


if __name__ == "__main__":
    main()
