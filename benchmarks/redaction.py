"""What redaction costs: microseconds of CPU a span, in batches of 512 spans as the SDK sends them.

    python -m benchmarks.redaction [--rounds 40]

A span has 12 attributes and an event. The workloads run interleaved, round by round, so that a busy machine slows all
of them alike: nothing to do; 20 % of the values dropped and 10 % masked; the same with every text new, so that
nothing is remembered, once as names are numbered (`Planner4711`), once with random letters in every name, and once more
with what is dropped as long as it is in life; that again while tenants have quotas, when it is asked of every record
whose it is; and, for scale, protobuf's own parser (in C) reading and writing the bytes of the first.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.spans import DROPPED, MASKED, SPANS, Suffix, alike, batch, lettered, numbered, stated
from sidecar.redaction import Policy, Redactor
from sidecar.senders.debtors import Debtors


def workloads() -> dict[str, tuple[Iterator[bytes], Callable[[bytes], object]]]:
    """What is measured, by name: batches, and what is done with each."""
    chance = random.Random(7)
    redactor = Redactor(Policy.default())

    def redact(payload: bytes) -> object:
        return redactor.redact("traces", payload)

    def redact_for_quotas(payload: bytes) -> object:
        return redactor.redact("traces", payload, None, Debtors(frozenset()))

    def parse(payload: bytes) -> object:
        return ExportTraceServiceRequest.FromString(payload).SerializeToString()

    def batches(dropped: float, masked: float, suffix: Suffix = alike) -> Iterator[bytes]:
        while True:
            yield batch(chance, dropped, masked, suffix)

    def as_stated() -> Iterator[bytes]:
        while True:
            yield stated(chance)

    return {
        "all allowed": (batches(0, 0), redact),
        "20 % dropped, 10 % masked": (batches(DROPPED, MASKED), redact),
        "the same, new numbers": (batches(DROPPED, MASKED, numbered), redact),
        "the same, new letters": (batches(DROPPED, MASKED, lettered), redact),
        "the same, 1.2 kB a span": (as_stated(), redact),
        "the same, with quotas": (as_stated(), redact_for_quotas),
        "protobuf parses and writes": (batches(0, 0), parse),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="batches a workload, after two to warm up")
    rounds = parser.parse_args().rounds
    work = workloads()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 2):
        for name, (batches, handle) in work.items():
            payload = next(batches)
            began = time.process_time()
            handle(payload)
            if turn >= 2:
                seconds[name].append(time.process_time() - began)
    print(f"{SPANS} spans a batch, 12 attributes and an event each; {rounds} interleaved rounds; CPU us/span")
    print(f"{'':28}{'median':>8}{'p10':>8}{'p90':>8}")
    for name, taken in seconds.items():
        each = [second / SPANS * 1e6 for second in taken]
        low, *_, high = statistics.quantiles(each, n=10)
        print(f"{name:28}{statistics.median(each):8.1f}{low:8.1f}{high:8.1f}")


if __name__ == "__main__":
    main()
