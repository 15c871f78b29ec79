"""A queue with several outlets, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sidecar.delivery import Batch, BatchQueue, Way
from sidecar.ledger import Ledger

NAMES = ("near", "far")
PAYLOAD = 10
FRAME, HEADER, AROUND = 16 + PAYLOAD, 16, 16 + 36


def batch(number: int) -> Batch:
    return Batch("traces", number.to_bytes(PAYLOAD, "big"), 1)


@contextmanager
def opened(state: Path, ledger: Ledger, ways: Sequence[Way], max_bytes: int = 1_000_000) -> Iterator[BatchQueue]:
    queue = BatchQueue(state, ledger, max_bytes, ways=ways)
    try:
        yield queue
    finally:
        queue.release()


def offer(queue: BatchQueue, ledger: Ledger, number: int) -> str | None:
    ledger.arrived("traces", 1)
    refusal = queue.offer(batch(number))
    if refusal is not None:
        ledger.rejected("traces", 1, refusal)
    return refusal


def taken_out(queue: BatchQueue, ledger: Ledger, name: str, most: int = 10**6) -> list[int]:
    """What the destination is still to get, taken out and accounted."""
    found = []
    outlet = queue.outlets[name]
    while len(found) < most and (head := outlet.head(0)) is not None:
        found.append(int.from_bytes(head.payload, "big"))
        ledger.account(name).forwarded(head.signal, head.records)
        outlet.done()
    return found


def exact(ledger: Ledger, names: Sequence[str] = NAMES) -> None:
    for name in names:
        for signal, counts in ledger.records(name).items():
            fates = counts["forwarded"] + counts["rejected"] + counts["dropped"] + counts["queued"]
            assert counts["received"] + counts["recovered"] == fates, (name, signal, counts)
