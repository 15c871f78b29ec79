"""Several real upstreams: dead ones, hanging ones and poisoned requests delay nobody; the store is kept beside them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
from fan_out import exact
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_peers import PATIENCE, Upstream, export, refuse, running_upstream, trace_request

from sidecar.configuration.settings import Settings
from sidecar.delivery import Batch, Delivery, Exit, UpstreamOtlp, Way
from sidecar.ledger import Ledger
from sidecar.network.address import upstream as parse_upstream
from sidecar.service import Sidecar


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
            status = sidecar.answers.status()
            assert sidecar.store is not None
            assert len(sidecar.store.spans()) == spans_of(near) == 4
            assert status["destination"] == "near, embedded store"
            there = {name: found["records"]["traces"] for name, found in status["destinations"].items()}
            assert {name: counts["forwarded"] for name, counts in there.items()} == {"near": 4, "store": 4}
        finally:
            sidecar.stop(PATIENCE)
