"""A start with much in the queue: it looks at the ends of finished segments, and knows what waits all the same."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from otlp_peers import outlet

from sidecar.conventions import SIGNALS
from sidecar.delivery import Batch, BatchQueue, Way
from sidecar.delivery.disk import Folder
from sidecar.ledger import Ledger

BATCH_BYTES = 5_000
BATCHES = 300
BOUND = 8 * 50_000  # a segment has ten of them
WAYS = (Way("near"), Way("far"))
NAMES = [way.name for way in WAYS]


class Counting(Folder):
    """Counts the bytes that are read."""

    count = 0

    def read(self, descriptor: int, offset: int, length: int) -> bytes:
        found = super().read(descriptor, offset, length)
        Counting.count += len(found)
        return found


@pytest.fixture
def counting() -> type[Counting]:
    Counting.count = 0
    return Counting


def batch(number: int) -> Batch:
    return Batch(SIGNALS[number % 3], number.to_bytes(4, "big") * (BATCH_BYTES // 4), number + 1)


def opened(state: Path, open_folder: Any = Folder, bound: int = BOUND) -> tuple[BatchQueue, Ledger]:
    ledger = Ledger(NAMES)
    queue = BatchQueue(state, ledger, bound, ways=WAYS, open_folder=open_folder)
    queue._max_bytes = 10**9
    return queue, ledger


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Thirty segments of ten batches; one destination has had half a segment, the other nothing."""
    queue, _ = opened(tmp_path / "state")
    for number in range(BATCHES):
        assert queue.offer(batch(number)) is None
    for _ in range(5):
        assert queue.outlets["near"].head(0) is not None
        queue.outlets["near"].done()
    queue.release()
    return tmp_path / "state"


def waiting(numbers: range) -> dict[str, int]:
    return {signal: sum(n + 1 for n in numbers if SIGNALS[n % 3] == signal) for signal in SIGNALS}


def queued(ledger: Ledger, name: str) -> dict[str, int]:
    return {signal: counts["queued"] for signal, counts in ledger.records(name).items()}


def test_a_start_reads_little_and_counts_all(filled: Path, counting: type[Counting]) -> None:
    """The one segment that somebody has had a part of is read, of the others a header and a footer."""
    queue, ledger = opened(filled, counting)
    assert counting.count < 11 * (BATCH_BYTES + 16) + 30 * 52 + 1000
    assert queued(ledger, "near") == waiting(range(5, BATCHES))
    assert queued(ledger, "far") == waiting(range(BATCHES))
    for name, first in (("near", 5), ("far", 0)):
        for number in range(first, BATCHES):
            head = queue.outlets[name].head(0)
            assert head is not None
            assert (head.signal, head.payload, head.records) == (
                batch(number).signal,
                batch(number).payload,
                number + 1,
            )
            queue.outlets[name].done()
            ledger.account(name).forwarded(head.signal, head.records)
        assert not any(queued(ledger, name).values())
        assert queue.outlets[name].head(0) is None
    queue.release()
    assert not list(filled.glob("queue/*.queue"))


def test_the_sum_of_the_files_is_kept_as_they_come_and_go(filled: Path) -> None:
    """It is what the files have, at every moment, and never less."""
    queue, _ = opened(filled)

    def on_disk() -> int:
        return sum(file.stat().st_size for file in filled.glob("queue/*.queue"))

    assert queue._stock.size() == on_disk()
    for number in range(BATCHES):
        for name in NAMES:
            assert queue.outlets[name].head(0) is not None
            queue.outlets[name].done()
        assert queue.offer(batch(number)) is None
        assert on_disk() <= queue._stock.size() == sum(segment.size for segment in queue._stock.segments)
    queue.release()


def test_a_queue_that_a_killed_process_left_is_known_as_well(filled: Path) -> None:
    """No segment has a footer, as those of earlier versions: all is read, and the counts are the same."""
    for file in filled.glob("queue/*.queue"):
        os.truncate(file, file.stat().st_size - 36)
    queue, ledger = opened(filled)
    assert queued(ledger, "near") == waiting(range(5, BATCHES))
    assert queued(ledger, "far") == waiting(range(BATCHES))
    assert sum(ledger._lost.values()) == 0
    queue.release()


def test_a_footer_of_another_segment_is_not_believed(filled: Path) -> None:
    """Bytes that the disk once held for another file say nothing of this one."""
    first, second = sorted(filled.glob("queue/*.queue"))[1:3]
    assert first.stat().st_size == second.stat().st_size
    first.write_bytes(first.read_bytes()[:-36] + second.read_bytes()[-36:])
    queue, ledger = opened(filled)
    assert queued(ledger, "far") == waiting(range(BATCHES))  # its frames are whole
    assert ledger._lost["corrupt"] == 36
    queue.release()


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_a_disk_that_has_no_room_for_a_footer_ends_nothing(
    tmp_path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last thing that a process writes fails: what was taken is there, whole, and nothing counts as lost."""
    queue = BatchQueue(tmp_path / "state", Ledger())
    for number in range(3):
        assert queue.offer(batch(number)) is None

    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "")

    with monkeypatch.context() as full:
        full.setattr(queue._folder, operation, fail)
        queue.release()
    ledger = Ledger()
    queue = BatchQueue(tmp_path / "state", ledger)
    assert sum(ledger._lost.values()) == 0
    for number in range(3):
        head = outlet(queue).head(0)
        assert head is not None
        assert head.payload == batch(number).payload
        outlet(queue).done()
    queue.release()
