"""Who may send: tokens and certificates over real gRPC, refused before anything of a request is read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from otlp_peers import PATIENCE, trace_request

from sidecar.configuration.settings import ConfigurationError
from sidecar.conventions import Signal
from sidecar.intake import Admission, Certificate, Hand, Intake
from sidecar.ledger import Ledger
from sidecar.network.address import listener
from sidecar.network.otlp import SERVICES
from sidecar.senders.clients import Client, Clients, new_token

TOKEN, DIGEST = new_token()
CLIENTS = f"""\
clients:
  billing:
    tokens: ["{DIGEST}"]
    tenants: all
  partner:
    certificates: ["spiffe://example.org/partner", "partner.example.org"]
    tenants: [globex, initech]
"""
ADMITTED = {"authorization": f"Bearer {TOKEN}"}


class NextStage:
    """What comes after the intake: keeps who sent what."""

    def __init__(self) -> None:
        self.clients: list[Client] = []

    def __call__(self, signal: Signal, payload: bytes, client: Client, hand: Hand) -> int:
        self.clients.append(client)
        return 0


@contextmanager
def serving(clients: Clients, certificate: Certificate | None = None) -> Iterator[tuple[str, NextStage, Ledger]]:
    stage, ledger = NextStage(), Ledger()
    intake = Intake(listener("localhost:0"), Admission(clients, stage), ledger, certificate)
    intake.start()
    try:
        yield f"localhost:{intake.address.port}", stage, ledger
    finally:
        intake.stop(0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clients.yaml"
    path.write_text(CLIENTS)
    return path


def send(channel: grpc.Channel, metadata: dict[str, str] | None = None) -> None:
    call = channel.unary_unary(SERVICES["traces"].method, None, None)
    call(trace_request(), timeout=PATIENCE, metadata=tuple((metadata or {}).items()), wait_for_ready=True)


def status_of(call: Callable[[], None]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    assert TOKEN not in str(refused.value.details())
    code: grpc.StatusCode = refused.value.code()
    return code


def test_a_token_is_a_client(file: Path) -> None:
    """Who shows it may send, and the next stage learns who it is; the scheme's case does not matter."""
    with serving(Clients(file)) as (target, stage, _), grpc.insecure_channel(target) as channel:
        send(channel, ADMITTED)
        send(channel, {"authorization": f"bearer {TOKEN}"})
    assert stage.clients == [Client("billing")] * 2


@pytest.mark.parametrize(
    "metadata",
    [
        {}, {"authorization": ""}, {"authorization": "Bearer "}, {"authorization": TOKEN}, {"token": TOKEN},
        {"authorization": f"Basic {TOKEN}"}, {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN} x"}, {"authorization": f"Bearer {DIGEST}"},
        {"authorization": "Bearer " + "x" * 5000},
    ],
)  # fmt: skip
def test_who_shows_nothing_that_is_known_is_refused(file: Path, metadata: dict[str, str]) -> None:
    """UNAUTHENTICATED, counted, and nothing reaches the next stage. The digest of a token is no token."""
    with serving(Clients(file)) as (target, stage, ledger), grpc.insecure_channel(target) as channel:
        assert status_of(lambda: send(channel, metadata)) is grpc.StatusCode.UNAUTHENTICATED
        families = {family.name: family for family in ledger.collect()}
        answered = {s.labels["status"]: s.value for s in families["tenantscope_requests"].samples}
        refused = {s.labels["reason"]: s.value for s in families["tenantscope_requests_refused"].samples}
    assert stage.clients == []
    assert answered == {"unauthenticated": 1}
    assert refused == {"unknown_client": 1}


def test_a_caller_who_is_refused_has_sent_nothing_yet(file: Path) -> None:
    """The refusal comes without a byte of the body, which may be a bomb, or never end."""
    never = threading.Event()

    def body() -> Iterator[bytes]:
        never.wait(PATIENCE)
        yield b""

    with serving(Clients(file)) as (target, _, _), grpc.insecure_channel(target) as channel:
        call = channel.stream_unary(SERVICES["traces"].method, None, None)
        assert status_of(lambda: call(body(), timeout=PATIENCE, wait_for_ready=True)) is grpc.StatusCode.UNAUTHENTICATED
        assert not never.is_set()
        never.set()


