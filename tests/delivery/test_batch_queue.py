"""The queue on disk as its users see it: order, bounds, what the next process finds."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otlp_peers import PATIENCE, outlet

from sidecar.configuration.settings import ConfigurationError
from sidecar.conventions import SIGNALS
from sidecar.delivery import Batch, BatchQueue
from sidecar.ledger import Ledger

SMALL = Batch("traces", b"x" * 10, 1)
ON_DISK = 16 + 10  # bytes of the frame of SMALL
AROUND = 16 + 36  # bytes of a segment before its first frame and after its last one


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., BatchQueue]]:
    """Opens the queue of one folder; a queue that was opened before is let go."""
    queues: list[BatchQueue] = []

    def again(max_bytes: int = 1_000_000, ledger: Ledger | None = None) -> BatchQueue:
        for queue in queues:
            queue.release()
        queues.append(BatchQueue(tmp_path / "state", ledger or Ledger(), max_bytes))
        return queues[-1]

    yield again
    for queue in queues:
        queue.release()


def contents(queue: BatchQueue) -> list[tuple[str, bytes, int]]:
    """Everything in the queue, taken out."""
    found = []
    while (batch := outlet(queue).head(0)) is not None:
        found.append((batch.signal, batch.payload, batch.records))
        outlet(queue).done()
    return found


def test_batches_come_out_in_the_order_they_went_in(opened: Callable[..., BatchQueue]) -> None:
    """First in, first out, and a batch stays at the head until it is done."""
    queue = opened()
    assert queue.offer(Batch("traces", b"a", 1)) is None
    assert queue.offer(Batch("logs", b"b", 2)) is None
    first = outlet(queue).head()
    assert outlet(queue).head() is first
    assert queue.records == 3
    assert contents(queue) == [("traces", b"a", 1), ("logs", b"b", 2)]
    assert queue.records == 0


def test_a_batch_beyond_the_bound_is_refused(opened: Callable[..., BatchQueue]) -> None:
    """The bound is on the files: full segments make room when they have been delivered."""
    queue = opened(8 * (AROUND + 2 * ON_DISK))
    taken = 0
    while queue.offer(SMALL) is None:
        taken += 1
    assert taken == 16
    assert queue.offer(SMALL) == "queue_full"
    outlet(queue).head()
    outlet(queue).done()
    assert queue.offer(SMALL) == "queue_full"
    outlet(queue).head()
    outlet(queue).done()
    assert outlet(queue).head() is not None
    assert queue.offer(SMALL) is None


def test_the_files_are_never_larger_than_the_bound(tmp_path: Path) -> None:
    """Their headers are bytes, too, whatever the bound is."""
    for bound in range(850, 1_000, 5):
        queue = BatchQueue(tmp_path / f"{bound}", Ledger(), bound)
        while queue.offer(SMALL) is None:
            pass
        size = sum(file.stat().st_size for file in (tmp_path / f"{bound}" / "queue").glob("*.queue"))
        assert bound - ON_DISK - AROUND < size <= bound
        queue.release()


def test_what_is_delivered_does_not_fill_the_disk(opened: Callable[..., BatchQueue], tmp_path: Path) -> None:
    """Far more passes through than fits; what remains is one segment at most, and none after the end."""
    queue = opened(2_000)
    for _ in range(500):
        assert queue.offer(SMALL) is None
        assert outlet(queue).head() is not None
        outlet(queue).done()
    outlet(queue).head(0)
    files = list((tmp_path / "state" / "queue").glob("*.queue"))
    assert sum(file.stat().st_size for file in files) <= 2_000 // 8
    queue.release()
    assert not list((tmp_path / "state" / "queue").glob("*.queue"))


def test_a_closed_queue_refuses_and_gives_out_what_it_has(opened: Callable[..., BatchQueue]) -> None:
    """After `close` the forwarder still empties it, then learns that there is no more."""
    queue = opened()
    queue.offer(SMALL)
    queue.close()
    assert queue.offer(SMALL) == "shutdown"
    assert outlet(queue).head() is not None
    outlet(queue).done()
    assert outlet(queue).head() is None


def test_the_bound_holds_while_many_threads_offer(opened: Callable[..., BatchQueue]) -> None:
    """What was accepted is what comes out, and never more than the bound is on disk."""
    queue = opened(2_000)
    answers: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: answers.extend(queue.offer(SMALL) for _ in range(100))) for _ in range(8)
    ]
    taken = 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or queue.records:
        if outlet(queue).head(0.01) is not None:
            with queue._lock:
                assert queue._bytes() <= 2_000
            outlet(queue).done()
            taken += 1
    assert taken == answers.count(None)
    assert set(answers) <= {None, "queue_full"}
    assert queue.wait_until_empty(0)


def test_the_next_process_finds_what_was_left_and_counts_it(opened: Callable[..., BatchQueue]) -> None:
    """Received anew, so that the equation holds; under the id that the batch had before."""
    queue = opened()
    for signal in SIGNALS:
        queue.offer(Batch(signal, signal.encode(), 3))
    outlet(queue).head()
    outlet(queue).done()
    before = outlet(queue).head()
    ledger = Ledger()
    queue = opened(ledger=ledger)
    after = outlet(queue).head()
    assert before is not None
    assert after == before
    counts = ledger.records()
    assert [counts[signal]["queued"] for signal in SIGNALS] == [0, 3, 3]
    assert [counts[signal]["recovered"] for signal in SIGNALS] == [0, 3, 3]
    assert [batch[0] for batch in contents(queue)] == ["metrics", "logs"]


def test_ids_are_never_given_twice(opened: Callable[..., BatchQueue]) -> None:
    """Whatever is delivered, removed and reopened between."""
    ids = []
    for _ in range(10):
        queue = opened()
        queue.offer(SMALL)
        queue.offer(SMALL)
        for _ in range(2):
            batch = outlet(queue).head()
            assert batch is not None
            ids.append(batch.id)
            outlet(queue).done()
    assert len(set(ids)) == 20


def test_one_sync_covers_all_who_wait(opened: Callable[..., BatchQueue], monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is busy with one batch, others come; all of them go with the next sync."""
    queue = opened()
    queue.offer(SMALL)  # a segment is there
    syncs: list[int] = []
    busy, go_on, real = threading.Event(), threading.Event(), os.fdatasync

    def sync(descriptor: int) -> None:
        syncs.append(descriptor)
        if len(syncs) == 1:
            busy.set()
            assert go_on.wait(PATIENCE)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    threads = [threading.Thread(target=queue.offer, args=(SMALL,)) for _ in range(8)]
    threads[0].start()
    assert busy.wait(PATIENCE)
    for thread in threads[1:]:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    while len(queue._waiting) < 7:
        assert time.monotonic() < deadline
    assert queue.records == 1  # and nobody has been told "taken"
    assert all(thread.is_alive() for thread in threads)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(syncs) == 2
    assert queue.records == 9


