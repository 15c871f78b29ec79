"""Delivery to a real OTLP/HTTP upstream: what is retried, what is given up, and what an upstream cannot do to us."""

from __future__ import annotations

import email.utils
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from http_peers import Handler, HttpUpstream, running_http_upstream, status, take
from otlp_peers import PATIENCE, log_request, sum_request, trace_request

from sidecar.configuration.settings import Settings
from sidecar.delivery import Batch, Credentials, Delivery, Exit, Refused, RetryLater, UpstreamHttp, Way
from sidecar.delivery.upstream_http import MAX_ANSWER_BYTES
from sidecar.ledger import Ledger
from sidecar.network.address import upstream as parse_upstream
from sidecar.network.otlp import SERVICES
from sidecar.service import Sidecar

BATCH = Batch("traces", trace_request(3), 3, "0123456789abcdef01234567-16")


@contextmanager
def sender(url: str, credentials: Credentials | None = None, **options: object) -> Iterator[UpstreamHttp]:
    destination = UpstreamHttp(parse_upstream(url, "http/protobuf"), credentials, **{"deadline": PATIENCE, **options})  # type: ignore[arg-type]
    try:
        yield destination
    finally:
        destination.close()


@pytest.fixture
def upstream() -> Iterator[HttpUpstream]:
    with running_http_upstream() as running:
        yield running


@pytest.mark.parametrize(
    ("signal", "payload"), [("traces", trace_request(2)), ("metrics", sum_request("m", 1)), ("logs", log_request(2))]
)
def test_each_signal_has_its_path_behind_the_upstreams_own(upstream: HttpUpstream, signal: str, payload: bytes) -> None:
    """Protobuf as it is, the batch's id, and nothing of the sender."""
    with sender(f"{upstream.url}/otlp/") as destination:
        assert destination.deliver(Batch(signal, payload, 1, "some-id")) == 0  # type: ignore[arg-type]
    assert upstream.requests == [(f"/otlp/v1/{signal}", payload)]
    assert upstream.headers[0] == {
        "host": f"127.0.0.1:{upstream.port}",
        "content-type": "application/x-protobuf",
        "content-length": str(len(payload)),
        "user-agent": "tenantscope",
        "tenantscope-batch-id": "some-id",
    }


def test_one_connection_serves_many_requests(upstream: HttpUpstream) -> None:
    """And a refused one does not end it."""
    with sender(upstream.url) as destination:
        for number in range(5):
            if number == 2:
                upstream.answers.append(status(503))
                with pytest.raises(RetryLater):
                    destination.deliver(BATCH)
            destination.deliver(BATCH)
    assert len(upstream.connections) == 1


def test_a_connection_that_was_closed_meanwhile_costs_nothing(upstream: HttpUpstream) -> None:
    """Servers close idle connections without a word; the attempt goes on with a new one."""

    def last(handler: Handler) -> None:
        take(handler)
        handler.close_connection = True  # and does not say so

    upstream.always = last
    with sender(upstream.url) as destination:
        for _ in range(5):
            destination.deliver(BATCH)
    assert len(upstream.connections) == 5


@pytest.mark.parametrize("code", [401, 429, 502, 503, 504])
def test_a_retryable_status_says_later(upstream: HttpUpstream, code: int) -> None:
    """OTLP's table, and 401, which says nothing of the batch."""
    upstream.answers.append(status(code))
    with sender(upstream.url) as destination, pytest.raises(RetryLater) as later:
        destination.deliver(BATCH)
    assert (later.value.reason, later.value.after) == (f"upstream_http_{code}", None)


