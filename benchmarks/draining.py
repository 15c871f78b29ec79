"""What the way out of a full queue costs, with requests joined and each by itself.

    python -m benchmarks.draining [--requests 4000] [--rounds 5]

A queue on disk is filled with requests of one signal, then delivered to an upstream in a process of its own, over
OTLP/gRPC. Joined and alone take turns; each figure is the median over the rounds. Spans of 1.2 kB.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.sidecar_process import upstream
from benchmarks.spans import stated
from sidecar.delivery import Batch, BatchQueue, DeadLetters, Forwarder, UpstreamOtlp, Way
from sidecar.ledger import Ledger
from sidecar.network.address import upstream as upstream_address

PATIENCE = 300.0


def drained(state: Path, target: str, batches: list[Batch], *, joins: bool) -> tuple[float, float]:
    """Seconds, and seconds of this process's CPU, from the first delivery to the last."""
    ledger = Ledger()
    queue = BatchQueue(state, ledger, 2**31, ways=[Way(joins=joins)])
    for batch in batches:
        ledger.arrived(batch.signal, batch.records)
        assert queue.offer(batch) is None
    (outlet,) = queue.outlets.values()
    letters = DeadLetters(state / "dead-letters", ledger.account())
    destination = UpstreamOtlp(upstream_address(f"http://{target}"))
    forwarder = Forwarder("upstream", outlet, destination, ledger.account(), letters)
    begun, before = time.monotonic(), time.process_time()
    forwarder.start()
    assert queue.wait_until_empty(PATIENCE)
    took, cpu = time.monotonic() - begun, time.process_time() - before
    queue.close()
    forwarder.stop(PATIENCE)
    queue.release()
    counts = ledger.records()["traces"]
    assert counts["forwarded"] == sum(batch.records for batch in batches)
    return took, cpu


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=4000, help="of the smallest size; of others, as many spans")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with upstream() as target, tempfile.TemporaryDirectory() as folder:
        for spans in (1, 10, 100, 512):
            payload = stated(random.Random(spans), spans)
            batches = [Batch("traces", payload, spans)] * max(20, options.requests // max(1, spans // 4))
            taken: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for turn in range(options.rounds):
                for joins in (True, False):
                    state = Path(folder) / f"{spans}-{turn}-{joins}"
                    taken[joins].append(drained(state, target, batches, joins=joins))
            print(f"{len(batches)} requests of {spans} spans ({len(payload)} bytes)")
            medians = {}
            for joins, word in ((False, "each by itself"), (True, "joined")):
                seconds = medians[joins] = statistics.median(took for took, _ in taken[joins])
                cpu = statistics.median(cpu for _, cpu in taken[joins])
                total = len(batches) * spans
                print(
                    f"  {word:<15}{len(batches) / seconds:9.0f} requests/s {total / seconds:9.0f} spans/s"
                    f"   CPU {cpu / total * 1e6:6.2f} us/span",
                    flush=True,
                )
            print(f"  joined is {medians[False] / medians[True]:.1f} times as fast")


if __name__ == "__main__":
    main()
