"""`tenantscope top` and its like, asking a sidecar that has a list of clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sidecars import configured

from sidecar.senders.clients import new_token
from sidecar.service import Sidecar
from tenantscope.cli import main
from tenantscope.view.client import Admin, StrangerError
from tenantscope.view.credential import HEADERS, find_token

TOKEN, DIGEST = new_token()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Sidecar]:
    clients = tmp_path / "clients.yaml"
    clients.write_text(f'clients: {{operator: {{tokens: ["{DIGEST}"], tenants: all}}}}')
    made = Sidecar(configured(tmp_path, CLIENTS_FILE=str(clients)))
    made.start()
    yield made
    made.stop(0)


def test_a_status_is_had_with_the_token(guarded: Sidecar) -> None:
    """Without it, or with another, the reason is a sentence that says what to do."""
    address = guarded.admin_address.target
    assert Admin(address, token=TOKEN).status().pid
    for token in (None, new_token()[0]):
        with pytest.raises(StrangerError, match="--token-file"):
            Admin(address, token=token).status()


def test_top_reads_it_from_a_file(
    guarded: Sidecar, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or from where the application has it; it is never printed."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    command = ["top", "--admin", guarded.admin_address.target, "--once", "--json", "--interval", "0.1"]
    assert main([*command, "--token-file", str(file)]) == 0
    assert main(command) == 1
    monkeypatch.setenv(HEADERS, f"x-scope=1,authorization=Bearer%20{TOKEN}")
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert TOKEN not in out + err
    assert json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("mode", [0o644, 0o604])
def test_a_file_that_everybody_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """One line, without the token."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(mode)
    with pytest.raises(ValueError, match="can be read by everybody") as refused:
        find_token(str(file), {})
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("content", ["", "\n", "two words", f"{TOKEN}\n{TOKEN}", "x" * 5000, "caf\u00e9", "a\0b"])
def test_what_is_no_token_is_refused(tmp_path: Path, content: str) -> None:
    """Nothing of it can end up in a header, or in the message."""
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ValueError, match="has no token in it"):
        find_token(str(file), {})


@pytest.mark.parametrize(
    ("headers", "token"),
    [("", None), ("authorization=Bearer%20abc", "abc"), ("a=b,Authorization=bearer abc", "abc"),
     ("authorization=Basic%20abc", None), ("authorization=Bearer%20a%0D%0Ab", None),
     ("authorization", None), ("x-authorization=Bearer%20abc", None)],
)  # fmt: skip
def test_the_environments_token_is_the_exporters(headers: str, token: str | None) -> None:
    """Read as OpenTelemetry reads it."""
    assert find_token(None, {HEADERS: headers}) == token


def test_a_token_does_not_leave_the_machine() -> None:
    """There is no TLS on an admin listener: elsewhere it is asked without."""
    assert Admin("127.0.0.1:1", token=TOKEN)._headers
    assert not Admin("192.0.2.1:1", token=TOKEN)._headers
