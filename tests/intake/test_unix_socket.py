"""The intake on a Unix socket: private, and never in anybody's way."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
from otlp_peers import export, trace_request

from sidecar.configuration.settings import ConfigurationError
from sidecar.intake import Admission, Intake
from sidecar.ledger import Ledger
from sidecar.network.address import listener
from sidecar.senders.clients import Clients


def start(path: Path) -> Intake:
    intake = Intake(listener(f"unix:{path}"), Admission(Clients(None), lambda *_: 0), Ledger())
    try:
        intake.start()
    except BaseException:
        intake.stop(0)
        raise
    return intake


def test_exports_come_in_over_a_private_socket(tmp_path: Path) -> None:
    """The folder is made with 0700, the socket is 0600 and gone after the stop."""
    path = tmp_path / "run" / "otlp.sock"
    intake = start(path)
    assert export(intake.address.target, trace_request()) == b""
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    intake.stop(0)
    assert not path.exists()


def test_the_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    """A sidecar that was killed does not keep the next one from starting."""
    path = tmp_path / "otlp.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    intake = start(path)
    assert export(intake.address.target, trace_request()) == b""
    intake.stop(0)


def test_the_socket_of_a_living_process_is_not(tmp_path: Path) -> None:
    """The second is told who is there; the first goes on."""
    path = tmp_path / "otlp.sock"
    first = start(path)
    with pytest.raises(ConfigurationError, match="another process listens"):
        start(path)
    assert export(first.address.target, trace_request()) == b""
    first.stop(0)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_not_a_socket_is_not_touched(tmp_path: Path, kind: str) -> None:
    """A file or a symbolic link at the path stays what it is."""
    path, other = tmp_path / "otlp.sock", tmp_path / "other"
    other.write_text("mine")
    if kind == "link":
        path.symlink_to(other)
    else:
        path.write_text("mine")
    with pytest.raises(ConfigurationError, match="not a socket of ours"):
        start(path)
    assert path.read_text() == "mine"


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    """gRPC shows no credentials of a peer, so the folder is what keeps others out."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "something").touch()
    shared.chmod(0o755)
    with pytest.raises(ConfigurationError, match="TENANTSCOPE_LISTEN: others may enter"):
        start(shared / "otlp.sock")