@pytest.mark.parametrize("code", [400, 403, 404, 405, 413, 415, 422, 500, 501, 301, 302, 307, 308, 304])
def test_every_other_status_is_final(upstream: HttpUpstream, code: int) -> None:
    """Two of them are about something in the batch, or its size: the rest of it may be taken. None is followed."""
    upstream.answers.append(status(code, b"you sent canary-1", Location=f"{upstream.url}/elsewhere"))
    with sender(upstream.url) as destination, pytest.raises(Refused) as refused:
        destination.deliver(BATCH)
    assert (refused.value.reason, refused.value.divisible) == (f"upstream_http_{code}", code in (400, 413))
    assert len(upstream.requests) == 1


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ("7", 7.0), ("0", 0.0), ("  12  ", 12.0), (email.utils.formatdate(NOW + 9, usegmt=True), 9.0),
        (email.utils.formatdate(NOW - 9, usegmt=True), 0.0), ("soon", None), ("-5", None), ("1e9", None),
        ("9" * 30, None), ("", None), ("Thu, 99 Foo 2026 00:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(upstream: HttpUpstream, said: str, understood: float | None) -> None:
    """What makes no sense is no wish."""
    upstream.answers.append(status(503, Retry_After=said))
    with sender(upstream.url, now=lambda: NOW) as destination, pytest.raises(RetryLater) as later:
        destination.deliver(BATCH)
    assert later.value.after == understood


def test_partial_success_is_counted(upstream: HttpUpstream) -> None:
    """As with gRPC; an answer in words that nobody understands counts as taken."""
    with sender(upstream.url) as destination:
        upstream.answers.append(status(200, SERVICES["traces"].partial_success(2, "no room")))
        assert destination.deliver(BATCH) == 2
        upstream.answers.append(status(202, b"\xff\xff<html>"))
        assert destination.deliver(BATCH) == 0


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_requests_are_compressed(upstream: HttpUpstream, compression: str) -> None:
    """The receiver unpacks what was sent, and it was smaller."""
    batch = Batch("traces", trace_request(100), 100)
    with sender(upstream.url, compression=compression) as destination:
        destination.deliver(batch)
    assert upstream.requests == [("/v1/traces", batch.payload)]
    sent = upstream.headers[0]
    assert sent.get("content-encoding", "none") == compression
    assert (int(sent["content-length"]) < len(batch.payload) / 3) == (compression != "none")


def raw(answer: bytes | Callable[[socket.socket], None]) -> Callable[[Handler], None]:
    def give(handler: Handler) -> None:
        handler.close_connection = True
        if isinstance(answer, bytes):
            handler.wfile.write(answer)
        else:
            answer(handler.connection)

    return give


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        OK + b"Content-Length: 10000000\r\n\r\n" + b"z" * (MAX_ANSWER_BYTES + 10),
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b"z" * 65536 + b"\r\n" + b"1\r\nz\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x00" * 100,
    ],
    ids=["endless head", "large body", "large chunks", "not http", "two lengths", "bad chunk", "zeros"],
)
def test_an_answer_that_is_no_bounded_answer_is_read_no_further(upstream: HttpUpstream, answer: bytes) -> None:
    """Tried again: nobody knows what became of the batch; and the next attempt begins with a new connection."""
    upstream.answers.append(raw(answer))
    with sender(upstream.url) as destination:
        with pytest.raises(RetryLater, match="upstream_not_http"):
            destination.deliver(BATCH)
        assert destination.deliver(BATCH) == 0


@pytest.mark.parametrize("part", [b"", OK, OK + b"Content-Length: 5\r\n\r\nhel"], ids=["nothing", "head", "body"])
def test_a_connection_that_ends_early_is_tried_again(upstream: HttpUpstream, part: bytes) -> None:
    """A reset in the middle of an answer is no answer."""
    upstream.answers.append(raw(part))
    with sender(upstream.url) as destination:
        with pytest.raises(RetryLater):
            destination.deliver(BATCH)
        assert destination.deliver(BATCH) == 0


def test_an_answer_that_trickles_in_does_not_extend_the_deadline(upstream: HttpUpstream) -> None:
    """A byte now and then is not a sign of life that counts."""
    release = threading.Event()

    def trickle(connection: socket.socket) -> None:
        for byte in OK * 1000:
            if release.wait(0.02):
                return
            connection.sendall(bytes((byte,)))

    upstream.answers.append(raw(trickle))
    with sender(upstream.url, deadline=0.3) as destination:
        with pytest.raises(RetryLater, match="upstream_timeout"):
            destination.deliver(BATCH)
        release.set()


