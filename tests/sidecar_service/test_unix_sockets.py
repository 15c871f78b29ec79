"""A sidecar that nobody reaches over the network: exports, OTLP/HTTP and the admin pages on sockets in one folder."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from otlp_peers import PATIENCE, export, trace_request
from sidecars import configured

from sidecar.configuration.settings import ConfigurationError, Settings
from sidecar.senders.clients import new_token
from sidecar.service import Sidecar
from tenantscope.view.client import Admin, StrangerError

NAMES = ("otlp", "http", "admin")


def settings(folder: Path, **more: str) -> Settings:
    sockets = dict(zip(("LISTEN", "LISTEN_HTTP", "ADMIN"), (f"unix:{folder}/run/{n}.sock" for n in NAMES), strict=True))
    return configured(folder, **(sockets | more))


@contextmanager
def running(settings: Settings) -> Iterator[Sidecar]:
    sidecar = Sidecar(settings)
    sidecar.start()
    try:
        yield sidecar
    finally:
        sidecar.stop(0)


def post(path: Path, body: bytes, headers: dict[str, str]) -> int:
    """An export over OTLP/HTTP; the status."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE)
    connection.sock.connect(str(path))
    try:
        connection.request("POST", "/v1/traces", body, {"Content-Type": "application/x-protobuf", **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def test_nothing_of_it_is_on_the_network(tmp_path: Path) -> None:
    """Exports come in by both protocols, the pages tell of them; the folder is ours alone, and empty after the stop."""
    run = tmp_path / "run"
    with running(settings(tmp_path)) as sidecar:
        assert export(sidecar.listen_address.target, trace_request(2)) == b""
        assert post(run / "http.sock", trace_request(3), {}) == 200
        status = Admin(sidecar.admin_address.url).status()
        assert status.pid == os.getpid()
        assert sidecar.ledger.records()["traces"]["received"] == 5
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        assert {(path.name, stat.S_IMODE(path.stat().st_mode)) for path in run.iterdir()} == {
            (f"{name}.sock", 0o600) for name in NAMES
        }
    assert list(run.iterdir()) == []


def test_clients_show_their_tokens_there_too(tmp_path: Path) -> None:
    """A folder that several applications may enter is still asked who they are."""
    token, digest = new_token()
    clients = tmp_path / "clients.yaml"
    clients.write_text(f'clients: {{billing: {{tokens: ["{digest}"], tenants: all}}}}')
    with running(settings(tmp_path, CLIENTS_FILE=str(clients))) as sidecar:
        path = tmp_path / "run" / "http.sock"
        assert post(path, trace_request(), {}) == 401
        assert post(path, trace_request(), {"Authorization": f"Bearer {token}"}) == 200
        with pytest.raises(StrangerError):
            Admin(sidecar.admin_address.url).status()
        assert Admin(sidecar.admin_address.url, token=token).status().pid == os.getpid()


@pytest.mark.parametrize("name", NAMES)
def test_a_socket_that_another_sidecar_has_is_not_taken(tmp_path: Path, name: str) -> None:
    """The second is told which one; the first goes on, and so does its socket."""
    key = dict(zip(NAMES, ("LISTEN", "LISTEN_HTTP", "ADMIN"), strict=True))[name]
    with running(settings(tmp_path)) as first:
        other = tmp_path / "other"
        second = Sidecar(settings(other, **{key: f"unix:{tmp_path}/run/{name}.sock"}))
        with pytest.raises(ConfigurationError, match=f"TENANTSCOPE_{key}: another process listens"):
            second.start()
        assert list((other / "run").glob("*.sock")) == []
        assert export(first.listen_address.target, trace_request()) == b""
        assert post(tmp_path / "run" / "http.sock", trace_request(), {}) == 200
        assert Admin(first.admin_address.url).status().pid == os.getpid()


@pytest.mark.parametrize("name", ["http", "admin"])
def test_what_a_killed_one_left_is_replaced_and_what_is_not_ours_is_not(tmp_path: Path, name: str) -> None:
    """As for OTLP/gRPC."""
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run / f"{name}.sock"))
    with running(settings(tmp_path)) as sidecar:
        assert Admin(sidecar.admin_address.url).status().pid == os.getpid()
    (run / f"{name}.sock").write_text("mine")
    with pytest.raises(ConfigurationError, match="not a socket of ours"), running(settings(tmp_path)):
        pass
    assert (run / f"{name}.sock").read_text() == "mine"


def test_its_views_find_it(tmp_path: Path) -> None:
    """`tenantscope top` with the address that the sidecar has in the environment."""
    with running(settings(tmp_path)) as sidecar:
        environment = {**os.environ, "TENANTSCOPE_ADMIN": sidecar.admin_address.url}
        command = [sys.executable, "-m", "tenantscope", "top", "--once", "--json", "--interval", "0.1"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sidecar.admin_address.url in done.stdout
