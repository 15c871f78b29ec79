"""The sidecar's OTLP/HTTP against a real Collector's: it takes what we send, with each compression."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from collector_process import Collector, eventually, free_ports, running
from otlp_peers import log_request, sum_request, trace_request

from sidecar.configuration.upstreams import COMPRESSIONS
from sidecar.conventions import Signal
from sidecar.delivery import Batch, Refused, RetryLater, UpstreamHttp
from sidecar.network.address import upstream as parse_upstream

REQUESTS: dict[Signal, bytes] = {
    "traces": trace_request(50, tenant="over-http"),
    "metrics": sum_request("autogen.messages", 1, tenant="over-http"),
    "logs": log_request(2, tenant="over-http"),
}


@pytest.fixture(scope="module")
def there(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, str]]:
    """A Collector that takes OTLP/HTTP, too."""
    (port,) = free_ports(1)
    endpoint = f"yaml:receivers::otlp::protocols::http::endpoint: 127.0.0.1:{port}"
    with running(binary, tmp_path_factory.mktemp("collector") / "log", f"--config={endpoint}") as collector:
        yield collector, f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("signal", list(REQUESTS))
def test_a_collector_takes_it(there: tuple[Collector, str], signal: Signal, compression: str) -> None:
    """Every signal, with every compression; one on top of another, as requests are joined."""
    collector, url = there
    destination = UpstreamHttp(parse_upstream(url, "http/protobuf"), compression=compression)  # type: ignore[arg-type]
    before = len(collector.upstream.received[signal])
    assert destination.deliver(Batch(signal, REQUESTS[signal] * 3, 3)) == 0
    destination.close()
    eventually(lambda: len(collector.upstream.received[signal]) > before, "the Collector hands it on")
    assert b"over-http" in b"".join(collector.upstream.received[signal])


def test_what_it_says_to_nonsense_is_understood(there: tuple[Collector, str]) -> None:
    """400 is about the batch; a path that nobody serves is final, too."""
    _, url = there
    destination = UpstreamHttp(parse_upstream(url, "http/protobuf"))
    with pytest.raises(Refused, match="upstream_http_400") as refused:
        destination.deliver(Batch("traces", b"\xff\xff\xff", 3))
    assert refused.value.divisible
    assert destination.deliver(Batch("traces", REQUESTS["traces"], 50)) == 0
    destination.close()
    lost = UpstreamHttp(parse_upstream(f"{url}/nowhere", "http/protobuf"))
    with pytest.raises(Refused, match="upstream_http_404"):
        lost.deliver(Batch("traces", REQUESTS["traces"], 50))
    lost.close()


def test_a_grpc_port_is_no_http_upstream(there: tuple[Collector, str]) -> None:
    """The wrong protocol in the settings: nothing is counted as delivered, nothing is thrown away."""
    collector, _ = there
    destination = UpstreamHttp(parse_upstream(f"http://{collector.otlp}", "http/protobuf"), deadline=3.0)
    with pytest.raises(RetryLater):
        destination.deliver(Batch("traces", REQUESTS["traces"], 50))
    destination.close()
