"""Who may send over HTTP, over TLS; and how the listener stops."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from http_listener import HEAD, PROTOBUF, QUICK, REQUESTS, NextStage, Served, connected, serving, until_the_end
from otlp_peers import PATIENCE

from sidecar.configuration.settings import ConfigurationError
from sidecar.conventions import Signal
from sidecar.intake import Admission, Certificate, Hand, HttpIntake
from sidecar.ledger import Ledger
from sidecar.network.address import listener
from sidecar.senders.clients import Client, Clients, new_token


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


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


def test_a_stop_lets_a_request_in_progress_get_its_answer() -> None:
    """Who is being served gets an answer; who comes later finds nobody."""
    entered, release = threading.Event(), threading.Event()

    def consume(signal: Signal, payload: bytes, client: Client, hand: Hand) -> int:
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
