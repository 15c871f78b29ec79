"""OTLP comes in over real HTTP: the same verdicts as over gRPC, and what a client cannot do to the listener."""

from __future__ import annotations

import gzip
import http.client
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
import zstandard
from google.rpc import status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from otlp_peers import PATIENCE, log_request, sum_request, trace_request

from sidecar.accounting import Ledger
from sidecar.address import listener
from sidecar.clients import Client, Clients, new_token
from sidecar.conventions import Signal
from sidecar.intake import Admission, Busy, Certificate, HttpIntake, Malformed
from sidecar.intake.bodies import inflated
from sidecar.intake.http_connection import Seconds
from sidecar.intake.verdicts import BUSY, DROPPED, FAULT, MALFORMED, Refusal
from sidecar.otlp import MAX_REQUEST_BYTES, SERVICES
from sidecar.settings import ConfigurationError

PROTOBUF = {"Content-Type": "application/x-protobuf"}
REQUESTS = {"traces": trace_request(2), "metrics": sum_request("m", 1), "logs": log_request(2)}
SECRET = "sk-live-4242"


class NextStage:
    """What comes after the intake: keeps what it is given, answers what it is told to."""

    def __init__(self) -> None:
        self.taken: list[tuple[Signal, bytes]] = []
        self.clients: list[Client] = []
        self.answer: int | Exception = 0

    def __call__(self, signal: Signal, payload: bytes, client: Client) -> int:
        self.taken.append((signal, payload))
        self.clients.append(client)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Served:
    """A listener and what it made of requests."""

    def __init__(self, intake: HttpIntake, stage: NextStage, ledger: Ledger) -> None:
        self.intake, self.stage, self.ledger = intake, stage, ledger

    def post(
        self, signal: str = "traces", body: bytes | None = None, headers: dict[str, str] | None = None, **options: Any
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.intake.address.port, timeout=PATIENCE)
        try:
            body = REQUESTS[signal] if body is None else body
            connection.request("POST", f"/v1/{signal}", body, {**PROTOBUF, **(headers or {})}, **options)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    @property
    def answered(self) -> dict[tuple[str, str], float]:
        families = {family.name: family for family in self.ledger.collect()}
        return {tuple(s.labels.values()): s.value for s in families["tenantscope_requests"].samples}


@contextmanager
def serving(clients: Clients | None = None, certificate: Certificate | None = None, **options: Any) -> Iterator[Served]:
    stage, ledger = NextStage(), Ledger()
    admission = Admission(clients or Clients(None), stage)
    intake = HttpIntake(listener("127.0.0.1:0"), admission, ledger, certificate, **options)
    intake.start()
    try:
        yield Served(intake, stage, ledger)
    finally:
        intake.stop(0)


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


@contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.intake.address.port)) as connection:
        connection.settimeout(PATIENCE)
        yield connection


def until_the_end(connection: socket.socket) -> bytes:
    found = b""
    while True:
        try:
            received = connection.recv(65536)
        except ConnectionError:
            return found
        if not received:
            return found
        found += received


# Verdicts --------------------------------------------------------------------------------------------------------
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


# Bounds ----------------------------------------------------------------------------------------------------------
def test_a_request_over_the_limit_is_refused_before_the_next_stage(served: Served) -> None:
    """4 MiB: announced, in chunks, or blown up from a few kilobytes."""
    too_large = bytes(MAX_REQUEST_BYTES + 1)
    assert served.post(body=too_large)[0] == 413
    assert served.post(body=gzip.compress(too_large), headers={"Content-Encoding": "gzip"})[0] == 413
    assert served.post(body=zstandard.compress(too_large), headers={"Content-Encoding": "zstd"})[0] == 413
    with connected(served) as connection:
        head = b"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\n"
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        answer = b""
        chunk = b"40000\r\n" + bytes(0x40000) + b"\r\n"
        try:
            for _ in range(20):
                connection.sendall(chunk)
        except ConnectionError:
            pass
        answer = until_the_end(connection)
        assert not answer or b" 413 " in answer
    assert served.stage.taken == []
    assert served.answered == {("traces", "resource_exhausted"): 4}
    assert served.post(body=bytes(MAX_REQUEST_BYTES))[0] == 200


