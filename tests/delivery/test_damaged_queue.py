"""A queue whose files are not what was written: it starts, gives out what is whole, and counts the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from otlp_peers import outlet

from sidecar.delivery import Batch, BatchQueue
from sidecar.delivery.segments import QUARANTINED
from sidecar.ledger import Ledger

BATCHES = [Batch("traces", bytes([65 + number]) * 10, number + 1) for number in range(5)]
FRAME = 16 + 10
HEADER = 16
FOOTER = 36
FRAMES = HEADER + 5 * FRAME  # where they end
SIZE = FRAMES + FOOTER
FIRST, SECOND = "000000000001.queue", "000000000002.queue"


@pytest.fixture(scope="module", params=["one segment", "two segments"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with five batches in the first segment, which is finished, and five more in a second, or none."""
    state = tmp_path_factory.mktemp("sound") / "state"
    for _ in range(1 if request.param == "one segment" else 2):
        queue = BatchQueue(state, Ledger())
        for batch in BATCHES:
            assert queue.offer(batch) is None
        queue.release()
    return state


class Copies:
    """Copies of a state folder, one at a time."""

    def __init__(self, original: Path, folder: Path) -> None:
        self._original, self._copy = original, folder / "copy"
        self.later = 5 if (original / "queue" / SECOND).exists() else 0  # batches that no damage touches

    def new(self) -> Path:
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._original, self._copy)
        return self._copy


@pytest.fixture
def copies(sound: Path, tmp_path: Path) -> Copies:
    return Copies(sound, tmp_path)


def reopened(state: Path) -> tuple[list[bytes], float, dict[str, int], Ledger]:
    """Payloads given out, bytes counted as lost, records counted at the end; the queue works afterwards."""
    ledger = Ledger()
    queue = BatchQueue(state, ledger)
    counts = ledger.records()["traces"]
    assert counts["queued"] == counts["recovered"] == queue.records
    payloads: list[bytes] = []
    while (batch := outlet(queue).head(0)) is not None:
        payloads.append(batch.payload)
        outlet(queue).done()
        ledger.account().forwarded("traces", batch.records)
    counts = ledger.records()["traces"]
    assert (counts["queued"], queue.records) == (0, 0)
    assert queue.offer(BATCHES[0]) is None
    assert outlet(queue).head(0) is not None
    outlet(queue).done()
    queue.release()
    return payloads, sum(ledger._lost.values()), counts, ledger


def expected(whole: int, copies: Copies) -> list[bytes]:
    payloads = [batch.payload for batch in BATCHES]
    return payloads[:whole] + payloads[: copies.later]