def test_an_upstream_that_never_answers_is_given_up_after_the_deadline() -> None:
    """A port that accepts and says nothing, as a machine that hangs does."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with sender(url, deadline=0.2) as destination, pytest.raises(RetryLater, match="upstream_timeout"):
            destination.deliver(BATCH)


def test_closing_ends_an_attempt_that_hangs() -> None:
    """So that a stop keeps its grace period."""
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with sender(url) as destination:
            attempt = pool.submit(destination.deliver, BATCH)
            peer, _ = silent.accept()
            with peer:
                peer.recv(10)
                destination.close()
                with pytest.raises(RetryLater):
                    attempt.result(PATIENCE)
                with pytest.raises(RetryLater, match="closed"):
                    destination.deliver(BATCH)


def test_nobody_there_is_later(tmp_path: Path) -> None:
    """Refused is refused, for a probe and for a delivery."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with sender(f"http://127.0.0.1:{nobody.getsockname()[1]}") as destination:
            with pytest.raises(RetryLater, match="upstream_unreachable"):
                destination.probe()
            with pytest.raises(RetryLater, match="upstream_unreachable"):
                destination.deliver(BATCH)


# TLS -------------------------------------------------------------------------------------------------------------
class Pki:
    """An authority, a server's context, and a client's files."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca, self.certificate, self.key = folder / "ca.pem", folder / "client.pem", folder / "client.key"
        self.authority.cert_pem.write_to_path(self.ca)
        self.issue(self.authority)

    def issue(self, authority: trustme.CA) -> None:
        leaf = authority.issue_cert("sidecar.example")
        self.key.touch(0o600)
        leaf.private_key_pem.write_to_path(self.key)
        leaf.cert_chain_pems[0].write_to_path(self.certificate)

    def context(self, *, mutual: bool = False, name: str = "localhost") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)
        if mutual:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def test_only_a_certificate_for_the_name_from_the_authority_is_believed(pki: Pki, tmp_path: Path) -> None:
    """Another authority, another name, and no TLS at all: nothing is sent."""
    with running_http_upstream(pki.context()) as upstream, sender(upstream.url, Credentials(ca=pki.ca)) as destination:
        assert destination.deliver(BATCH) == 0
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    for context, ca in ((pki.context(), other), (pki.context(name="elsewhere.example"), pki.ca)):
        with running_http_upstream(context) as upstream, sender(upstream.url, Credentials(ca=ca)) as destination:
            with pytest.raises(RetryLater, match="upstream_tls"):
                destination.deliver(BATCH)
            assert upstream.requests == []
    with running_http_upstream() as plain:
        url = plain.url.replace("http:", "https:")
        with sender(url, Credentials(ca=pki.ca)) as destination, pytest.raises(RetryLater, match="upstream_tls"):
            destination.deliver(BATCH)
        assert plain.requests == []


def test_closing_while_a_request_is_sent_never_takes_tls_off_it(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SSLSocket.shutdown` does, a moment before it ends the connection: what is sent then would be in the clear."""
    taken_off: list[ssl.SSLSocket] = []
    monkeypatch.setattr(ssl.SSLSocket, "shutdown", lambda self, _how: taken_off.append(self))
    large = Batch("traces", bytes(16 * 1024 * 1024), 1)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        url = f"https://localhost:{server.getsockname()[1]}"
        with sender(url, Credentials(ca=pki.ca)) as destination:
            attempt = pool.submit(destination.deliver, large)
            accepted, _ = server.accept()
            with pki.context().wrap_socket(accepted, server_side=True) as peer:
                assert peer.recv(4) == b"POST"  # and no more: the rest does not fit in between
                destination.close()
                with pytest.raises(RetryLater):
                    attempt.result(PATIENCE)
            assert destination._socket is None
    assert taken_off == []


