"""What the upstream is shown: headers, certificates, and their replacement while the sidecar runs."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from otlp_peers import PATIENCE, Upstream, running_upstream, trace_request

from sidecar.configuration.settings import ConfigurationError
from sidecar.delivery import Batch, Credentials, RetryLater, UpstreamOtlp
from sidecar.delivery.credentials import _headers
from sidecar.network.address import upstream as parse_upstream

BATCH = Batch("traces", trace_request(1), 1)
TOKEN = "canary-token-4242"


def private(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return path


class Pki:
    """An authority, and files with what it signed."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)
        self.server = self.authority.issue_cert("localhost", "127.0.0.1")
        self.certificate, self.key = folder / "client.pem", folder / "client.key"
        self.issue()

    def issue(self, authority: trustme.CA | None = None) -> None:
        """A new certificate for the sidecar."""
        leaf = (authority or self.authority).issue_cert("sidecar.example")
        private(self.key, leaf.private_key_pem.bytes())
        leaf.cert_chain_pems[0].write_to_path(self.certificate)

    def server_credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        pair = (self.server.private_key_pem.bytes(), self.server.cert_chain_pems[0].bytes())
        roots = self.ca.read_bytes() if mutual else None
        return grpc.ssl_server_credentials([pair], roots, require_client_auth=mutual)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


@contextmanager
def sender(upstream: Upstream, credentials: Credentials | None = None, **options: bool) -> Iterator[UpstreamOtlp]:
    destination = UpstreamOtlp(parse_upstream(upstream.url), credentials, deadline=PATIENCE, **options)
    try:
        yield destination
    finally:
        destination.close()


def test_headers_go_with_every_export_and_change_with_their_file(tmp_path: Path) -> None:
    """A token reaches the upstream; the one that replaces it is used from the next export on."""
    file = private(tmp_path / "headers", f"# from the vault\n\nAuthorization: Bearer {TOKEN}\nx-scope-orgid: a:b\n")
    with running_upstream() as upstream, sender(upstream, Credentials(headers=file)) as destination:
        destination.deliver(BATCH)
        assert upstream.metadata[-1]["authorization"] == f"Bearer {TOKEN}"
        assert upstream.metadata[-1]["x-scope-orgid"] == "a:b"
        private(file, "authorization: Bearer another\n")
        destination.deliver(BATCH)
        assert upstream.metadata[-1]["authorization"] == "Bearer another"
        assert "x-scope-orgid" not in upstream.metadata[-1]


@pytest.mark.parametrize("broken", ["authorization Bearer x", "", None])
def test_headers_that_cannot_be_used_leave_the_old_ones(tmp_path: Path, broken: str | None) -> None:
    """Half-written or removed: what was good stays in use, but for an empty file, which says that there are none."""
    file = private(tmp_path / "headers", f"authorization: Bearer {TOKEN}")
    credentials = Credentials(headers=file)
    if broken is None:
        file.unlink()
    else:
        private(file, broken)
    assert credentials.renew() is (broken == "")
    assert credentials.headers == (() if broken == "" else (("authorization", f"Bearer {TOKEN}"),))
    private(file, "authorization: Bearer new")
    assert credentials.renew()
    assert not credentials.renew()


