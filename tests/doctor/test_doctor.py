"""The doctor names the hop at which telemetry ends, with real sidecars, upstreams and listeners."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from otlp_peers import refuse, running_upstream

from sidecar.configuration.settings import Settings
from sidecar.senders.clients import new_token
from sidecar.service import Sidecar
from tenantscope.doctor.command import visit
from tenantscope.doctor.hops import HOPS, Visit
from tenantscope.view.client import Admin
from tenantscope.view.credential import find_token

TOKEN, DIGEST = new_token()


@contextmanager
def sidecar(folder: Path, **settings: str) -> Iterator[Sidecar]:
    environment = {"LISTEN": "127.0.0.1:0", "ADMIN": "127.0.0.1:0", "STATE_DIR": str(folder / "state"), **settings}
    made = Sidecar(Settings.from_environment({f"TENANTSCOPE_{key}": value for key, value in environment.items()}))
    made.start()
    try:
        yield made
    finally:
        made.stop(0)


class Patience:
    """A clock that runs as fast as it is asked to wait."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        threading.Event().wait(0.01)
        self.now += seconds


def ask(endpoint: str, admin: str) -> tuple[int, str]:
    """Exit status and what was printed."""
    out, clock = io.StringIO(), Patience()
    return visit(
        Visit(endpoint, Admin(admin, token=find_token(None, os.environ)), clock, clock.wait), out
    ), out.getvalue()


def about(made: Sidecar, scheme: str = "http") -> tuple[int, str]:
    return ask(f"{scheme}://localhost:{made.listen_address.port}", f"http://{made.admin_address.target}")


def failed_at(printed: str) -> str:
    return next(line.split()[0] for line in printed.splitlines() if " FAILS " in line)


def test_a_span_gets_all_the_way(tmp_path: Path) -> None:
    """Every hop says ok; a real runtime was watched and its span arrived."""
    with sidecar(tmp_path) as made:
        status, printed = about(made)
        assert status == 0, printed
        assert printed.count(" ok ") == len(HOPS)
        rows = {row["tenant"]: row for row in made.answers.status()["tenants"]}
    assert rows["tenantscope-doctor"]["messages"] == 1
    assert rows["tenantscope-doctor"]["spans"] >= 2


def test_it_arrives_at_an_upstream(tmp_path: Path) -> None:
    """Where there is an upstream, that is where the way ends."""
    with running_upstream() as upstream, sidecar(tmp_path, UPSTREAM=upstream.url) as made:
        status, printed = about(made)
        assert status == 0, printed
        assert f"it arrived: 127.0.0.1:{upstream.port}" in printed


def test_nobody_listens() -> None:
    """The advice is to start one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    status, printed = ask(f"http://127.0.0.1:{port}", "127.0.0.1:1")
    assert (status, failed_at(printed)) == (1, "address")
    assert "tenantscope sidecar" in printed
    assert "(not asked: sidecar, admin, intake, delivery, watchdog)" in printed


def test_the_settings_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mistake is a line."""
    monkeypatch.setenv("TENANTSCOPE_MAX_TENANT", "5")
    status, printed = ask("ftp://x", "127.0.0.1:1")
    assert (status, failed_at(printed)) == (1, "settings")
    assert "did you mean TENANTSCOPE_MAX_TENANTS" in printed
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in printed


def test_another_receiver_is_not_taken_for_a_sidecar() -> None:
    """A Collector would take spans; the doctor says what would be missing."""
    with running_upstream() as upstream:
        status, printed = ask(upstream.url, "127.0.0.1:1")
    assert (status, failed_at(printed)) == (1, "sidecar")
    assert "not tenantscope's sidecar" in printed
    assert upstream.requests == []


