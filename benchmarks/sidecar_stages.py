"""What each stage of the sidecar costs alone: microseconds of CPU a span, of this process, with the real components.

Whoever is at the other end, a sender or an upstream, is in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.sidecar_process import send, upstream
from benchmarks.spans import SPANS
from sidecar import memory
from sidecar.delivery import Batch, BatchQueue, UpstreamOtlp
from sidecar.intake import Admission, Intake
from sidecar.ledger import Ledger
from sidecar.network.address import listener
from sidecar.network.address import upstream as upstream_address
from sidecar.redaction import Policy, Redactor
from sidecar.senders.clients import Clients
from sidecar.senders.debtors import Debtors

ROUNDS = 60
RECEIVE_SECONDS = 3.0


def line(what: str, figure: str, target: str = "") -> None:
    """One row of the table."""
    print(f"{what:<58}{figure:>20}   {target}", flush=True)


def stages(payloads: list[bytes], folder: Path) -> None:
    """Print them, and their sum."""
    memory.configure(several=False)  # as the sidecar has it
    redactor = Redactor(Policy.default())
    redacted = [redactor.redact("traces", payload).payload for payload in payloads]
    size = sum(map(len, redacted)) / sum(map(len, payloads))
    queue = BatchQueue(folder, Ledger())
    (outlet,) = queue.outlets.values()

    def on_disk(payload: bytes) -> None:
        queue.offer(Batch("traces", payload, SPANS))
        outlet.head()
        outlet.done()

    found = {"receive": _receive(payloads)}
    found["redact, default policy"] = _timed(lambda payload: redactor.redact("traces", payload), payloads)
    found["durable queue, in and out"] = _timed(on_disk, redacted)
    queue.release()
    with upstream() as target:
        destination = UpstreamOtlp(upstream_address(f"http://{target}"))
        found["forward"] = _timed(lambda payload: destination.deliver(Batch("traces", payload, SPANS)), redacted)
        destination.close()
    for name, each in found.items():
        line(f"  {name}", f"{each * 1e6:.1f} us")
    line("  the stages together", f"{sum(found.values()) * 1e6:.1f} us", f"{size:.0%} of the bytes remain")
    quotas = _timed(lambda payload: redactor.redact("traces", payload, None, Debtors(frozenset())), payloads)
    line("  redact, while tenants have quotas", f"{quotas * 1e6:.1f} us", "at most 1.25 of what it is without")


def _timed(work: Callable[[bytes], object], payloads: list[bytes]) -> float:
    """Median seconds of CPU a span, all threads of the process."""
    taken = []
    for turn in range(ROUNDS):
        before = time.process_time()
        work(payloads[turn % len(payloads)])
        taken.append(time.process_time() - before)
    return statistics.median(taken[2:]) / SPANS


def _receive(payloads: list[bytes]) -> float:
    """The intake with nothing behind it."""
    spans = 0

    def consume(*_: object) -> int:
        nonlocal spans
        spans += SPANS
        return 0

    intake = Intake(listener("127.0.0.1:0"), Admission(Clients(None), consume), Ledger())
    intake.start()
    sender = multiprocessing.get_context("spawn").Process(
        target=send,
        args=(intake.address.target, payloads[:16], SPANS),
        kwargs={"seconds": RECEIVE_SECONDS, "senders": 1},
    )
    sender.start()
    while not spans:
        time.sleep(0.01)
    counted, before = spans, time.process_time()
    sender.join()
    counted, took = spans - counted, time.process_time() - before
    intake.stop(1)
    return took / counted
