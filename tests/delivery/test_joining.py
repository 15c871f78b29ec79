"""Small requests are joined on their way out, within bounds, and are taken apart again when they are refused."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fan_out import FRAME, HEADER, batch, opened
from otlp_peers import PATIENCE, log_request, trace_request

from sidecar.conventions import SIGNALS
from sidecar.delivery import Batch, Way
from sidecar.ledger import Ledger


def test_requests_that_are_there_are_joined_and_stay_what_they_were(tmp_path: Path) -> None:
    """One signal's in a row, in order: concatenated messages are one message with the resources of all."""
    ledger = Ledger()
    with opened(tmp_path / "state", ledger, [Way(joins=True)]) as queue:
        payloads = [trace_request(number, tenant=f"t{number}") for number in (1, 2, 3)]
        for number, payload in enumerate(payloads, 1):
            queue.offer(Batch("traces", payload, number))
        queue.offer(Batch("logs", log_request(1), 1))
        queue.offer(Batch("traces", payloads[0], 1))
        (outlet,) = queue.outlets.values()
        first = outlet.head(0)
        assert first is not None
        assert (first.signal, first.payload, first.records) == ("traces", b"".join(payloads), 6)
        outlet.done()
        rest = []
        while (head := outlet.head(0)) is not None:
            rest.append((head.signal, head.records))
            outlet.done()
        assert rest == [("logs", 1), ("traces", 1)]


def test_what_is_small_waits_a_moment_for_company(tmp_path: Path) -> None:
    """What comes meanwhile goes with it, and nobody who comes has to wake it; the end of the queue does."""
    waits = threading.Event()

    class Closing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.set()
            return super().wait(None if timeout is None else PATIENCE)

    with opened(tmp_path / "state", Ledger(), [Way(joins=True)]) as queue:
        queue._stock.closing = Closing()
        queue.offer(batch(1))
        (outlet,) = queue.outlets.values()
        heads: list[Batch | None] = []
        taking = threading.Thread(target=lambda: heads.append(outlet.head()))
        taking.start()
        assert waits.wait(PATIENCE)
        queue.offer(batch(2))
        assert not heads
        queue.close()
        taking.join(PATIENCE)
        assert [head and head.records for head in heads] == [2]


def test_what_cannot_go_together_waits_once_for_all_of_it(tmp_path: Path) -> None:
    """Requests of signals in turn: each for itself would leave 50 a second, however many come."""
    waits: list[float | None] = []

    class Closing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return False

    with opened(tmp_path / "state", Ledger(), [Way(joins=True)]) as queue:
        queue._stock.closing = Closing()
        (outlet,) = queue.outlets.values()
        for turn in range(2):
            for number in range(30):
                queue.offer(Batch(SIGNALS[number % 3], b"", 1))
            for _ in range(30):
                assert outlet.head() is not None
                outlet.done()
            assert len(waits) == turn + 1  # who comes later waits again


def test_what_is_much_waits_for_nothing(tmp_path: Path) -> None:
    """Nor does what goes to a destination that has each by itself."""

    class Closing(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise AssertionError(timeout)

    ways = [Way("much", joins=True), Way("single")]
    with opened(tmp_path / "state", Ledger(("much", "single")), ways, 100_000_000) as queue:
        queue._stock.closing = Closing()
        queue.offer(batch(1))
        assert queue.outlets["single"].head() is not None
        queue.offer(Batch("traces", bytes(1024 * 1024), 1))
        assert queue.outlets["much"].head() is not None


@pytest.mark.parametrize(("size", "records", "batches"), [(300_000, 1, 3), (10, 3000, 2), (2_000_000, 1, 1)])
def test_a_joined_batch_is_bounded(tmp_path: Path, size: int, records: int, batches: int) -> None:
    """A mebibyte, 8192 records; one that is larger by itself goes alone."""
    with opened(tmp_path / "state", Ledger(), [Way(joins=True)], 100_000_000) as queue:
        for _ in range(6):
            assert queue.offer(Batch("traces", bytes(size), records)) is None
        (outlet,) = queue.outlets.values()
        head = outlet.head(0)
        assert head is not None
        assert head.records == batches * records


def test_a_joined_batch_has_a_name_of_its_own_each_time_the_same(tmp_path: Path) -> None:
    """From the first part's and the last one's; after a restart, too."""
    ways = [Way(joins=True)]
    ids = []
    for _ in range(2):
        with opened(tmp_path / "state", Ledger(), ways) as queue:
            if not ids:
                for number in range(3):
                    queue.offer(batch(number))
            (outlet,) = queue.outlets.values()
            head = outlet.head(0)
            assert head is not None
            ids.append(head.id)
    assert ids[0] == ids[1]
    assert ids[0].endswith(f"-{HEADER}-{HEADER + 2 * FRAME}")
