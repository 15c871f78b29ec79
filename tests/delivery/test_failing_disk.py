"""A disk that is full, read-only or broken: nothing is taken, readiness says so, delivery goes on, it recovers."""

from __future__ import annotations

import ctypes
import errno
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from otlp_peers import PATIENCE, export, outlet, running_upstream, trace_request

from sidecar.configuration.settings import ConfigurationError, Settings
from sidecar.delivery import Batch, BatchQueue, Way
from sidecar.delivery.disk import Folder
from sidecar.delivery.frames import FRAME_BYTES, HEADER_BYTES, Damaged
from sidecar.delivery.segments import Reader, Writer
from sidecar.ledger import Ledger
from sidecar.service import Sidecar

SMALL = Batch("traces", b"x" * 50, 1)


class Failing(Folder):
    """A folder in which one operation fails with one error, while it is told to."""

    operation = ""
    code = 0

    def __getattribute__(self, name: str) -> Any:
        if name == Failing.operation:
            raise OSError(Failing.code, os.strerror(Failing.code))
        return super().__getattribute__(name)


@pytest.fixture
def failing() -> Iterator[type[Failing]]:
    yield Failing
    Failing.operation = ""


def taken_out(queue: BatchQueue) -> list[bytes]:
    found = []
    while (batch := outlet(queue).head(0)) is not None:
        found.append(batch.payload)
        outlet(queue).done()
    return found


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("operation", ["create", "reserve", "write", "sync", "sync_names"])
def test_a_failing_disk_stops_the_taking_and_nothing_else(
    tmp_path: Path, failing: type[Failing], operation: str, code: int
) -> None:
    """Refused, not ready; what is inside goes on; all works again when the disk does, also for the next process."""
    queue = BatchQueue(tmp_path / "state", Ledger(), 8 * 136, open_folder=failing)
    numbers = iter(range(1000))

    def offer() -> str | None:
        return queue.offer(Batch("traces", str(next(numbers)).encode() * 10, 1))

    assert [offer() for _ in range(4)] == [None] * 4
    assert queue.ready
    failing.operation, failing.code = operation, code
    refusals = [offer() for _ in range(4)]
    assert set(refusals) <= {None, "queue_disk"}  # what is not needed for every batch fails with the next segment
    assert refusals[-1] == "queue_disk"
    assert not queue.ready
    assert not queue.ready
    first = outlet(queue).head(0)
    assert first is not None
    outlet(queue).done()
    failing.operation = ""
    assert queue.ready
    assert offer() is None
    kept = [str(n).encode() * 10 for n, refusal in enumerate([None] * 4 + refusals + [None]) if refusal is None]
    queue.release()
    queue = BatchQueue(tmp_path / "state", Ledger())
    assert taken_out(queue) == kept[1:]
    queue.release()


def test_a_write_that_gets_through_in_part_leaves_nothing(tmp_path: Path) -> None:
    """The kernel's own limit on a file's size, half-way through a batch: refused, and the next segment is sound."""
    code = """if True:
        import resource, sys
        from pathlib import Path
        from sidecar.ledger import Ledger
        from sidecar.delivery import Batch, BatchQueue, Way
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        queue = BatchQueue(Path(sys.argv[1]), Ledger())
        print([queue.offer(Batch("traces", bytes([number]) * size, 1))
               for number, size in enumerate((6_000, 6_000, 12_000, 30_000, 6_000), 1)], queue.ready)
    """
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "state")], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[None, None, 'queue_disk', 'queue_disk', None] True"
    ledger = Ledger()
    queue = BatchQueue(tmp_path / "state", ledger)  # the process above ended without a word
    assert [(payload[0], len(payload)) for payload in taken_out(queue)] == [(1, 6000), (2, 6000), (5, 6000)]
    assert sum(ledger._lost.values()) == 0
    queue.release()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=1m,mode=700") != 0:
        pytest.skip("needs the right to mount a file system; the cases above need none")
    yield folder
    libc.umount2(bytes(folder), 2)


