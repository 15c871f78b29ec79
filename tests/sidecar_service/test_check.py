"""`--check`: what a sidecar would do, or why it would not start; and nothing is made, changed or bound by asking."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.check import check
from sidecar.configuration.ownership import is_kept_in_memory
from sidecar.configuration.settings import ConfigurationError, Settings
from sidecar.redaction import Policy
from sidecar.senders.clients import new_token
from sidecar.service import Sidecar


def settings(tmp_path: Path, **more: str) -> Settings:
    return Settings.from_environment(
        {
            "TENANTSCOPE_STATE_DIR": str(tmp_path / "state"),
            **{f"TENANTSCOPE_{key}": value for key, value in more.items()},
        }
    )


def test_it_says_what_would_be_done(tmp_path: Path) -> None:
    """Every address, who is let in and who may look, the policy, limits, queue and destinations."""
    one, two = new_token()[1], new_token()[1]
    (tmp_path / "clients").write_text(
        f"clients: {{b: {{tenants: all, tokens: ['{one}']}}, a: {{tenants: [x], tokens: ['{two}']}}}}"
    )
    (tmp_path / "limits").write_text("[tiers.a]\nrecords = 5\n[tiers.b]\n[tenants]\nacme = 'a'\n")
    said = check(
        settings(
            tmp_path,
            CLIENTS_FILE=str(tmp_path / "clients"),
            LIMITS=str(tmp_path / "limits"),
            UPSTREAM="https://collector.example:4317",
            POLICY="strict",
            ALERTMANAGER="http://127.0.0.1:9093",
        )
    )
    text = "\n".join(line for line in said if "kept in memory" not in line)
    assert text == "\n".join(
        [
            "listens   127.0.0.1:4317 (OTLP/gRPC)",
            "lets in   2 clients: a, b",
            "tells     clients, at http://127.0.0.1:8889",
            f"redacts   by strict (digest {Policy.load('strict').digest})",
            "limits    1 tenants by name; 2 tiers, 1 of them with a quota",
            f"keeps     at most 256 MiB waiting in {tmp_path / 'state'}, which it makes",
            "forwards  to collector.example:4317",
            "alerts    Alertmanager",
        ]
    )


def test_nothing_is_made(tmp_path: Path) -> None:
    """Neither the folder nor a key in it, nor a socket's; and a port in use is no hindrance."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        check(settings(tmp_path, LISTEN=f"127.0.0.1:{taken.getsockname()[1]}"))
    check(settings(tmp_path, LISTEN=f"unix:{tmp_path}/run/otlp.sock"))
    assert list(tmp_path.iterdir()) == []


def test_everybody_on_the_machine_is_a_warning(tmp_path: Path) -> None:
    """The default is for looking around; a socket or a list of clients ends it."""
    assert any(line.startswith("warning: TENANTSCOPE_LISTEN") for line in check(settings(tmp_path)))
    private = check(settings(tmp_path, LISTEN=f"unix:{tmp_path}/run/otlp.sock"))
    assert not any(line.startswith("warning: TENANTSCOPE_LISTEN") for line in private)
    half = check(settings(tmp_path, LISTEN=f"unix:{tmp_path}/run/otlp.sock", LISTEN_HTTP="127.0.0.1:0"))
    assert [line.split(":")[1] for line in half if "every user" in line] == [" TENANTSCOPE_LISTEN_HTTP"]


def test_the_folder_of_each_socket_is_looked_at(tmp_path: Path) -> None:
    """All three are told of in one go, and where the pages would be when nothing is wrong."""
    places = {key: f"unix:{tmp_path}/{key}/any.sock" for key in ("LISTEN", "LISTEN_HTTP", "ADMIN")}
    said = check(settings(tmp_path, **places))
    assert f"tells     this user, at unix:{tmp_path}/ADMIN/any.sock" in said
    for key in places:
        shared(tmp_path / key)
    with pytest.raises(ConfigurationError) as refused:
        check(settings(tmp_path, **places))
    assert [line.split(":")[0] for line in refused.value.lines] == [f"TENANTSCOPE_{key}" for key in places]


def of_another(folder: Path) -> None:
    folder.mkdir(0o700)
    os.chown(folder, 12345, 12345)


def shared(folder: Path) -> None:
    folder.mkdir()
    (folder / "something").touch()
    folder.chmod(0o750)


def linked(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(0o700)
    folder.symlink_to(folder.parent / "elsewhere")


def a_file(folder: Path) -> None:
    folder.touch()


@pytest.mark.parametrize("make", [of_another, shared, linked, a_file])
def test_a_folder_that_the_start_would_refuse_is_refused(
    tmp_path: Path, make: Callable[[Path], None], as_root: None
) -> None:
    """With the same line, and left as it is."""
    make(tmp_path / "state")
    before = (tmp_path / "state").lstat()
    chosen = settings(tmp_path, LISTEN="127.0.0.1:0", ADMIN="127.0.0.1:0")
    with pytest.raises(ConfigurationError) as checked:
        check(chosen)
    with pytest.raises(ConfigurationError) as started:
        Sidecar(chosen).start()
    assert checked.value.lines == started.value.lines
    assert (tmp_path / "state").lstat().st_mode == before.st_mode


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Policy, clients, secret and folder, a line each."""
    for name in ("policy", "clients", "secret"):
        (tmp_path / name).write_text("?")
        (tmp_path / name).chmod(0o604)
    (tmp_path / "state").touch()
    with pytest.raises(ConfigurationError) as refused:
        check(
            settings(
                tmp_path,
                POLICY=str(tmp_path / "policy"),
                CLIENTS_FILE=str(tmp_path / "clients"),
                WEBHOOK="http://127.0.0.1:1/",
                WEBHOOK_SECRET_FILE=str(tmp_path / "secret"),
            )
        )
    assert list(dict.fromkeys(line.split(":")[0] for line in refused.value.lines)) == [
        "TENANTSCOPE_POLICY", "TENANTSCOPE_WEBHOOK_SECRET_FILE", "TENANTSCOPE_CLIENTS_FILE", "TENANTSCOPE_STATE_DIR",
    ]  # fmt: skip


MOUNTS = """\
22 1 {device} / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw - proc proc rw
24 22 {memory} / /dev/shm rw,nosuid shared:2 master:3 - tmpfs tmpfs rw,size=1g
"""


def test_a_folder_in_memory_is_told(tmp_path: Path) -> None:
    """By the file system that it is on, or would be on."""
    device = tmp_path.stat().st_dev
    own = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(device=own, memory="0:99"))
    assert not is_kept_in_memory(tmp_path / "state" / "deeper", mounts)
    mounts.write_text(MOUNTS.format(device="8:1", memory=own))
    assert is_kept_in_memory(tmp_path / "state" / "deeper", mounts)
    assert not is_kept_in_memory(tmp_path, tmp_path / "nowhere")


def test_the_warning_is_given_for_the_real_thing(tmp_path: Path) -> None:
    """As /dev/shm is one on every Linux with shared memory."""
    memory = Path("/dev/shm")
    if not is_kept_in_memory(memory):
        pytest.skip("/dev/shm is no tmpfs here")
    chosen = Settings.from_environment({"TENANTSCOPE_STATE_DIR": str(memory / "tenantscope-none")})
    assert any(line.startswith("warning: TENANTSCOPE_STATE_DIR:") for line in check(chosen))
