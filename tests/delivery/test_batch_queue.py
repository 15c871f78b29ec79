"""The queue between the sender's answer and the destination."""

from __future__ import annotations

import threading

from sidecar.delivery import Batch, BatchQueue

SMALL = Batch("traces", b"x" * 10, 1)


def test_batches_come_out_in_the_order_they_went_in() -> None:
    """First in, first out, and a batch stays at the head until it is done."""
    queue = BatchQueue()
    first, second = Batch("traces", b"a", 1), Batch("logs", b"b", 1)
    assert queue.offer(first)
    assert queue.offer(second)
    assert queue.head() is queue.head() is first
    queue.done()
    assert queue.head() is second


def test_a_batch_beyond_the_bound_in_bytes_is_refused() -> None:
    """The batch at the head counts until its fate is known."""
    queue = BatchQueue(max_bytes=25)
    assert [queue.offer(SMALL) for _ in range(3)] == [True, True, False]
    assert queue.head() is SMALL
    assert not queue.offer(SMALL)
    queue.done()
    assert queue.offer(SMALL)


def test_a_batch_beyond_the_bound_in_records_is_refused() -> None:
    """Small payloads can hold many records; both bounds hold."""
    queue = BatchQueue(max_records=5)
    assert queue.offer(Batch("metrics", b"x", 5))
    assert not queue.offer(SMALL)
    assert queue.records == 5


def test_what_never_fits_is_taken_by_an_empty_queue() -> None:
    """Refused for ever, its sender would try for ever."""
    queue = BatchQueue(max_bytes=5)
    assert queue.offer(SMALL)
    assert not queue.offer(SMALL)


def test_a_closed_queue_refuses_and_gives_out_what_it_has() -> None:
    """After `close` the forwarder still empties it, then learns that there is no more."""
    queue = BatchQueue()
    queue.offer(SMALL)
    queue.close()
    assert not queue.offer(SMALL)
    assert queue.head() is SMALL
    queue.done()
    assert queue.head() is None


def test_the_bounds_hold_while_many_threads_offer() -> None:
    """What was accepted is what comes out, and never more than the bound is inside."""
    queue = BatchQueue(max_bytes=100)
    accepted: list[bool] = []
    threads = [
        threading.Thread(target=lambda: accepted.extend(queue.offer(SMALL) for _ in range(200))) for _ in range(8)
    ]
    taken = 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or queue.records:
        if queue.head(0.01) is not None:
            assert queue.records <= 10
            queue.done()
            taken += 1
    assert taken == sum(accepted)
    assert queue.wait_until_empty(0)