def test_no_error_tells_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither what is wrong at the start nor what is wrong later repeats what is in a file."""
    file = private(tmp_path / "headers", f"authorization {TOKEN}")
    key = private(tmp_path / "key", TOKEN)
    with pytest.raises(ConfigurationError) as caught:
        Credentials(headers=file, ca=key, certificate=key, key=key)
    assert [line.split(":")[0].removeprefix("TENANTSCOPE_UPSTREAM_") for line in caught.value.lines] == [
        "HEADERS_FILE",
        "CA_FILE",
        "CERTIFICATE_FILE",
    ]
    private(file, "a: b")
    good = Credentials(headers=file)
    private(file, f"authorization {TOKEN}")
    assert not good.renew()
    assert TOKEN not in str(caught.value) + capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    ["no colon", ": x", "a b: c", "grpc-timeout: 1S", "x-bin: AA==", "te: x", "a: b\nA: c", "a:", "a: \x01", "ä: b"],
)
def test_wrong_headers_name_their_line(wrong: str) -> None:
    """What gRPC could not send is found at the start."""
    with pytest.raises(ValueError, match=r"line [12] "):
        _headers(wrong.encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_headers_or_an_error(content: bytes) -> None:
    """What is accepted is what gRPC accepts: lower-case names, printable values."""
    try:
        found = _headers(content)
    except ValueError:
        return
    for name, value in found:
        assert name == name.lower()
        assert name.isascii()
        assert value.isprintable()
        assert value


@pytest.mark.parametrize("mode", [0o644, 0o604])
def test_files_with_secrets_must_not_be_open_to_everybody(tmp_path: Path, pki: Pki, mode: int) -> None:
    """A token or a key that every user of the machine can read is none."""
    file = private(tmp_path / "headers", "a: b")
    file.chmod(mode)
    pki.key.chmod(mode)
    with pytest.raises(ConfigurationError) as caught:
        Credentials(headers=file, certificate=pki.certificate, key=pki.key)
    assert len(caught.value.lines) == 2
    assert all("can be read by everybody" in line for line in caught.value.lines)


def test_an_upstream_is_trusted_by_its_authority_alone(tmp_path: Path, pki: Pki) -> None:
    """TLS with an authority of one's own works; with another's, nothing is delivered."""
    with running_upstream("localhost:0", pki.server_credentials(mutual=False)) as upstream:
        with sender(upstream, Credentials(ca=pki.ca)) as destination:
            assert destination.deliver(BATCH) == 0
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(other)
        with sender(upstream, Credentials(ca=other)) as destination, pytest.raises(RetryLater):
            destination.deliver(BATCH)
        assert len(upstream.taken) == 1


def test_a_certificate_that_is_replaced_is_used(pki: Pki) -> None:
    """Mutual TLS: an upstream that no longer trusts the old certificate is served with the new one, no restart."""
    with running_upstream("localhost:0", pki.server_credentials(mutual=True)) as upstream:
        pki.issue(trustme.CA())  # of an authority that the upstream does not know
        with sender(upstream, Credentials(ca=pki.ca, certificate=pki.certificate, key=pki.key)) as destination:
            with pytest.raises(RetryLater):
                destination.deliver(BATCH)
            pki.issue()
            assert destination.deliver(BATCH) == 0


def test_a_certificate_without_its_key_waits_for_it(pki: Pki) -> None:
    """Two files are never replaced at one moment: until both fit, the old pair is in use."""
    credentials = Credentials(ca=pki.ca, certificate=pki.certificate, key=pki.key)
    old_certificate, old_key = pki.certificate.read_bytes(), pki.key.read_bytes()
    pki.issue()
    new_key = pki.key.read_bytes()
    private(pki.key, old_key)
    assert pki.certificate.read_bytes() != old_certificate
    assert not credentials.renew()
    private(pki.key, new_key)
    assert credentials.renew()


def test_an_encrypted_key_is_refused_and_not_asked_for(tmp_path: Path, pki: Pki) -> None:
    """Nothing waits for a password at a terminal that nobody looks at."""
    encrypted = private(
        tmp_path / "encrypted.key",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIBvTBXBgkqhkiG9w0BBQ0wSjApBgkqhkiG9w0BBQwwHAQI\n"
        b"-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    with pytest.raises(ConfigurationError, match="TENANTSCOPE_UPSTREAM_CERTIFICATE_FILE"):
        Credentials(certificate=pki.certificate, key=encrypted)


@pytest.mark.parametrize("compress", [True, False])
def test_what_is_sent_is_compressed_when_wanted(compress: bool) -> None:
    """Seen on the wire; either way the upstream gets the same bytes."""
    assert (b"\x1f\x8b\x08" in first_bytes(compress=compress)) is compress
    with running_upstream() as upstream, sender(upstream, compress=compress) as destination:
        destination.deliver(BATCH)
        assert upstream.taken == [("traces", BATCH.payload)]


def first_bytes(*, compress: bool) -> bytes:
    """What a peer reads of one export, up to its payload; it hangs up then."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        destination = UpstreamOtlp(
            parse_upstream(f"http://127.0.0.1:{listener.getsockname()[1]}"), compress=compress, deadline=PATIENCE
        )
        with ThreadPoolExecutor(1) as pool:
            delivery = pool.submit(destination.deliver, BATCH)
            with listener.accept()[0] as peer:
                peer.settimeout(PATIENCE)
                peer.sendall(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))  # HTTP/2: empty SETTINGS, and the client goes on
                found = b""
                while b"\x1f\x8b\x08" not in found and b"tenant.id" not in found:
                    found += peer.recv(65536)
            destination.close()
            with pytest.raises(RetryLater):
                delivery.result(PATIENCE)
    return found


def test_a_close_during_renewal_leaves_nothing_open(pki: Pki) -> None:
    """However a stop and new certificates fall together, nothing is delivered after the stop, and nothing is raised."""
    with running_upstream("localhost:0", pki.server_credentials(mutual=False)) as upstream:
        for _ in range(10):
            credentials = Credentials(ca=pki.ca, certificate=pki.certificate, key=pki.key)
            destination = UpstreamOtlp(parse_upstream(upstream.url), credentials)
            pki.issue()
            closing = threading.Thread(target=destination.close)
            closing.start()
            with contextlib.suppress(RetryLater):
                destination.deliver(BATCH)
            closing.join(PATIENCE)
            with pytest.raises(RetryLater, match="closed"):
                destination.deliver(BATCH)


def test_the_certificates_are_what_openssl_takes(pki: Pki) -> None:
    """The check is not stricter than TLS itself: a chain with more than one certificate passes."""
    pki.certificate.write_bytes(pki.certificate.read_bytes() + pki.ca.read_bytes())
    Credentials(certificate=pki.certificate, key=pki.key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(pki.certificate, pki.key)
