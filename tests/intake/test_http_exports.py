"""OTLP comes in over real HTTP: the same verdicts as over gRPC."""

from __future__ import annotations

import gzip
import http.client
from collections.abc import Iterator

import pytest
import zstandard
from google.rpc import status_pb2
from http_listener import PROTOBUF, REQUESTS, SECRET, Served, connected, serving
from otlp_peers import PATIENCE, trace_request

from sidecar.intake import Busy, Malformed
from sidecar.intake.verdicts import BUSY, DROPPED, FAULT, MALFORMED
from sidecar.network.otlp import SERVICES


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


@pytest.mark.parametrize("signal", list(REQUESTS))
def test_a_request_reaches_the_next_stage_byte_for_byte(served: Served, signal: str) -> None:
    """All three signals; the answer to one that was taken in full is empty protobuf."""
    status, headers, body = served.post(signal)
    assert (status, body) == (200, b"")
    assert headers["content-type"] == "application/x-protobuf"
    assert served.stage.taken == [(signal, REQUESTS[signal])]
    assert served.answered == {(signal, "ok"): 1}


def test_records_that_the_policy_dropped_are_told(served: Served) -> None:
    """`partial_success`, as over gRPC."""
    served.stage.answer = 2
    _, _, body = served.post()
    assert SERVICES["traces"].rejected(body) == 2
    assert DROPPED.encode() in body


@pytest.mark.parametrize(
    ("error", "code", "word", "text"),
    [
        (Malformed(), 400, "invalid_argument", MALFORMED),
        (Busy(1.5), 503, "unavailable", BUSY),
        (RuntimeError(SECRET), 500, "internal", FAULT),
    ],
)
def test_a_refusal_is_a_status_and_a_fixed_text(
    served: Served, caplog: pytest.LogCaptureFixture, error: Exception, code: int, word: str, text: str
) -> None:
    """OTLP's own Status as the body; who is put off learns for how long, in whole seconds."""
    served.stage.answer = error
    status, headers, body = served.post()
    assert status == code
    assert status_pb2.Status.FromString(body).message == text
    assert headers.get("retry-after") == ("2" if code == 503 else None)
    assert SECRET not in str(body) + caplog.text
    assert served.answered == {("traces", word): 1}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Encoding": "br"}, 415),
        ({"Content-Encoding": "gzip, gzip"}, 415),
        ({"Content-Encoding": "gzip"}, 400),
        ({"Content-Encoding": "zstd"}, 400),
        ({"Origin": "https://evil.example"}, 403),
        ({"Content-Type": "application/x-protobuf; charset=x"}, 200),
        ({"Content-Encoding": "identity"}, 200),
    ],
)
def test_what_is_not_otlp_protobuf_is_refused(served: Served, headers: dict[str, str], code: int) -> None:
    """JSON is not taken: it says so, and it is counted. Nor is what a page in a browser sends."""
    assert served.post(headers=headers)[0] == code
    assert len(served.stage.taken) == (code == 200)
    if code == 415:
        assert served.answered == {("traces", "unimplemented"): 1}


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/v1/traces", 405), ("OPTIONS", "/v1/logs", 405), ("POST", "/v1/profiles", 404), ("POST", "/", 404),
     ("GET", "/metrics", 404), ("POST", "/v1/traces/../logs", 404), ("POST", "/v1/traces?x=1", 200)],
)  # fmt: skip
def test_nothing_else_is_served(served: Served, method: str, path: str, code: int) -> None:
    """Three paths and one method."""
    connection = http.client.HTTPConnection("127.0.0.1", served.intake.address.port, timeout=PATIENCE)
    connection.request(method, path, REQUESTS["traces"], PROTOBUF)
    assert connection.getresponse().status == code
    connection.close()


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_requests_are_understood(served: Served, encoding: str) -> None:
    """They arrive as if they were not."""
    body = trace_request(500)
    packed = gzip.compress(body) if encoding == "gzip" else zstandard.compress(body)
    assert served.post(body=packed, headers={"Content-Encoding": encoding})[0] == 200
    assert served.stage.taken == [("traces", body)]


def test_chunks_and_expectations_are_understood(served: Served) -> None:
    """Node's exporter sends chunks; curl asks before it sends a megabyte."""
    body = trace_request(100)
    pieces = (body[at : at + 1000] for at in range(0, len(body), 1000))
    assert served.post(body=pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})[0] == 200  # type: ignore[arg-type]
    with connected(served) as connection:
        head = f"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"  # noqa: E501
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert b"200 OK" in connection.recv(65536)
    assert served.stage.taken == [("traces", body)] * 2


def test_a_connection_is_kept_for_many_requests(served: Served) -> None:
    """Refused ones among them."""
    connection = http.client.HTTPConnection("127.0.0.1", served.intake.address.port, timeout=PATIENCE)
    connection.connect()
    own = connection.sock.getsockname()
    for number in range(10):
        served.stage.answer = Busy(1.0) if number % 2 else 0
        connection.request("POST", "/v1/traces", REQUESTS["traces"], PROTOBUF)
        response = connection.getresponse()
        response.read()
        assert response.status == (503 if number % 2 else 200)
        assert connection.sock.getsockname() == own
    connection.close()