def test_a_token_is_replaced_while_the_sidecar_runs(file: Path) -> None:
    """Two are valid during the overlap; the old one is refused as soon as it is out of the file."""
    token, digest = new_token()
    with serving(Clients(file)) as (target, _, _), grpc.insecure_channel(target) as channel:
        file.write_text(CLIENTS.replace(f'"{DIGEST}"', f'"{DIGEST}", "{digest}"'))
        send(channel, ADMITTED)
        send(channel, {"authorization": f"Bearer {token}"})
        file.write_text(CLIENTS.replace(DIGEST, digest))
        assert status_of(lambda: send(channel, ADMITTED)) is grpc.StatusCode.UNAUTHENTICATED
        send(channel, {"authorization": f"Bearer {token}"})


@pytest.mark.parametrize("broken", ["", "clients: {", "clients: {}", CLIENTS[:-20], None])
def test_a_file_that_cannot_be_used_changes_nothing(file: Path, broken: str | None) -> None:
    """Half-written or gone: who was a client is one, who was none is none."""
    with serving(Clients(file)) as (target, _, _), grpc.insecure_channel(target) as channel:
        if broken is None:
            file.unlink()
        else:
            file.write_text(broken)
        send(channel, ADMITTED)
        assert status_of(lambda: send(channel)) is grpc.StatusCode.UNAUTHENTICATED


def test_without_a_file_whoever_reaches_the_address_may_send() -> None:
    """A loopback address or a socket in a folder of one's own is the guard then."""
    with serving(Clients(None)) as (target, stage, _), grpc.insecure_channel(target) as channel:
        send(channel)
        send(channel, {"authorization": "Bearer whatever"})
    assert [client.name for client in stage.clients] == ["anybody"] * 2


class Pki:
    """An authority, and what it signed."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca, self.chain, self.key = folder / "ca.pem", folder / "server.pem", folder / "server.key"
        self.authority.cert_pem.write_to_path(self.ca)
        self.issue()

    def issue(self, authority: trustme.CA | None = None) -> None:
        """A new certificate for the sidecar."""
        leaf = (authority or self.authority).issue_cert("localhost")
        leaf.private_key_pem.write_to_path(self.key)
        self.key.chmod(0o600)
        leaf.cert_chain_pems[0].write_to_path(self.chain)

    def client(self, *names: str, authority: trustme.CA | None = None) -> grpc.ChannelCredentials:
        """A client's certificate with these names."""
        leaf = (authority or self.authority).issue_cert(*names)
        return grpc.ssl_channel_credentials(
            self.ca.read_bytes(), leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes()
        )

    def workload(self, spiffe_id: str) -> grpc.ChannelCredentials:
        """A client's certificate as workloads get them: the name is a URI."""
        authority = x509.load_pem_x509_certificate(self.authority.cert_pem.bytes())
        signer = serialization.load_pem_private_key(self.authority.private_key_pem.bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(authority.not_valid_before_utc)
            .not_valid_after(authority.not_valid_after_utc)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)]), critical=True)
            .sign(signer, hashes.SHA256())
        )
        return grpc.ssl_channel_credentials(
            self.ca.read_bytes(),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            certificate.public_bytes(serialization.Encoding.PEM),
        )


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def test_a_certificate_is_a_client(file: Path, pki: Pki) -> None:
    """A name in a certificate that the handshake has proved; one that the file does not know is refused."""
    certificate = Certificate(pki.chain, pki.key, pki.ca)
    with serving(Clients(file), certificate) as (target, stage, _):
        with grpc.secure_channel(target, pki.client("partner.example.org")) as channel:
            send(channel)
        with grpc.secure_channel(target, pki.workload("spiffe://example.org/partner")) as channel:
            send(channel)
        assert stage.clients == [Client("partner", frozenset({"globex", "initech"}))] * 2
        with grpc.secure_channel(target, pki.workload("spiffe://example.org/partner/x")) as channel:
            assert status_of(lambda: send(channel)) is grpc.StatusCode.UNAUTHENTICATED
        with grpc.secure_channel(target, pki.client("somebody.example.org")) as channel:
            assert status_of(lambda: send(channel)) is grpc.StatusCode.UNAUTHENTICATED
            send(channel, ADMITTED)
        with grpc.secure_channel(target, pki.client("partner.example.org")) as channel:
            wrong = {"authorization": "Bearer wrong"}
            assert status_of(lambda: send(channel, wrong)) is grpc.StatusCode.UNAUTHENTICATED