def test_mutual_tls_with_certificates_that_are_replaced(pki: Pki) -> None:
    """The wrong one is refused; a new one is used from the next attempt on, without a restart."""
    with running_http_upstream(pki.context(mutual=True)) as upstream:
        pki.issue(trustme.CA())
        with sender(upstream.url, Credentials(ca=pki.ca, certificate=pki.certificate, key=pki.key)) as destination:
            with pytest.raises(RetryLater):
                destination.deliver(BATCH)
            pki.issue(pki.authority)
            assert destination.deliver(BATCH) == 0
        assert len(upstream.requests) == 1


def test_headers_with_a_token_that_is_replaced(upstream: HttpUpstream, tmp_path: Path) -> None:
    """The file is looked at before each attempt."""
    file = tmp_path / "headers"
    file.touch(0o600)
    file.write_text("authorization: Bearer one\n")
    with sender(upstream.url, Credentials(headers=file)) as destination:
        destination.deliver(BATCH)
        file.write_text("authorization: Bearer two, now\n")
        destination.deliver(BATCH)
    assert [sent["authorization"] for sent in upstream.headers] == ["Bearer one", "Bearer two, now"]


def test_a_header_file_cannot_change_what_a_request_is(tmp_path: Path) -> None:
    """Lengths, hosts and codings are the protocol's own."""
    file = tmp_path / "headers"
    file.touch(0o600)
    for name in ("Host", "content-length", "Transfer-Encoding", "connection", "content-encoding", "expect"):
        file.write_text(f"{name}: 1\n")
        with pytest.raises(Exception, match="protocol's own"):
            Credentials(headers=file)


# All of it together ----------------------------------------------------------------------------------------------
def test_unavailable_most_of_the_time_gets_everything(upstream: HttpUpstream, tmp_path: Path) -> None:
    """7 of 10 attempts fail in one way or another, 100 % of the records arrive, exactly accounted."""
    fails = [
        status(503, Retry_After="0"),
        status(429),
        status(502),
        raw(b""),
        raw(OK),
        status(504),
        raw(b"nonsense\r\n"),
    ]
    upstream.answers.extend((fails + [take] * 3) * 10)
    ledger = Ledger()
    destination = UpstreamHttp(parse_upstream(upstream.url, "http/protobuf"), deadline=PATIENCE)
    delivery = Delivery(tmp_path / "state", ledger, [Exit(Way(), lambda: destination)])
    (forwarder,) = delivery._forwarders.values()
    forwarder._wait = lambda seconds: False
    delivery.start()
    for _ in range(30):
        ledger.arrived("traces", 1)
        assert delivery.offer(Batch("traces", trace_request(1), 1)) is None
    assert delivery.queue.wait_until_empty(PATIENCE)
    delivery.stop(PATIENCE)
    counts = ledger.records()["traces"]
    assert (counts["received"], counts["forwarded"], counts["queued"]) == (30, 30, 0)
    assert len({sent["tenantscope-batch-id"] for sent in upstream.headers}) <= 30


def test_a_whole_sidecar_forwards_over_http(upstream: HttpUpstream, tmp_path: Path) -> None:
    """By its settings, from OTLP/HTTP to OTLP/HTTP with zstd."""
    environment = {
        "LISTEN": "127.0.0.1:0", "LISTEN_HTTP": "127.0.0.1:0", "ADMIN": "127.0.0.1:0",
        "STATE_DIR": str(tmp_path / "state"), "UPSTREAM": f"{upstream.url}/base",
        "UPSTREAM_PROTOCOL": "http/protobuf", "UPSTREAM_COMPRESSION": "zstd",
    }  # fmt: skip
    sidecar = Sidecar(Settings.from_environment({f"TENANTSCOPE_{key}": text for key, text in environment.items()}))
    sidecar.start()
    try:
        assert sidecar.http_address is not None
        with sender(f"http://{sidecar.http_address.target}", compression="zstd") as application:
            assert application.deliver(Batch("traces", trace_request(5), 5)) == 0
        upstream.wait_for(1)
    finally:
        sidecar.stop(PATIENCE)
    assert upstream.requests[0][0] == "/base/v1/traces"
    assert sidecar.ledger.records()["traces"]["forwarded"] == 5