def test_a_disk_that_is_full_and_has_room_again(small_disk: Path) -> None:
    """A real full disk: put off, not ready, drained, ready by itself; every byte that was taken comes out."""
    ledger = Ledger()
    queue = BatchQueue(small_disk / "state", ledger, 8 * 100_000)
    foreign = small_disk / "foreign"
    foreign.write_bytes(b"f" * 700_000)
    taken = 0
    while queue.offer(Batch("traces", taken.to_bytes(4, "big") * 5_000, 1)) is None:
        taken += 1
    assert 5 < taken < 20
    assert queue.offer(Batch("traces", b"z" * 20_000, 1)) == "queue_disk"
    assert not queue.ready
    assert [int.from_bytes(payload[:4], "big") for payload in taken_out(queue)] == list(range(taken))
    assert queue.ready  # what was delivered made room
    assert queue.offer(Batch("traces", b"z" * 20_000, 1)) is None
    assert taken_out(queue) == [b"z" * 20_000]
    queue.release()


def test_a_destination_that_is_away_does_not_fill_the_disk_for_the_others(small_disk: Path) -> None:
    """The disk is full before the bound is reached: the absent one loses what the other has had, and it goes on."""
    ledger = Ledger(("near", "far"))
    ways = (Way("near"), Way("far"))
    queue = BatchQueue(small_disk / "state", ledger, 8 * 100_000, ways=ways)
    (small_disk / "foreign").write_bytes(b"f" * 600_000)
    refused, taken = 0, 0
    for number in range(60):
        ledger.arrived("traces", 1)
        refusal = queue.offer(Batch("traces", number.to_bytes(4, "big") * 5_000, 1))
        if refusal is not None:
            assert refusal == "queue_disk"
            ledger.rejected("traces", 1, refusal)
            refused += 1
        while queue.outlets["near"].head(0) is not None:
            queue.outlets["near"].done()
            ledger.account("near").forwarded("traces", 1)
            taken += 1
    assert taken == 60 - refused
    assert refused < 20  # each refusal made room, and the sender's next attempt went through
    lost = ledger.reasons("far")["traces"]["dropped"]["queue_overtaken"]
    counts = ledger.records("far")["traces"]
    assert counts["received"] == counts["rejected"] + counts["dropped"] + counts["queued"]
    assert lost + counts["queued"] == taken
    queue.release()


def readiness(sidecar: Sidecar) -> tuple[int, list[str]]:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.admin_address.port, timeout=PATIENCE)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, json.loads(response.read())["not_ready"]
    finally:
        connection.close()


def test_senders_are_put_off_while_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UNAVAILABLE with RetryInfo, `/readyz` names the queue; then everything as before, and the ledger is exact."""
    with running_upstream() as upstream:
        environment = {
            "LISTEN": "127.0.0.1:0", "ADMIN": "127.0.0.1:0", "STATE_DIR": str(tmp_path / "state"),
            "UPSTREAM": upstream.url,
        }  # fmt: skip
        sidecar = Sidecar(
            Settings.from_environment({f"TENANTSCOPE_{key}": value for key, value in environment.items()})
        )
        sidecar.start()
        try:
            target = sidecar.listen_address.target

            def broken(descriptor: int) -> None:
                raise OSError(errno.EIO, "input/output error")

            with monkeypatch.context() as patch:
                patch.setattr(os, "fdatasync", broken)
                with pytest.raises(grpc.RpcError) as refused:
                    export(target, trace_request(5))
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
                assert "google.rpc.retryinfo-bin" in dict(refused.value.trailing_metadata())
                assert "queue" in readiness(sidecar)[1]
            assert sidecar._delivery is not None
            assert sidecar._delivery.wait_until_ready(PATIENCE)
            assert readiness(sidecar) == (200, [])
            export(target, trace_request(3))
            assert sidecar._delivery.queue.wait_until_empty(PATIENCE)
        finally:
            sidecar.stop(PATIENCE)
        counts = sidecar.ledger.records()["traces"]
        assert (counts["received"], counts["forwarded"], counts["rejected"], counts["queued"]) == (8, 3, 5, 0)
        assert sidecar.ledger.reasons()["traces"]["rejected"] == {"queue_disk": 5}
        assert upstream.taken == [("traces", upstream.taken[0][1])]


def test_what_cannot_be_read_now_is_not_given_up(tmp_path: Path, failing: type[Failing]) -> None:
    """Too many open files: the batch stays; a process that cannot read it either does not start; later it is there."""
    state = tmp_path / "state"
    queue = BatchQueue(state, Ledger(), open_folder=failing)
    assert queue.offer(SMALL) is None
    failing.operation, failing.code = "open", errno.EMFILE
    queue.close()  # ends the wait before the next attempt
    assert outlet(queue).head(0) is None
    assert queue.records == 1
    queue.release()
    with pytest.raises(ConfigurationError, match="TENANTSCOPE_STATE_DIR: cannot read"):
        BatchQueue(state, Ledger(), open_folder=failing)
    failing.operation = ""
    queue = BatchQueue(state, Ledger(), open_folder=failing)
    assert taken_out(queue) == [SMALL.payload]
    queue.release()


def test_a_start_that_fails_keeps_nothing_open(tmp_path: Path, failing: type[Failing]) -> None:
    """Neither a file nor the lock: the next attempt in the same process has both."""
    queue = BatchQueue(tmp_path / "state", Ledger())
    assert queue.offer(SMALL) is None
    queue.release()
    failing.operation, failing.code = "read", errno.EMFILE
    for _ in range(3):
        with pytest.raises(ConfigurationError):
            BatchQueue(tmp_path / "state", Ledger(), open_folder=failing)
    assert not [file for file in Path("/proc/self/fd").iterdir() if file.resolve().is_relative_to(tmp_path)]
    failing.operation = ""
    queue = BatchQueue(tmp_path / "state", Ledger())
    assert taken_out(queue) == [SMALL.payload]
    queue.release()


def test_what_the_disk_takes_in_parts_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three bytes at a time, across the pieces."""
    folder = Folder(tmp_path)
    descriptor = folder.create("file")
    monkeypatch.setattr(os, "writev", lambda descriptor, pieces: os.write(descriptor, b"".join(pieces)[:3]))
    folder.write(descriptor, b"", b"ab", b"cdefghi", b"", b"j")
    folder.close(descriptor)
    folder.leave()
    assert (tmp_path / "file").read_bytes() == b"abcdefghij"