def test_something_that_is_no_grpc() -> None:
    """It accepts and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        status, printed = ask(f"http://127.0.0.1:{listener.getsockname()[1]}", "127.0.0.1:1")
        listener.shutdown(socket.SHUT_RDWR)
    assert (status, failed_at(printed)) == (1, "sidecar")


def test_the_admin_listener_is_elsewhere(tmp_path: Path) -> None:
    """The setting that names it is in the advice."""
    with sidecar(tmp_path) as made:
        status, printed = ask(f"http://127.0.0.1:{made.listen_address.port}", "127.0.0.1:1")
    assert (status, failed_at(printed)) == (1, "admin")
    assert "TENANTSCOPE_ADMIN" in printed


def test_an_upstream_that_takes_nothing(tmp_path: Path) -> None:
    """The span waits, nothing is lost, and the destination is named."""
    with running_upstream() as upstream, sidecar(tmp_path, UPSTREAM=upstream.url) as made:
        upstream.always = refuse(grpc.StatusCode.UNAVAILABLE)
        status, printed = about(made)
    assert (status, failed_at(printed)) == (1, "delivery")
    assert f"127.0.0.1:{upstream.port}" in printed
    assert "destination" in printed.split("readyz says: ")[1]


def test_one_of_several_upstreams_that_is_not_there(tmp_path: Path) -> None:
    """That the others take the span is not enough: the one that doesn't is named, and no other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with running_upstream() as upstream:
        file = tmp_path / "upstreams.yaml"
        file.write_text(f"upstreams:\n  near: {{url: '{upstream.url}'}}\n  far: {{url: 'http://127.0.0.1:{port}'}}\n")
        with sidecar(tmp_path, UPSTREAMS_FILE=str(file)) as made:
            status, printed = about(made)
    assert (status, failed_at(printed)) == (1, "delivery")
    assert ": far does not take it" in printed


@pytest.mark.parametrize("whose", ["tenant", "client"])
def test_a_quota_that_is_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str) -> None:
    """Of the doctor's tenant, or of the client as which it comes: the advice says so."""
    few = "records = 0.001\nburst = 1000\n"
    (tmp_path / "limits").write_text(f"default = 'few'\n[tiers.few]\n{few if whose == 'tenant' else ''}")
    quota = ", records: 0.001, burst: 1000" if whose == "client" else ""
    (tmp_path / "clients").write_text(f"clients: {{doctor: {{tenants: all, tokens: ['{DIGEST}']{quota}}}}}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{TOKEN}")
    with sidecar(tmp_path, LIMITS=str(tmp_path / "limits"), CLIENTS_FILE=str(tmp_path / "clients")) as made:
        for _ in range(2):  # the first uses it up
            status, printed = about(made)
    assert (status, failed_at(printed)) == (1, "intake")
    assert "over its quota" in printed


def test_a_loop_that_only_its_heartbeats_tell_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is watched, less well: which setting would change that is said."""
    monkeypatch.setenv("TENANTSCOPE_CELL_DIR", str(tmp_path / "nowhere" / "there"))
    with sidecar(tmp_path) as made:
        status, printed = about(made)
    assert status == 0
    assert "by heartbeats alone" in printed
    assert "TENANTSCOPE_CELL_DIR" in printed


def test_credentials_that_are_missing_and_then_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the token the sidecar tells and takes nothing; with it, TLS and all, a span gets through, and the loop is
    watched. A client of some tenants needs the doctor's among them."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "chain")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    (tmp_path / "clients").write_text(f"clients: {{doctor: {{tenants: all, tokens: ['{DIGEST}']}}}}")
    guarded = {
        "TLS_CERTIFICATE_FILE": str(tmp_path / "chain"),
        "TLS_KEY_FILE": str(tmp_path / "key"),
        "CLIENTS_FILE": str(tmp_path / "clients"),
    }
    with sidecar(tmp_path, **guarded) as made:
        status, printed = about(made)
        assert (status, failed_at(printed)) == (1, "sidecar")
        status, printed = about(made, "https")
        assert (status, failed_at(printed)) == (1, "sidecar")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(tmp_path / "ca"))
        status, printed = about(made, "https")
        assert (status, failed_at(printed)) == (1, "admin")
        assert "tenantscope token" in printed
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{TOKEN}")
        status, printed = about(made, "https")
        assert status == 0, printed
        assert TOKEN not in printed
        for tenants, ends in (("tenantscope-doctor", 0), ("acme", 1)):
            (tmp_path / "clients").write_text(f"clients: {{doctor: {{tenants: [{tenants}], tokens: ['{DIGEST}']}}}}")
            status, printed = about(made, "https")
            assert status == ends, printed
            assert ends == 0 or failed_at(printed) == "intake"
