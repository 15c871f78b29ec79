"""What the queue on disk costs a sender: how long the acknowledgement waits for it, and microseconds of CPU a batch.

    python -m benchmarks.delivery [--seconds 5] [--folder .]

A batch is 512 spans of 1.2 kB, as the SDK sends them. The latency is that of `BatchQueue.offer` alone, first at a fixed
rate with a few senders, then as fast as eight senders can; the forwarder's side runs beside it. Each is measured with
the sync that a power cut asks for, and without. Under it stands the disk's own sync, for scale.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sidecar.delivery import Batch, BatchQueue
from sidecar.delivery.disk import Folder
from sidecar.ledger import Ledger

SPANS, SPAN_BYTES = 512, 1_200
RATE = 3_000  # spans a second
SENDERS = 8


class Unsynced(Folder):
    """The same, at the mercy of the next power cut."""

    def sync(self, descriptor: int) -> None:
        """Nothing."""


def drain(queue: BatchQueue) -> threading.Thread:
    """Take everything out, as the forwarder does."""

    (outlet,) = queue.outlets.values()

    def run() -> None:
        while outlet.head() is not None:
            outlet.done()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def measured(folder: Path, opener: Callable[[Path], Folder], seconds: float, rate: float | None, spans: int) -> str:
    """One line: batches, latency of an offer, CPU a batch."""
    queue = BatchQueue(folder, Ledger(), open_folder=opener)
    drainer = drain(queue)
    payload = os.urandom(spans * SPAN_BYTES)
    latencies: list[float] = []
    end = time.monotonic() + seconds

    def send(number: int) -> None:
        due = time.monotonic() + (number / SENDERS / rate * spans * SENDERS if rate else 0)
        while time.monotonic() < end:
            if rate:
                time.sleep(max(0.0, due - time.monotonic()))
                due += SENDERS * spans / rate
            begun = time.perf_counter()
            if queue.offer(Batch("traces", payload, spans)) is None:
                latencies.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(SENDERS)]
    before, begun = time.process_time(), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begun
    cpu = (time.process_time() - before) / len(latencies)
    queue.close()
    drainer.join()
    queue.release()
    hundredths = statistics.quantiles(latencies, n=100)
    p50, p99 = hundredths[49] * 1e3, hundredths[98] * 1e3
    return (
        f"{len(latencies) / took:8.0f} batches/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms"
        f"   CPU {cpu * 1e6:6.0f} us/batch = {cpu * 1e6 / spans:5.2f} us/span (in and out)"
    )


def bare_sync(folder: Path, size: int) -> float:
    """Seconds of the disk's own write and sync, median."""
    data, took = os.urandom(size), []
    with (folder / "bare").open("wb", buffering=0) as file:
        for _ in range(50):
            begun = time.perf_counter()
            file.write(data)
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - begun)
    return statistics.median(took)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument(
        "--folder", type=Path, default=None, help="on the disk to measure; the temporary folder if unset"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        runs = (
            (f"{RATE} spans/s in batches of 512", RATE, SPANS),
            (f"{RATE} spans/s in batches of 10", RATE, 10),
            ("as fast as it goes, batches of 512", None, SPANS),
            ("as fast as it goes, batches of 10", None, 10),
        )
        for number, (title, rate, spans) in enumerate(runs):
            print(title)
            for word, opener in (("synced", Folder), ("not synced", Unsynced)):
                state = folder / f"{number}-{word.replace(' ', '-')}"
                print(f"  {word:<10}", measured(state, opener, options.seconds, rate, spans), flush=True)
        print(f"the disk's own write and sync of such a batch: {bare_sync(folder, SPANS * SPAN_BYTES) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
