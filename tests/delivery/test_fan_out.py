"""Several destinations on one queue: each gets everything, none waits for another, and each has an exact account."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_peers import PATIENCE, Upstream, export, log_request, refuse, running_upstream, trace_request

from sidecar.accounting import Ledger
from sidecar.address import upstream as parse_upstream
from sidecar.conventions import SIGNALS
from sidecar.delivery import Batch, BatchQueue, Delivery, Exit, UpstreamOtlp, Way
from sidecar.delivery.stock import OVERTAKEN
from sidecar.service import Sidecar
from sidecar.settings import Settings

NAMES = ("near", "far")
PAYLOAD = 10
FRAME, HEADER = 16 + PAYLOAD, 16


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


# The queue -------------------------------------------------------------------------------------------------------
def test_each_gets_everything_at_its_own_pace(tmp_path: Path) -> None:
    """A segment goes when the slowest has had it, and not before."""
    ledger = Ledger(NAMES)
    folder = tmp_path / "state" / "queue"
    with opened(tmp_path / "state", ledger, [Way(name) for name in NAMES], 8 * (HEADER + 2 * FRAME)) as queue:
        for number in range(10):
            assert offer(queue, ledger, number) is None
        files = len(list(folder.glob("*.queue")))
        assert taken_out(queue, ledger, "near") == list(range(10))
        assert len(list(folder.glob("*.queue"))) == files
        assert taken_out(queue, ledger, "far", 4) == [0, 1, 2, 3]
        queue.outlets["far"].head(0)
        assert len(list(folder.glob("*.queue"))) == files - 2
        assert taken_out(queue, ledger, "far") == [4, 5, 6, 7, 8, 9]
        assert queue.wait_until_empty(0)
        exact(ledger)
    assert not list(folder.glob("*.queue"))


def test_how_far_each_has_come_survives_a_restart(tmp_path: Path) -> None:
    """Each goes on where it was, and what it recovers is counted for it alone."""
    ways = [Way(name) for name in NAMES]
    with opened(tmp_path / "state", Ledger(NAMES), ways) as queue:
        for number in range(10):
            assert queue.offer(batch(number)) is None
        taken_out(queue, Ledger(NAMES), "near", 7)
        taken_out(queue, Ledger(NAMES), "far", 2)
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, ways) as queue:
        assert [ledger.records(name)["traces"]["recovered"] for name in NAMES] == [3, 8]
        assert queue.records == 8
        assert taken_out(queue, ledger, "near") == [7, 8, 9]
        assert taken_out(queue, ledger, "far") == list(range(2, 10))
        exact(ledger)


def test_who_is_no_longer_named_holds_nothing_up_and_who_is_new_gets_what_was_not_delivered(tmp_path: Path) -> None:
    """A destination under a new name goes on where the slowest stood: it may be the same one, at another address."""
    with opened(tmp_path / "state", Ledger(NAMES), [Way(name) for name in NAMES]) as queue:
        for number in range(10):
            queue.offer(batch(number))
        taken_out(queue, Ledger(NAMES), "near", 7)
        taken_out(queue, Ledger(NAMES), "far", 2)
    names = ("near", "elsewhere")
    ledger = Ledger(names)
    with opened(tmp_path / "state", ledger, [Way(name) for name in names]) as queue:
        assert taken_out(queue, ledger, "near") == [7, 8, 9]
        assert taken_out(queue, ledger, "elsewhere") == list(range(2, 10))
        assert queue.wait_until_empty(0)
    assert not list((tmp_path / "state" / "queue").glob("*.queue"))


def test_who_is_overtaken_loses_the_oldest_and_nobody_is_put_off(tmp_path: Path) -> None:
    """A dead destination does not keep telemetry from the others, whatever the bound; what it loses is counted."""
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, [Way(name) for name in NAMES], 8 * (HEADER + 2 * FRAME)) as queue:
        delivered = []
        for number in range(100):
            assert offer(queue, ledger, number) is None
            delivered += taken_out(queue, ledger, "near")
        assert delivered == list(range(100))
        assert queue._bytes() <= 8 * (HEADER + 2 * FRAME)
        lost = ledger.reasons("far")["traces"]["dropped"][OVERTAKEN]
        assert lost >= 80
        assert taken_out(queue, ledger, "far") == list(range(lost, 100))
        exact(ledger)
        assert ledger.records("near")["traces"]["dropped"] == 0


def test_what_nobody_has_had_is_never_given_up_for_room(tmp_path: Path) -> None:
    """All destinations stand still: senders are put off, as with one."""
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, [Way(name) for name in NAMES], 8 * (HEADER + 2 * FRAME)) as queue:
        taken = 0
        while offer(queue, ledger, taken) is None:
            taken += 1
        taken_out(queue, ledger, "near", 1)  # not past the segment
        assert offer(queue, ledger, taken) == "queue_full"
        assert taken_out(queue, ledger, "far") == list(range(taken))
        exact(ledger)


def test_who_must_not_lose_anything_puts_senders_off(tmp_path: Path) -> None:
    """`when_full: wait`: the queue is full although the others have had everything."""
    ways = [Way("near"), Way("far", may_lose=False)]
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, ways, 8 * (HEADER + 2 * FRAME)) as queue:
        taken = 0
        while offer(queue, ledger, taken) is None:
            taken_out(queue, ledger, "near")
            taken += 1
        assert taken == 16
        assert taken_out(queue, ledger, "far") == list(range(16))
        exact(ledger)


def test_what_is_on_its_way_when_it_is_overtaken_has_one_fate(tmp_path: Path) -> None:
    """The batch that the slow one is being sent at that moment may arrive still; it is not counted twice."""
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, [Way(name) for name in NAMES], 8 * (HEADER + 2 * FRAME)) as queue:
        for number in range(16):
            offer(queue, ledger, number)
        far = queue.outlets["far"]
        head = far.head(0)
        assert head is not None
        taken_out(queue, ledger, "near")
        assert offer(queue, ledger, 16) is None  # far loses 0 and 1, of which 0 is on its way
        assert ledger.reasons("far")["traces"]["dropped"] == {OVERTAKEN: 1}
        exact(ledger)
        ledger.account("far").forwarded("traces", 1)
        far.done()
        assert taken_out(queue, ledger, "far") == list(range(2, 17))
        exact(ledger)
        assert ledger.records("far")["traces"]["queued"] == 0


def test_a_damaged_segment_costs_each_what_it_was_still_to_get(tmp_path: Path) -> None:
    """Who has had it already loses nothing."""
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, [Way(name) for name in NAMES]) as queue:
        for number in range(10):
            offer(queue, ledger, number)
        assert len(taken_out(queue, ledger, "near")) == 10
        with (tmp_path / "state" / "queue" / "000000000001.queue").open("r+b") as file:
            file.seek(HEADER + 3 * FRAME + 20)
            file.write(b"!")
        assert taken_out(queue, ledger, "far") == [0, 1, 2]
        assert ledger.reasons("far")["traces"]["dropped"] == {"queue_corrupt": 7}
        assert ledger.records("near")["traces"]["dropped"] == 0
        exact(ledger)


def parts_of(queue: BatchQueue, ledger: Ledger, name: str, most: int) -> list[bytes]:
    """So many batches, taken out and accounted, as the payloads of 14 bytes that they were made of."""
    found: list[bytes] = []
    outlet = queue.outlets[name]
    while most and (head := outlet.head(0)) is not None:
        found += [head.payload[at : at + 14] for at in range(0, len(head.payload), 14)]
        ledger.account(name).forwarded(head.signal, head.records)
        outlet.done()
        most -= 1
    return found


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from(SIGNALS), st.integers(1, 9)),
        st.tuples(st.just("done"), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(st.just("separate"), st.integers(0, 2)),
        st.tuples(st.just("reopen")),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=100)
@given(STEPS, st.lists(st.booleans(), min_size=3, max_size=3))
def test_it_behaves_like_a_list_for_each(steps: list[tuple], joins: list[bool]) -> None:
    """Any order of offers, deliveries, refusals and restarts, joined or not: each gets every record once, in order."""
    names = ("a", "b", "c")
    ways = [Way(name, joins=joined) for name, joined in zip(names, joins, strict=True)]
    expected: dict[str, list[bytes]] = {name: [] for name in names}
    got: dict[str, list[bytes]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(names)
        queue = BatchQueue(Path(folder) / "state", ledger, 1_600, ways=ways)
        for serial, step in enumerate(steps):
            if step[0] == "offer":
                payload = f"{step[1]}{serial:04}".encode().rjust(14)
                ledger.arrived(step[1], step[2])
                refusal = queue.offer(Batch(step[1], payload, step[2]))
                if refusal is None:
                    for name in names:
                        expected[name].append(payload)
                else:
                    ledger.rejected(step[1], step[2], refusal)
            elif step[0] == "done":
                got[names[step[1]]] += parts_of(queue, ledger, names[step[1]], step[2])
            elif step[0] == "separate":
                outlet = queue.outlets[names[step[1]]]
                head = outlet.head(0)
                if head is not None and outlet.separate():
                    alone = outlet.head(0)
                    assert alone is None or len(alone.payload) == 14
            else:
                queue.release()
                ledger = Ledger(names)
                queue = BatchQueue(Path(folder) / "state", ledger, 1_600, ways=ways)
            exact(ledger, names)
        lost = {name: sum(c["dropped"] for c in ledger.records(name).values()) for name in names}
        for name in names:
            got[name] += parts_of(queue, ledger, name, 10**6)
            if not any(lost.values()) and ("reopen",) not in steps:
                assert got[name] == expected[name]
            else:  # who was overtaken has gaps, and nothing else
                order = iter(expected[name])
                assert all(any(part == other for other in order) for part in got[name])
        queue.release()


# Joining ---------------------------------------------------------------------------------------------------------
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


# Real upstreams --------------------------------------------------------------------------------------------------
@contextmanager
def delivering(
    state: Path, urls: Sequence[str], max_bytes: int = 256 * 1024 * 1024
) -> Iterator[tuple[Delivery, Ledger]]:
    names = [parse_upstream(url).address.target for url in urls]
    ledger = Ledger(names)
    exits = [
        Exit(Way(name, joins=True), lambda url=url: UpstreamOtlp(parse_upstream(url), deadline=PATIENCE))  # type: ignore[misc]
        for name, url in zip(names, urls, strict=True)
    ]
    delivery = Delivery(state, ledger, exits, max_bytes)
    delivery.start()
    try:
        yield delivery, ledger
    finally:
        delivery.stop(0)


def send(delivery: Delivery, ledger: Ledger, spans: int = 3) -> None:
    ledger.arrived("traces", spans)
    assert delivery.offer(Batch("traces", trace_request(spans), spans)) is None


def spans_of(upstream: Upstream) -> int:
    return sum(
        len(scope.spans)
        for _, payload in list(upstream.taken)
        for group in ExportTraceServiceRequest.FromString(payload).resource_spans
        for scope in group.scope_spans
    )


@contextmanager
def nobody() -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and not listening: refused
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_a_dead_upstream_delays_nobody_and_gets_everything_later(tmp_path: Path) -> None:
    """The living one has all of it while nobody answers at the other address; the next process finds somebody there."""
    with running_upstream() as near, ExitStack() as stack:
        far_url = stack.enter_context(nobody())
        with delivering(tmp_path / "state", [near.url, far_url]) as (delivery, ledger):
            near_name, far_name = ledger._accounts
            for _ in range(20):
                send(delivery, ledger)
            near.wait_for(1)
            with delivery.queue._lock:
                assert delivery.queue._stock.changed.wait_for(lambda: delivery.queue._stock.lines[0].empty, PATIENCE)
            assert spans_of(near) == 60
            assert delivery.ready == {near_name: True, far_name: False}
            assert ledger.records(far_name)["traces"]["queued"] == 60
            exact(ledger, [near_name, far_name])
        far = stack.enter_context(running_upstream())
        with delivering(tmp_path / "state", [near.url, far.url]) as (delivery, ledger):
            assert delivery.queue.wait_until_empty(PATIENCE)
            assert spans_of(far) == 60
            assert spans_of(near) == 60
            exact(ledger, list(ledger._accounts))


def test_an_upstream_that_hangs_delays_nobody(tmp_path: Path) -> None:
    """It holds its own batch, and nothing else; a stop ends it."""
    release = threading.Event()
    with running_upstream() as near, running_upstream() as far:
        far.always = lambda context: b"" * release.wait(PATIENCE)
        try:
            with delivering(tmp_path / "state", [near.url, far.url]) as (delivery, ledger):
                _, far_name = ledger._accounts
                send(delivery, ledger)
                far.wait_for(1)
                for _ in range(10):
                    send(delivery, ledger)
                with delivery.queue._lock:
                    assert delivery.queue._stock.changed.wait_for(
                        lambda: delivery.queue._stock.lines[0].empty, PATIENCE
                    )
                assert spans_of(near) == 33
                assert ledger.records(far_name)["traces"]["queued"] == 33
        finally:
            release.set()


def test_one_poisoned_request_among_joined_ones_costs_itself(tmp_path: Path) -> None:
    """A joined batch that is refused is taken apart: the others arrive whole, whatever the status was."""
    with running_upstream() as upstream:
        poison = trace_request(2, tenant="poison")
        upstream.always = lambda context: (
            refuse(grpc.StatusCode.INTERNAL)(context) if b"poison" in upstream.requests[-1][1] else b""
        )
        hold = threading.Event()
        upstream.answers.append(lambda context: b"" * hold.wait(PATIENCE))
        with delivering(tmp_path / "state", [upstream.url]) as (delivery, ledger):
            send(delivery, ledger, 1)
            upstream.wait_for(1)  # the others queue up behind it, and are joined
            for number in range(5):
                payload = poison if number == 2 else trace_request(3)
                records = 2 if number == 2 else 3
                ledger.arrived("traces", records)
                assert delivery.offer(Batch("traces", payload, records)) is None
            hold.set()
            assert delivery.queue.wait_until_empty(PATIENCE)
            counts = ledger.records()["traces"]
            assert (counts["forwarded"], counts["rejected"], counts["queued"]) == (13, 2, 0)
            assert ledger.reasons()["traces"]["rejected"] == {"upstream_internal": 2}
            assert spans_of(upstream) == 13


def test_the_embedded_store_can_be_kept_beside_upstreams(tmp_path: Path) -> None:
    """From a file: each destination is named in the status, with an account of its own."""
    with running_upstream() as near:
        file = tmp_path / "upstreams.yaml"
        file.write_text(f"upstreams:\n  near: {{url: '{near.url}'}}\nembedded_store: true\n")
        environment = {
            "LISTEN": "127.0.0.1:0", "ADMIN": "127.0.0.1:0", "STATE_DIR": str(tmp_path / "state"),
            "UPSTREAMS_FILE": str(file),
        }  # fmt: skip
        sidecar = Sidecar(Settings.from_environment({f"TENANTSCOPE_{key}": text for key, text in environment.items()}))
        sidecar.start()
        try:
            export(sidecar.listen_address.target, trace_request(4))
            assert sidecar._delivery is not None
            assert sidecar._delivery.queue.wait_until_empty(PATIENCE)
            status = sidecar.status()
            assert sidecar.store is not None
            assert len(sidecar.store.spans()) == spans_of(near) == 4
            assert status["destination"] == "near, embedded store"
            there = {name: found["records"]["traces"] for name, found in status["destinations"].items()}
            assert {name: counts["forwarded"] for name, counts in there.items()} == {"near": 4, "store": 4}
        finally:
            sidecar.stop(PATIENCE)
