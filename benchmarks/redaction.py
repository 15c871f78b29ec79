"""What redaction costs: microseconds of CPU a record, in batches of 512 as the SDK sends them.

    python -m benchmarks.redaction [--rounds 40]

A span has 12 attributes and an event. The workloads run interleaved, round by round, so that a busy machine slows all
of them alike: nothing to do; 20 % of the values dropped and 10 % masked; the same with every text new, so that
nothing is remembered, once as names are numbered (`Planner4711`), once with random letters in every name, and once more
with what is dropped as long as it is in life. The last of these, of fifty tenants, is the plain line that the next are
held against: in resources of eight spans, as a gateway sends them; while tenants have quotas, when it is asked of every
record whose it is; of one tenant alone, then; while every fifth of them is over its quota; under a policy with tiers;
and with tiers of which one puts pseudonyms in the place of names.

Points of metrics, by kind, are held against numbers. And, for scale, protobuf's own parser (in C) reads and writes the
bytes of the first.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.points import POINTS, Kind, points
from benchmarks.spans import DROPPED, MASKED, SPANS, Suffix, alike, batch, lettered, numbered, stated
from sidecar import memory
from sidecar.redaction import MasterKey, Policy, Pseudonyms, Redactor
from sidecar.redaction.policy import shipped_file
from sidecar.senders.debtors import Debtors

NOBODY: Final = Debtors(frozenset())
#: Every fifth of the tenants.
SOME: Final = Debtors(frozenset(f"tenant-{number:05}".encode() for number in range(0, 50, 5)))
TIERS: Final = """
tiers:
  quiet:
    tenants: ["tenant-0000*"]
    attributes:
      gen_ai.tool.name: {action: drop}
  named:
    tenants: ["tenant-0001*", "tenant-0002*"]
    attributes:
      gen_ai.agent.name: {action: ACTION}
"""


class Workload(NamedTuple):
    """Requests, and what is done with each.

    Attributes:
        against: the workload that it is held against.
    """

    batches: Iterator[bytes]
    handle: Callable[[bytes], object]
    against: str = ""


def _redactor(action: str = "") -> Redactor:
    source = shipped_file("default.yaml") + (TIERS.replace("ACTION", action).encode() if action else b"")
    return Redactor(Policy.parse(source), Pseudonyms(MasterKey("k1", bytes(32))))


def workloads() -> dict[str, Workload]:
    """What is measured, by name."""
    chance = random.Random(7)
    plain = "the same, 1.2 kB a span"

    def redact(redactor: Redactor, debtors: Debtors | None = None) -> Callable[[bytes], object]:
        return lambda payload: redactor.redact("traces", payload, None, debtors)

    def redact_points(payload: bytes) -> object:
        return everybodys.redact("metrics", payload)

    def parse(payload: bytes) -> object:
        return ExportTraceServiceRequest.FromString(payload).SerializeToString()

    def batches(dropped: float, masked: float, suffix: Suffix = alike) -> Iterator[bytes]:
        while True:
            yield batch(chance, dropped, masked, suffix)

    def as_stated(tenant: str | None = None) -> Iterator[bytes]:
        while True:
            yield stated(chance, tenant=tenant)

    def by_eights() -> Iterator[bytes]:
        while True:
            yield b"".join(stated(chance, spans=8) for _ in range(SPANS // 8))

    def of_points(kind: Kind) -> Iterator[bytes]:
        while True:
            yield points(chance, kind)

    everybodys = _redactor()
    return {
        "all allowed": Workload(batches(0, 0), redact(everybodys)),
        "20 % dropped, 10 % masked": Workload(batches(DROPPED, MASKED), redact(everybodys)),
        "the same, new numbers": Workload(batches(DROPPED, MASKED, numbered), redact(everybodys)),
        "the same, new letters": Workload(batches(DROPPED, MASKED, lettered), redact(everybodys)),
        plain: Workload(as_stated(), redact(everybodys)),
        "  in resources of eight": Workload(by_eights(), redact(everybodys), plain),
        "  with quotas": Workload(as_stated(), redact(everybodys, NOBODY), plain),
        "  with quotas, of one tenant": Workload(as_stated("tenant-00001"), redact(everybodys, NOBODY), plain),
        "  with quotas, a fifth over": Workload(as_stated(), redact(everybodys, SOME), plain),
        "  with tiers": Workload(as_stated(), redact(_redactor("mask")), plain),
        "  with tiers and quotas": Workload(as_stated(), redact(_redactor("mask"), NOBODY), plain),
        "  with tiers and pseudonyms": Workload(as_stated(), redact(_redactor("pseudonymise")), plain),
        "points, numbers": Workload(of_points("sum"), redact_points),
        "points, histograms": Workload(of_points("histogram"), redact_points, "points, numbers"),
        "points, exponential": Workload(of_points("exponential_histogram"), redact_points, "points, numbers"),
        "protobuf parses and writes": Workload(batches(0, 0), parse),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="batches a workload, after two to warm up")
    rounds = parser.parse_args().rounds
    memory.configure(several=False)  # as the sidecar has it
    work = workloads()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 2):
        for name, workload in work.items():
            payload = next(workload.batches)
            began = time.process_time()
            workload.handle(payload)
            if turn >= 2:
                seconds[name].append(time.process_time() - began)
    print(f"{SPANS} spans or {POINTS} points a batch; {rounds} interleaved rounds; CPU us/record")
    print(f"{'':30}{'median':>8}{'p10':>8}{'p90':>8}{'of plain':>10}")
    for name, taken in seconds.items():
        each = [second / SPANS * 1e6 for second in taken]
        low, *_, high = statistics.quantiles(each, n=10)
        against = work[name].against
        ratio = f"{statistics.median(taken) / statistics.median(seconds[against]):10.2f}" if against else ""
        print(f"{name:30}{statistics.median(each):8.1f}{low:8.1f}{high:8.1f}{ratio}")


if __name__ == "__main__":
    main()