def test_what_cannot_be_read_further_on_keeps_nothing_back(tmp_path: Path) -> None:
    """Batches are read ahead; where that fails, each is read by itself."""
    bound = HEADER_BYTES + 2 * (FRAME_BYTES + len(SMALL.payload))

    class Unreadable(Folder):
        def read(self, descriptor: int, offset: int, length: int) -> bytes:
            if offset + length > bound:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(descriptor, offset, length)

    queue = BatchQueue(tmp_path / "state", Ledger(), open_folder=Unreadable)
    assert [queue.offer(SMALL) for _ in range(4)] == [None] * 4
    assert taken_out(queue) == [SMALL.payload] * 2
    queue.close()


def test_what_was_read_wrongly_once_is_read_again(tmp_path: Path) -> None:
    """A flipped bit on the way from the disk costs nothing, if it is not there the next time."""
    wrong = iter([True])

    class Flipping(Folder):
        def read(self, descriptor: int, offset: int, length: int) -> bytes:
            found = super().read(descriptor, offset, length)
            return found[:-1] + bytes((found[-1] ^ 1,)) if next(wrong, False) else found

    folder = Flipping(tmp_path)
    segment, end = Writer(folder, 1).write([SMALL, SMALL], 1000, 1000)
    segment.end = end
    reader = Reader(folder)
    second = HEADER_BYTES + FRAME_BYTES + len(SMALL.payload)
    assert reader.read(segment, HEADER_BYTES, end).batch.payload == SMALL.payload
    with pytest.raises(Damaged):
        reader.read(segment, second, end)
    assert reader.read(segment, second, end).batch.payload == SMALL.payload
    reader.close()
    folder.leave()


@pytest.mark.parametrize("size", [100, 300_000, 600_000, 3_000_000])
def test_no_byte_is_read_twice(tmp_path: Path, size: int) -> None:
    """Whatever the batches' size: what was read ahead is kept."""
    read: list[int] = []

    class Counting(Folder):
        def read(self, descriptor: int, offset: int, length: int) -> bytes:
            read.append(length)
            return super().read(descriptor, offset, length)

    folder = Counting(tmp_path)
    batch = Batch("traces", bytes(size), 1)
    segment, segment.end = Writer(folder, 1).write([batch] * 5, 1000, 10**9)
    reader, start = Reader(folder), HEADER_BYTES
    while start < segment.end:
        frame = reader.read(segment, start, segment.end)
        assert frame.batch.payload == batch.payload
        start = frame.end
    assert sum(read) == segment.end - HEADER_BYTES
    reader.close()
    folder.leave()