def test_a_bomb_costs_no_memory() -> None:
    """Half a gigabyte from half a megabyte, gzip and zstd, a window of gigabytes: at most 32 MB more, in a process."""
    code = """if True:
        import gzip, resource, zlib, zstandard
        from sidecar.intake.admission import Malformed
        from sidecar.intake.bodies import inflated
        from sidecar.intake.verdicts import Refusal
        packing, packed = zlib.compressobj(9, wbits=31), []
        for _ in range(512):
            packed.append(packing.compress(bytes(1 << 20)))
        bombs = [("gzip", b"".join(packed) + packing.flush())]
        small = zstandard.ZstdCompressor(level=3).compressobj()
        bombs.append(("zstd", b"".join(small.compress(bytes(1 << 20)) for _ in range(512)) + small.flush()))
        # a frame with a window of 2 GiB, and one raw block
        bombs.append(("zstd", bytes.fromhex("28b52ffd00a8") + b"\\x09\\x00\\x00a"))
        inflated(gzip.compress(bytes(1 << 22)), "gzip"), inflated(zstandard.compress(bytes(1 << 22)), "zstd")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for encoding, bomb in bombs:
            try:
                inflated(bomb, encoding)
            except (Refusal, Malformed) as refused:
                print(type(refused).__name__, end=" ")
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 32 * 1024)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Refusal", "Refusal", "Malformed", "True"]


def test_a_byte_a_chunk_is_too_much_work(served: Served) -> None:
    """Taking them apart would cost more than they hold."""
    with connected(served) as connection:
        head = b"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\n"
        try:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000)
        except ConnectionError:
            return
        answer = until_the_end(connection)
        assert not answer or b" 413 " in answer
    assert served.stage.taken == []


@pytest.mark.parametrize("size", [20_000, 200_000])
def test_a_head_over_the_limit_is_refused(served: Served, size: int) -> None:
    """Headers are bounded."""
    with connected(served) as connection:
        try:
            connection.sendall(b"POST /v1/traces HTTP/1.1\r\nX: " + b"x" * size)
        except ConnectionError:
            return
        answer = until_the_end(connection)
        assert not answer or b" 431 " in answer


QUICK = Seconds(head=0.2, idle=0.4, body=0.3, answer=1.0, linger=0.05)
HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.parametrize("said", [b"", b"POST /v1/traces HT", HEAD[:-2]])
def test_a_head_that_does_not_come_ends_the_connection(said: bytes) -> None:
    """Nothing, a part, all but the end: closed without an answer."""
    with serving(seconds=QUICK) as served, connected(served) as connection:
        connection.sendall(said)
        assert until_the_end(connection) == b""


def test_a_head_that_trickles_in_ends_the_connection() -> None:
    """A byte now and then extends nothing."""
    with serving(seconds=QUICK) as served, connected(served) as connection:
        ended = threading.Event()

        def trickle() -> None:
            for byte in HEAD * 10:
                if ended.wait(0.02):
                    return
                try:
                    connection.sendall(bytes((byte,)))
                except OSError:
                    return

        sender = threading.Thread(target=trickle)
        sender.start()
        assert until_the_end(connection) == b""
        ended.set()
        sender.join()
        assert served.stage.taken == []


def test_a_body_that_does_not_come_is_given_up() -> None:
    """408, counted, closed; also when it trickles."""
    with serving(seconds=QUICK) as served, connected(served) as connection:
        ended = threading.Event()

        def trickle() -> None:
            connection.sendall(HEAD)
            while not ended.wait(0.02):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

        sender = threading.Thread(target=trickle)
        sender.start()
        assert b" 408 " in until_the_end(connection)
        ended.set()
        sender.join()
        assert served.answered == {("traces", "cancelled"): 1}


def test_an_idle_connection_is_closed() -> None:
    """It may be kept for a while after a request, and not for ever."""
    with serving(seconds=QUICK) as served, connected(served) as connection:
        connection.sendall(HEAD + bytes(100))
        assert b" 200 " in connection.recv(65536)
        assert until_the_end(connection) == b""


def test_idle_connections_do_not_keep_others_out() -> None:
    """Far more than there are places: the oldest that says nothing goes, and a request gets through every time."""
    with serving(most=8) as served, ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connected(served))
        for _ in range(5):
            assert served.post()[0] == 200
        assert served.intake.connections <= 8


def test_a_client_that_is_being_served_is_not_cut_off_for_others() -> None:
    """Only who waits without a request makes room."""
    entered, release = threading.Event(), threading.Event()

    def consume(signal: Signal, payload: bytes, client: Client) -> int:
        entered.set()
        release.wait(PATIENCE)
        return 0

    intake = HttpIntake(listener("127.0.0.1:0"), Admission(Clients(None), consume), Ledger(), most=2)
    intake.start()
    served = Served(intake, NextStage(), Ledger())
    answers: list[int] = []
    sender = threading.Thread(target=lambda: answers.append(served.post()[0]))
    sender.start()
    assert entered.wait(PATIENCE)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connected(served))
        release.set()
        sender.join(PATIENCE)
    intake.stop(0)
    assert answers == [200]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["gzip", "zstd"]))
def test_any_bytes_are_inflated_or_refused(noise: bytes, encoding: str) -> None:
    """Noise, and what was whole once and has been cut or changed."""
    good = gzip.compress(b"payload" * 20) if encoding == "gzip" else zstandard.compress(b"payload" * 20)
    chance = random.Random(noise)
    damaged = bytearray(good)
    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    for body in (noise, good[: chance.randrange(len(good))], bytes(damaged), good + noise):
        with suppress(Malformed, Refusal):
            assert len(inflated(body, encoding)) <= MAX_REQUEST_BYTES
    assert inflated(good, encoding) == b"payload" * 20


@pytest.mark.parametrize("cut", range(1, 20))
def test_what_was_compressed_and_cut_is_malformed(cut: int) -> None:
    """A part of a request is no request."""
    for encoding, packed in (("gzip", gzip.compress(b"payload" * 20)), ("zstd", zstandard.compress(b"payload" * 20))):
        with pytest.raises(Malformed):
            inflated(packed[:-cut], encoding)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=400))
def test_any_bytes_on_a_connection_are_survived(noise: bytes) -> None:
    """Whatever is said, the next one is served."""
    with shared() as served:
        with connected(served) as connection:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
            until_the_end(connection)
        assert served.post()[0] == 200


@contextmanager
def shared() -> Iterator[Served]:
    with serving(seconds=QUICK) as served:
        yield served


def test_requests_that_smuggle_are_refused(served: Served) -> None:
    """Two lengths, or a length and chunks: nobody would agree where the request ends."""
    head = b"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\n"
    for lengths in (
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Length : 5\r\n",
    ):
        with connected(served) as connection:
            connection.sendall(head + lengths + b"\r\nhello")
            assert until_the_end(connection).split(b" ")[1] in (b"400", b"501")
    assert served.stage.taken == []


# Clients ---------------------------------------------------------------------------------------------------------
def client_file(tmp_path: Path, text: str) -> Clients:
    file = tmp_path / "clients.yaml"
    file.write_text(text)
    return Clients(file)


def test_a_caller_who_is_no_client_is_refused_before_its_body_is_read(tmp_path: Path) -> None:
    """The answer comes although no byte of the body was sent; who shows the token is let in."""
    token, digest = new_token()
    clients = client_file(tmp_path, f'clients: {{billing: {{tokens: ["{digest}"], tenants: [acme]}}}}')
    with serving(clients) as served:
        for shown in (
            b"",
            b"Authorization: Bearer guess\r\n",
            b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        ):
            with connected(served) as connection:
                connection.sendall(HEAD[:-2] + shown + b"\r\n")
                answer = connection.recv(65536)
                assert b" 401 " in answer
                assert b"WWW-Authenticate: Bearer" in answer
        assert served.post(headers={"Authorization": f"Bearer {token}"})[0] == 200
        assert [client.name for client in served.stage.clients] == ["billing"]
        assert served.answered == {("traces", "unauthenticated"): 3, ("traces", "ok"): 1}


class Pki:
    def __init__(self, folder: Path) -> None:
        self.authority, self.folder = trustme.CA(), folder
        self.ca, self.certificate, self.key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        self.authority.cert_pem.write_to_path(self.ca)
        self.issue("localhost")

    def issue(self, name: str) -> None:
        leaf = self.authority.issue_cert(name, "localhost")
        self.key.touch(0o600)
        leaf.private_key_pem.write_to_path(self.key)
        leaf.cert_chain_pems[0].write_to_path(self.certificate)

    def client(self, identity: str | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        if identity is not None:
            self.authority.issue_cert(identity).configure_cert(context)
        return context


def post_securely(served: Served, context: ssl.SSLContext) -> tuple[int, set[str]]:
    connection = http.client.HTTPSConnection("localhost", served.intake.address.port, timeout=PATIENCE, context=context)
    try:
        connection.request("POST", "/v1/traces", REQUESTS["traces"], PROTOBUF)
        shown = connection.sock.getpeercert() or {}  # type: ignore[attr-defined]
        response = connection.getresponse()
        response.read()
        return response.status, {str(entry[1]) for entry in shown["subjectAltName"]}
    finally:
        connection.close()


def test_tls_with_certificates_that_are_replaced(tmp_path: Path) -> None:
    """The new one is shown from the next connection on; gRPC, which shares it, is told of it too."""
    pki = Pki(tmp_path)
    certificate = Certificate(pki.certificate, pki.key)
    told_grpc = certificate._renewed()
    with serving(certificate=certificate) as served:
        assert post_securely(served, pki.client()) == (200, {"localhost"})
        pki.issue("renewed.example")
        assert post_securely(served, pki.client()) == (200, {"renewed.example", "localhost"})
        assert told_grpc() is not None
        assert told_grpc() is None
        with connected(served) as plain:
            plain.sendall(HEAD + bytes(100))
            assert b"HTTP/1.1" not in until_the_end(plain)


def test_mutual_tls_names_the_client(tmp_path: Path) -> None:
    """A SPIFFE id or another name of its certificate; without a certificate there is no connection."""
    pki = Pki(tmp_path)
    clients = client_file(tmp_path, "clients: {partner: {certificates: [partner.example], tenants: [globex]}}")
    with serving(clients, Certificate(pki.certificate, pki.key, pki.ca)) as served:
        assert post_securely(served, pki.client("partner.example"))[0] == 200
        assert post_securely(served, pki.client("stranger.example"))[0] == 401
        with pytest.raises((ssl.SSLError, ConnectionError)):
            post_securely(served, pki.client())
        assert [client.name for client in served.stage.clients] == ["partner"]


def test_a_handshake_that_never_ends_holds_nothing(tmp_path: Path) -> None:
    """Half a ClientHello and then nothing."""
    pki = Pki(tmp_path)
    with serving(certificate=Certificate(pki.certificate, pki.key), seconds=QUICK) as served:
        with connected(served) as connection:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")
            assert until_the_end(connection) == b""
        assert post_securely(served, pki.client())[0] == 200


# Life ------------------------------------------------------------------------------------------------------------
def test_a_stop_lets_a_request_in_progress_get_its_answer() -> None:
    """Who is being served gets an answer; who comes later finds nobody."""
    entered, release = threading.Event(), threading.Event()

    def consume(signal: Signal, payload: bytes, client: Client) -> int:
        entered.set()
        assert release.wait(PATIENCE)
        return 0

    intake = HttpIntake(listener("127.0.0.1:0"), Admission(Clients(None), consume), Ledger())
    intake.start()
    served = Served(intake, NextStage(), Ledger())
    answers: list[int] = []
    sender = threading.Thread(target=lambda: answers.append(served.post()[0]))
    sender.start()
    assert entered.wait(PATIENCE)
    stopper = threading.Thread(target=intake.stop, args=(PATIENCE,))
    stopper.start()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", intake.address.port), PATIENCE).close()
        except OSError:
            break
    assert not intake.ready
    release.set()
    sender.join(PATIENCE)
    stopper.join(PATIENCE)
    assert answers == [200]
    assert not stopper.is_alive()


def test_a_port_is_not_shared(served: Served) -> None:
    """A Collector that is there already is not robbed of it; it is told."""
    second = HttpIntake(served.intake.address, Admission(Clients(None), NextStage()), Ledger())
    with pytest.raises(ConfigurationError, match="TENANTSCOPE_LISTEN_HTTP: cannot listen on 127"):
        second.start()
    second.stop(0)


def test_nothing_is_left_after_a_stop() -> None:
    """No thread, no descriptor."""

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with serving() as served:
        served.post()
    before = open_files(), threading.active_count()
    for _ in range(5):
        with serving() as served, connected(served):
            served.post()
    assert open_files() <= before[0]
    assert threading.active_count() <= before[1]