def test_a_cut_at_every_offset(copies: Copies) -> None:
    """Whatever is missing from the end, every whole batch before it is there, and every byte after it is counted."""
    for offset in range(SIZE):
        state = copies.new()
        with (state / "queue" / FIRST).open("r+b") as file:
            file.truncate(offset)
        payloads, lost, _, _ = reopened(state)
        whole = min(5, max(0, (offset - HEADER) // FRAME))
        assert payloads == expected(whole, copies), offset
        rest = offset if offset < HEADER else offset - HEADER - whole * FRAME
        assert lost == rest, offset


def test_a_flip_of_every_bit(copies: Copies) -> None:
    """The batches before the flipped bit are there as they were; what is after it in the segment is counted.

    In bytes by the start, where it had to read them, and otherwise in records, when they are read to be delivered.
    """
    for offset in range(SIZE):
        for bit in range(8):
            state = copies.new()
            file = state / "queue" / FIRST
            damaged = bytearray(file.read_bytes())
            damaged[offset] ^= 1 << bit
            file.write_bytes(damaged)
            payloads, lost, counts, ledger = reopened(state)
            whole = min(5, max(0, (offset - HEADER) // FRAME))
            assert payloads == expected(whole, copies), (offset, bit)
            read = offset < HEADER or offset >= FRAMES  # the footer is not believed
            left = SIZE if offset < 4 else SIZE - HEADER - whole * FRAME
            assert lost == (left if read else 0), (offset, bit)
            known = sum(range(1, whole + 1)) + (15 if copies.later else 0)
            assert counts["forwarded"] == known, (offset, bit)
            assert counts["dropped"] == (0 if read else 15 - sum(range(1, whole + 1))), (offset, bit)
            assert set(ledger.reasons()["traces"]["dropped"]) <= {"queue_corrupt"}


def test_a_flip_in_every_byte_of_a_segment_that_was_not_finished(copies: Copies) -> None:
    """A process that was killed leaves no footer: the start reads all of it, and counts in bytes."""
    for offset in range(FRAMES):
        state = copies.new()
        file = state / "queue" / FIRST
        damaged = bytearray(file.read_bytes()[:FRAMES])
        damaged[offset] ^= 1 << offset % 8
        file.write_bytes(damaged)
        payloads, lost, counts, _ = reopened(state)
        whole = max(0, (offset - HEADER) // FRAME)
        assert payloads == expected(whole, copies), offset
        assert lost == (FRAMES if offset < 4 else FRAMES - HEADER - whole * FRAME), offset
        assert counts["recovered"] == counts["forwarded"], offset


def test_zeros_at_the_end_are_what_a_power_cut_leaves(copies: Copies) -> None:
    """The file system had made the file longer and not yet written it: cut off, not put aside."""
    state = copies.new()
    last = state / "queue" / (SECOND if copies.later else FIRST)
    with last.open("r+b") as file:
        file.truncate(FRAMES)
        file.seek(FRAMES)
        file.write(bytes(1000))
    payloads, lost, _, ledger = reopened(state)
    assert payloads == expected(5, copies)
    assert lost == 1000
    assert ledger._lost["torn"] == 1000
    assert not list((state / "queue").glob("*.corrupt"))


def test_damage_in_the_middle_is_put_aside_and_kept(copies: Copies) -> None:
    """Somebody may want to look at it; it is not read again."""
    state = copies.new()
    file = state / "queue" / FIRST
    damaged = bytearray(file.read_bytes())
    damaged[HEADER + FRAME + 20] ^= 1
    file.write_bytes(damaged)
    _, _, counts, _ = reopened(state)
    assert counts["dropped"] == 14
    assert (state / "queue" / "000000000001.corrupt").read_bytes() == damaged
    payloads, lost, _, _ = reopened(state)
    assert (payloads, lost) == ([], 0)


def test_only_the_last_damaged_files_are_kept(tmp_path: Path) -> None:
    """A disk that goes bad does not fill up with them."""
    queue_folder = tmp_path / "state" / "queue"
    BatchQueue(tmp_path / "state", Ledger()).release()
    for number in range(1, 21):
        (queue_folder / f"{number:012}.queue").write_bytes(b"noise" * 10)
    assert reopened(tmp_path / "state")[0] == []
    kept = sorted(path.name for path in queue_folder.glob("*.corrupt"))
    assert kept == [f"{number:012}.corrupt" for number in range(21 - QUARANTINED, 21)]


@pytest.fixture
def in_the_middle(tmp_path: Path) -> Iterator[Path]:
    """A state folder with a cursor after the second of five batches."""
    state = tmp_path / "state"
    queue = BatchQueue(state, Ledger())
    for batch in BATCHES:
        queue.offer(batch)
    for _ in range(2):
        outlet(queue).head()
        outlet(queue).done()
    queue.release()
    return state


def test_a_cursor_that_is_damaged_counts_as_none(in_the_middle: Path, tmp_path: Path) -> None:
    """Every bit and every cut: batches come twice rather than not at all."""
    cursor = (in_the_middle / "queue" / "cursor").read_bytes()
    copies = Copies(in_the_middle, tmp_path)
    assert reopened(copies.new())[0] == [batch.payload for batch in BATCHES[2:]]
    damages = [cursor[:end] for end in range(len(cursor))] + [cursor + b"\0"]
    for offset in range(len(cursor)):
        damages += [cursor[:offset] + bytes([cursor[offset] ^ 1 << bit]) + cursor[offset + 1 :] for bit in range(8)]
    for damage in damages:
        state = copies.new()
        (state / "queue" / "cursor").write_bytes(damage)
        payloads, lost, _, _ = reopened(state)
        assert payloads == [batch.payload for batch in BATCHES]
        assert lost == 0


def test_a_segment_that_is_cut_before_the_cursor_holds_nothing(in_the_middle: Path) -> None:
    """What was delivered is not lost, and not delivered again."""
    with (in_the_middle / "queue" / FIRST).open("r+b") as file:
        file.truncate(HEADER + FRAME)
    assert reopened(in_the_middle)[:2] == ([], 0)


def test_damage_that_happens_while_it_runs_costs_the_segment_and_is_counted(tmp_path: Path) -> None:
    """Here the queue knows how many records it had taken: they are dropped with a reason, and the next one goes on."""
    state = tmp_path / "state"
    queue = BatchQueue(state, Ledger())
    for batch in BATCHES:
        queue.offer(batch)
    queue.release()
    ledger = Ledger()
    queue = BatchQueue(state, ledger)
    queue.offer(Batch("logs", b"later", 7))
    ledger.arrived("logs", 7)
    with (state / "queue" / FIRST).open("r+b") as file:
        file.seek(HEADER + FRAME + 20)
        file.write(b"!")
    first = outlet(queue).head()
    assert first is not None
    assert first.payload == BATCHES[0].payload
    outlet(queue).done()
    ledger.account().forwarded("traces", 1)
    later = outlet(queue).head()
    assert later is not None
    assert later.payload == b"later"
    counts = ledger.records()["traces"]
    assert (counts["recovered"], counts["forwarded"], counts["dropped"], counts["queued"]) == (15, 1, 14, 0)
    assert ledger.reasons()["traces"]["dropped"] == {"queue_corrupt": 14}
    assert [path.name for path in (state / "queue").glob("*.corrupt")] == ["000000000001.corrupt"]
    queue.release()