def test_a_certificate_that_nobody_vouches_for_gets_no_connection(file: Path, pki: Pki) -> None:
    """Of another authority, or none at all: the handshake fails, whatever names it has."""
    certificate = Certificate(pki.chain, pki.key, pki.ca)
    with serving(Clients(file), certificate) as (target, stage, _):
        for credentials in (
            pki.client("partner.example.org", authority=trustme.CA()),
            grpc.ssl_channel_credentials(pki.ca.read_bytes()),
        ):
            with grpc.secure_channel(target, credentials) as channel:
                call = channel.unary_unary(SERVICES["traces"].method, None, None)
                with pytest.raises(grpc.RpcError) as refused:
                    call(trace_request(), timeout=PATIENCE, metadata=tuple(ADMITTED.items()))
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert stage.clients == []


def test_the_listeners_certificate_is_replaced_while_it_runs(file: Path, pki: Pki) -> None:
    """The next handshake is done with the new one; who trusts only its authority gets through."""
    with serving(Clients(file), Certificate(pki.chain, pki.key)) as (target, _, _):
        with grpc.secure_channel(target, grpc.ssl_channel_credentials(pki.ca.read_bytes())) as channel:
            send(channel, ADMITTED)
        other = trustme.CA()
        pki.issue(other)
        with grpc.secure_channel(target, grpc.ssl_channel_credentials(other.cert_pem.bytes())) as channel:
            send(channel, ADMITTED)


def test_a_key_that_everybody_may_read_is_refused(pki: Pki) -> None:
    """One line that names the setting."""
    pki.key.chmod(0o644)
    with pytest.raises(ConfigurationError, match="TENANTSCOPE_TLS_KEY_FILE: can be read by everybody"):
        Certificate(pki.chain, pki.key)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "must have one key"),
        ("client: {}", 1, "must have one key"),
        ("clients: []", 1, "must have one key"),
        ("clients: {a: {tenants: all, tokens: []}}", 1, "has neither"),
        ("clients:\n  a:\n    tenant: all\n    tokens: ['" + DIGEST + "']", 3, "did you mean tenants"),
        ("clients:\n  a:\n    tenants: all\n    tokens: ['" + TOKEN + "']", 4, "never the token itself"),
        ("clients:\n  a:\n    tenants: some\n    tokens: ['" + DIGEST + "']", 2, "must be a list of tenant ids"),
        ("clients:\n  a:\n    tenants: []\n    tokens: ['" + DIGEST + "']", 2, "must be a list of tenant ids"),
        ("clients:\n  a:\n    tenants: [1]\n    tokens: ['" + DIGEST + "']", 3, "must be a list of texts"),
        ("clients:\n  a b:\n    tenants: all", 2, "name has 1 to 63"),
        ("clients:\n  a: 1", 2, "must have `tenants`"),
        ("clients: &x {a: *x}", 1, "anchors"),
    ],
)
def test_every_mistake_in_the_file_is_told_with_its_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    """And never with what stands there: somebody may have put the token itself into the file."""
    path = tmp_path / "clients.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        Clients(path)
    found = refused.value.lines
    start = f"TENANTSCOPE_CLIENTS_FILE: clients.yaml:{line}: "
    assert any(said.startswith(start) and what in said for said in found), found
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("key", ["tokens", "certificates"])
def test_one_credential_is_one_client(tmp_path: Path, key: str) -> None:
    """Otherwise it would depend on their order who it is."""
    path = tmp_path / "clients.yaml"
    path.write_text(f"clients:\n  a: {{tenants: all, {key}: ['{DIGEST}']}}\n  b: {{tenants: all, {key}: ['{DIGEST}']}}")
    with pytest.raises(ConfigurationError, match="is another client's too"):
        Clients(path)


@given(st.text(max_size=300) | st.binary(max_size=300))
def test_any_content_is_clients_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: str | bytes) -> None:
    """No file brings the sidecar down in another way than with its lines."""
    path = tmp_path_factory.mktemp("clients") / "clients.yaml"
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    with pytest.raises(ConfigurationError):
        Clients(path)


def test_a_client_speaks_for_its_tenants_alone() -> None:
    """And for nobody: what has no tenant, or one beyond the bound, accuses none."""
    partner = Client("partner", frozenset({"globex"}))
    assert partner.speaks_for("globex")
    assert partner.speaks_for("unknown")
    assert partner.speaks_for("other")
    assert not partner.speaks_for("initech")
    assert not partner.speaks_for("Globex")
    assert Client("all").speaks_for("initech")


def test_a_new_token_is_long_and_new() -> None:
    """256 bits, and its digest is what the file takes."""
    first, second = new_token(), new_token()
    assert first != second
    assert len(first[0]) >= 43
