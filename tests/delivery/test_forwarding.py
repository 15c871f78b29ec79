"""Delivery to a real upstream over gRPC: what is retried, what is given up, what is counted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from otlp_peers import PATIENCE, Upstream, outlet, refuse, running_upstream, take_in_part, trace_request

from sidecar.delivery import BACKOFF, Batch, BatchQueue, DeadLetters, Forwarder, UpstreamOtlp
from sidecar.ledger import Ledger
from sidecar.network.address import upstream as parse_upstream

RETRYABLE = ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"]
PERMANENT = ["PERMISSION_DENIED", "UNIMPLEMENTED", "INTERNAL", "UNKNOWN"]


class Delivery:
    """A queue and a forwarder to an upstream; records every wait instead of waiting."""

    def __init__(self, url: str, state: Path, *, deadline: float = PATIENCE, patient: bool = False) -> None:
        self.ledger = Ledger()
        self.queue = BatchQueue(state, self.ledger)
        self.waits: list[float] = []
        self.waited = threading.Event()
        self.destination = UpstreamOtlp(parse_upstream(url), deadline=deadline)
        account = self.ledger.account()
        self.forwarder = Forwarder(
            "upstream",
            outlet(self.queue),
            self.destination,
            account,
            DeadLetters(state / "dead-letters", account),
            backoff=replace(BACKOFF, chance=lambda: 0.5),
            wait=None if patient else self._wait,
        )
        self.forwarder.start()

    def _wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.waited.set()
        return False

    def send(self, spans: int = 3) -> None:
        self.ledger.arrived("traces", spans)
        assert self.queue.offer(Batch("traces", trace_request(spans), spans)) is None

    def stop(self, grace: float) -> None:
        self.queue.close()
        assert self.forwarder.stop(grace)
        self.queue.release()

    def settled(self) -> dict[str, int]:
        """The counts, once every batch has met its fate; the equation holds."""
        assert self.queue.wait_until_empty(PATIENCE)
        counts = self.ledger.records()["traces"]
        assert counts["received"] + counts["recovered"] == counts["forwarded"] + counts["rejected"] + counts["dropped"]
        assert counts["queued"] == 0
        return counts


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture
def delivery(upstream: Upstream, tmp_path: Path) -> Iterator[Delivery]:
    made = Delivery(upstream.url, tmp_path / "state")
    yield made
    made.stop(PATIENCE)


def test_redacted_bytes_arrive_as_they_are(upstream: Upstream, delivery: Delivery) -> None:
    """The payload is not touched on the way; of metadata there is the id of the batch, and nothing else."""
    delivery.send()
    assert delivery.settled()["forwarded"] == 3
    assert upstream.requests == [("traces", trace_request(3))]
    assert set(upstream.metadata[0]) - {"grpc-accept-encoding"} == {"user-agent", "tenantscope-batch-id"}


@pytest.mark.parametrize("code", RETRYABLE)
def test_a_retryable_status_is_retried_until_it_is_taken(upstream: Upstream, delivery: Delivery, code: str) -> None:
    """OTLP's table: these say "later"; the wait doubles."""
    upstream.answers.extend([refuse(grpc.StatusCode[code])] * 3)
    delivery.send()
    assert delivery.settled()["forwarded"] == 3
    assert len(upstream.requests) == 4
    assert len({sent["tenantscope-batch-id"] for sent in upstream.metadata}) == 1
    assert delivery.waits == [0.1875, 0.375, 0.75]


@pytest.mark.parametrize("code", PERMANENT)
def test_a_final_status_is_counted_and_the_next_batch_goes_on(
    upstream: Upstream, delivery: Delivery, code: str
) -> None:
    """A poisonous batch costs itself alone; the reason is the status."""
    upstream.answers.append(refuse(grpc.StatusCode[code], details="you sent secret-123"))
    delivery.send(3)
    delivery.send(2)
    counts = delivery.settled()
    assert (counts["forwarded"], counts["rejected"]) == (2, 3)
    assert delivery.ledger.reasons()["traces"]["rejected"] == {f"upstream_{code.lower()}": 3}
    assert delivery.waits == []


def test_resource_exhausted_is_retried_when_the_upstream_says_when(upstream: Upstream, delivery: Delivery) -> None:
    """With RetryInfo it is back-pressure; the upstream's wish is the least that is waited."""
    upstream.answers.append(refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=7))
    delivery.send()
    assert delivery.settled()["forwarded"] == 3
    assert delivery.waits == [7.0]


def test_a_wish_to_wait_for_hours_is_cut(upstream: Upstream, delivery: Delivery) -> None:
    """An upstream cannot silence the sidecar."""
    upstream.answers.append(refuse(grpc.StatusCode.UNAVAILABLE, retry_after=86_400))
    delivery.send()
    delivery.settled()
    assert delivery.waits == [30.0]


@pytest.mark.parametrize(("said", "counted"), [(1, 1), (3, 3), (1_000_000, 3), (-5, 0)])
def test_partial_success_is_counted_and_not_retried(
    upstream: Upstream, delivery: Delivery, said: int, counted: int
) -> None:
    """Refused records are rejected, the rest forwarded; an impossible count cannot break the equation."""
    upstream.answers.append(take_in_part(said))
    delivery.send(3)
    counts = delivery.settled()
    assert (counts["forwarded"], counts["rejected"]) == (3 - counted, counted)
    assert len(upstream.requests) == 1