def test_nothing_of_it_is_open_to_other_users(opened: Callable[..., BatchQueue], tmp_path: Path) -> None:
    """Folders 0700, files 0600, whatever the umask of the process."""
    before = os.umask(0)
    try:
        queue = opened()
        queue.offer(SMALL)
        queue.offer(SMALL)
        outlet(queue).head()
        outlet(queue).done()
        queue._stock.note()
    finally:
        os.umask(before)
    folder = tmp_path / "state" / "queue"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes) == {"000000000001.queue", "cursor", "sidecar.lock"}
    assert set(modes.values()) == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {0o700}


def test_a_folder_has_one_owner(opened: Callable[..., BatchQueue], tmp_path: Path) -> None:
    """A second sidecar is told in one line, whatever its destination."""
    opened()
    with pytest.raises(ConfigurationError, match="TENANTSCOPE_STATE_DIR: another sidecar owns"):
        BatchQueue(tmp_path / "state", Ledger())


def test_what_is_not_ours_in_the_folder_is_left_alone(opened: Callable[..., BatchQueue], tmp_path: Path) -> None:
    """Files of other names stay; links, pipes and folders under ours don't stop a start, and are not followed."""
    folder = tmp_path / "state" / "queue"
    opened().release()
    secret = tmp_path / "secret"
    secret.write_bytes(b"TSQ1" + b"y" * 100)
    (folder / "notes.txt").write_text("mine")
    (folder / "000000000001.queue").symlink_to(secret)
    os.mkfifo(folder / "000000000002.queue")
    (folder / "000000000003.queue").mkdir()
    queue = opened()
    assert queue.offer(SMALL) is None
    assert contents(queue) == [("traces", SMALL.payload, 1)]
    assert (folder / "notes.txt").read_text() == "mine"
    assert secret.read_bytes() == b"TSQ1" + b"y" * 100


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from(SIGNALS), st.binary(max_size=40), st.integers(1, 9)),
        st.tuples(st.just("done")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("note")),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=100)
@given(STEPS)
def test_it_behaves_like_a_list(steps: list[tuple]) -> None:
    """Any order of offers, deliveries and restarts: what a list would hold, and an exact ledger in every process."""
    expected: list[tuple[str, bytes, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger()
        queue = BatchQueue(Path(folder) / "state", ledger, 1_600)  # segments of 200 bytes
        for step in steps:
            if step[0] == "offer":
                ledger.arrived(step[1], step[3])
                refusal = queue.offer(Batch(step[1], step[2], step[3]))
                if refusal is None:
                    expected.append(step[1:])
                else:
                    ledger.rejected(step[1], step[3], refusal)
            elif step[0] == "done":
                batch = outlet(queue).head(0)
                assert (batch is None) == (not expected)
                if batch is not None:
                    assert (batch.signal, batch.payload, batch.records) == expected.pop(0)
                    outlet(queue).done()
                    ledger.account().forwarded(batch.signal, batch.records)
            elif step[0] == "reopen":
                queue.release()
                ledger = Ledger()
                queue = BatchQueue(Path(folder) / "state", ledger, 1_600)
            else:
                queue._stock.note()
            held = sum(records for _, _, records in expected)
            assert queue.records == held == sum(counts["queued"] for counts in ledger.records().values())
        assert contents(queue) == expected
        queue.release()