def test_an_answer_that_is_no_answer_counts_as_taken(upstream: Upstream, delivery: Delivery) -> None:
    """The status was OK; words that nobody understands do not bring the records back."""
    upstream.answers.append(lambda context: b"\xff\xff\xff")
    delivery.send()
    assert delivery.settled()["forwarded"] == 3


def test_an_upstream_that_is_unavailable_most_of_the_time_gets_everything(
    upstream: Upstream, delivery: Delivery
) -> None:
    """7 of 10 attempts fail, 100 % of the records arrive."""
    for number in range(100):
        upstream.answers.append(refuse(grpc.StatusCode.UNAVAILABLE) if number % 10 < 7 else lambda context: b"")
    for _ in range(30):
        delivery.send(1)
    assert delivery.settled()["forwarded"] == 30


def test_an_upstream_that_hangs_is_given_up_after_the_deadline(upstream: Upstream, tmp_path: Path) -> None:
    """An attempt ends; the batch is tried again."""
    release = threading.Event()
    upstream.answers.append(lambda context: b"" * release.wait(PATIENCE))
    delivery = Delivery(upstream.url, tmp_path / "state", deadline=0.2)
    try:
        delivery.send()
        assert delivery.settled()["forwarded"] == 3
        assert len(delivery.waits) >= 1
    finally:
        release.set()
        delivery.stop(PATIENCE)


def test_an_upstream_that_comes_late_gets_what_waited_for_it(tmp_path: Path) -> None:
    """Nobody there at first: not ready, nothing lost; there later: everything delivered, ready."""
    target = f"unix:{tmp_path / 'upstream.sock'}"
    delivery = Delivery(target, tmp_path / "state", patient=True)
    try:
        delivery.send()
        delivery.send()
        assert not delivery.forwarder.ready
        with running_upstream(target) as upstream:
            upstream.wait_for(2)
            assert delivery.settled()["forwarded"] == 6
            assert delivery.forwarder.wait_until_ready(PATIENCE)
    finally:
        delivery.stop(0)


def test_readiness_is_known_before_the_first_batch(upstream: Upstream, tmp_path: Path) -> None:
    """A probe finds the upstream without sending it anything."""
    delivery = Delivery(upstream.url, tmp_path / "state")
    assert delivery.forwarder.wait_until_ready(PATIENCE)
    assert upstream.requests == []
    delivery.stop(PATIENCE)
    assert not delivery.forwarder.ready


def test_stopping_drains_the_queue(upstream: Upstream, tmp_path: Path) -> None:
    """What was promised to a sender is delivered within the grace period."""
    delivery = Delivery(upstream.url, tmp_path / "state")
    for _ in range(20):
        delivery.send(1)
    delivery.stop(PATIENCE)
    assert delivery.settled()["forwarded"] == 20


def test_what_cannot_be_delivered_in_the_grace_period_is_there_for_the_next_process(
    tmp_path: Path, upstream: Upstream
) -> None:
    """Dead upstream: the stop ends, what is left is queued, and the next forwarder delivers it."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refused
        delivery = Delivery(f"http://127.0.0.1:{nobody.getsockname()[1]}", tmp_path / "state", patient=True)
        for _ in range(5):
            delivery.send(2)
        delivery.stop(0.1)
    counts = delivery.ledger.records()["traces"]
    assert (counts["received"], counts["queued"], counts["dropped"]) == (10, 10, 0)
    after = Delivery(upstream.url, tmp_path / "state")
    assert after.settled()["forwarded"] == 10
    assert upstream.requests == [("traces", trace_request(2))] * 5
    after.stop(PATIENCE)


def test_stopping_ends_an_attempt_that_hangs(upstream: Upstream, tmp_path: Path) -> None:
    """The grace period is kept although the upstream never answers."""
    release = threading.Event()
    upstream.always = lambda context: b"" * release.wait(PATIENCE)
    delivery = Delivery(upstream.url, tmp_path / "state", deadline=PATIENCE * 10, patient=True)
    delivery.send()
    upstream.wait_for(1)
    delivery.stop(0.1)
    assert delivery.ledger.records()["traces"]["queued"] == 3
    release.set()


def test_a_forwarder_that_never_started_can_be_stopped(upstream: Upstream, tmp_path: Path) -> None:
    """A start that failed half-way is undone without a thread."""
    destination = UpstreamOtlp(parse_upstream(upstream.url))
    ledger = Ledger()
    queue = BatchQueue(tmp_path / "state", ledger)
    letters = DeadLetters(tmp_path / "state" / "dead-letters", ledger.account())
    assert Forwarder("upstream", outlet(queue), destination, ledger.account(), letters).stop(0)
    queue.release()
    BatchQueue(tmp_path / "state", ledger).release()  # the folder is free again


@pytest.mark.parametrize("attempt", [0, 1, 5, 10_000])
def test_the_backoff_is_bounded(attempt: int) -> None:
    """At most 5 s, so that delivery goes on within 10 s of the upstream's return; never a tight loop."""
    for chance in (0.0, 0.999):
        assert 0.125 <= replace(BACKOFF, chance=lambda value=chance: value).delay(attempt) <= 5.0
