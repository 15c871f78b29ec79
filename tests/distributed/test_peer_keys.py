"""The file of keys: what it may hold, and what it is refused for."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instrumentation import lifecycle
from instrumentation.peers import Peers, PeersError, load
from instrumentation.settings import ConfigurationError, Settings
from instrumentation.testing import capture

KEY = "0123456789abcdef" * 2


def written(folder: Path, content: str | bytes, mode: int = 0o600) -> Path:
    file = folder / "peer.keys"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    file.chmod(mode)
    return file


def test_keys_and_whom_they_speak_for(tmp_path: Path) -> None:
    """One a line, the first seals; behind a key the tenants that it may speak for."""
    peers = load(written(tmp_path, f"# old and new\n\n{KEY}\n{KEY[::-1]} acme a%20b # both\n"))
    first, second = peers._keys
    assert peers.seal(b"x") == first.seal(b"x") != second.seal(b"x")
    assert first.speaks_for("anybody")
    assert second.speaks_for("acme")
    assert second.speaks_for("a b")
    assert not second.speaks_for("globex")
    assert peers.whose(b"x", second.seal(b"x")) is second
    assert peers.whose(b"x", second.seal(b"y")) is None
    assert peers.shared


def test_without_keys_there_is_one_of_the_process() -> None:
    """Nobody else has it."""
    one, other = Peers(), Peers()
    assert one.whose(b"x", one.seal(b"x")) is not None
    assert one.whose(b"x", other.seal(b"x")) is None
    assert not one.shared


@pytest.mark.parametrize(
    ("content", "mode", "mistake"),
    [
        ("", 0o600, "has no key in it"),
        ("# nothing\n", 0o600, "has no key in it"),
        ("tooshort\n", 0o600, "line 1: a key has at least 32 characters"),
        (f"{KEY} %ff\n", 0o600, "line 1: a tenant's id is UTF-8"),
        (f"{KEY}\n{KEY}\n", 0o600, "the same key twice"),
        ("".join(f"{n:032}\n" for n in range(17)), 0o600, "more than 16 keys"),
        (b"\xff" * 40, 0o600, "is not UTF-8"),
        (" " * 70_000, 0o600, "more than 65536 bytes"),
        (KEY, 0o604, "can be read by everybody"),
    ],
)
def test_a_mistake_is_a_line_that_names_the_setting(
    tmp_path: Path, content: str | bytes, mode: int, mistake: str
) -> None:
    """And has nothing of a key in it."""
    file = written(tmp_path, content, mode)
    with pytest.raises(ConfigurationError, match=mistake) as raised:
        Settings.read(environ={"TENANTSCOPE_PEER_KEYS_FILE": str(file)})
    assert str(raised.value).startswith("TENANTSCOPE_PEER_KEYS_FILE: ")
    assert KEY not in str(raised.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    """A folder, a pipe, nothing at all, a relative path: a mistake, and no waiting for a writer."""
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path), str(tmp_path / "pipe"), str(tmp_path / "nothing"), "keys"):
        with pytest.raises(ConfigurationError, match="TENANTSCOPE_PEER_KEYS_FILE"):
            Settings.read(environ={"TENANTSCOPE_PEER_KEYS_FILE": path})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_any_content_is_keys_or_mistakes(tmp_path: Path, content: str | bytes) -> None:
    """Nothing else comes out of a file, and never a key that is too short."""
    try:
        file = written(tmp_path, content)
    except UnicodeEncodeError:
        return
    try:
        keys = load(file)._keys
    except PeersError:
        keys = ()
    assert all(len(key.secret) >= 32 for key in keys)


def test_a_key_is_in_no_repr(tmp_path: Path) -> None:
    """Settings are logged and printed; keys are not."""
    settings_ = Settings.read(environ={"TENANTSCOPE_PEER_KEYS_FILE": str(written(tmp_path, KEY))})
    assert settings_.peers is not None
    assert KEY not in repr(settings_)
    assert KEY not in repr(settings_.peers._keys)


def test_new_keys_are_in_use_without_a_restart(tmp_path: Path) -> None:
    """A rotation of two processes, step by step and never at one moment: each message is believed on the way."""
    old, new = KEY, KEY[::-1]
    files = [written(tmp_path / name, old) for name in ("a", "b") if (tmp_path / name).mkdir() is None]
    here, there = (load(file) for file in files)

    def believed() -> bool:
        return all(
            to.whose(b"x", sender.seal(b"x")) is not None for sender, to in ((here, there), (there, here), (here, here))
        )

    sealed_before = here.seal(b"x")
    for content in (f"{old}\n{new}\n", f"{new}\n{old}\n"):
        for file, peers in zip(files, (here, there), strict=True):
            written(file.parent, content)
            assert peers.renew()
            assert not peers.renew()
            assert believed()
    assert here.seal(b"x") != sealed_before
    assert there.whose(b"x", sealed_before) is not None  # on its way since before
    for file, peers in zip(files, (here, there), strict=True):
        written(file.parent, f"{new}\n")
        assert peers.renew()
        assert believed()
    assert there.whose(b"x", sealed_before) is None


def test_what_a_key_may_speak_for_is_renewed_too(tmp_path: Path) -> None:
    """The same key, for other tenants."""
    peers = load(written(tmp_path, f"{KEY} acme\n"))
    written(tmp_path, f"{KEY} acme globex\n")
    assert peers.renew()
    key = peers.whose(b"x", peers.seal(b"x"))
    assert key is not None
    assert key.speaks_for("globex")


@pytest.mark.parametrize("content", ["", "tooshort\n", b"\xff" * 40, None], ids=["empty", "short", "binary", "gone"])
def test_while_new_keys_cannot_be_used_the_old_ones_stay(tmp_path: Path, content: str | bytes | None) -> None:
    """Half written, or not there for a moment: and the next ones are taken."""
    file = written(tmp_path, KEY)
    peers = load(file)
    sealed = peers.seal(b"x")
    if content is None:
        file.unlink()
    else:
        written(tmp_path, content)
    assert not peers.renew()
    assert peers.seal(b"x") == sealed
    written(tmp_path, KEY[::-1] + "\n")
    assert peers.renew()
    assert peers.whose(b"x", sealed) is None


def test_new_keys_are_taken_when_their_file_is_closed(tmp_path: Path) -> None:
    """Everybody could read it, which we said: to close it changes neither its content nor when that was written."""
    peers = load(written(tmp_path, KEY))
    sealed = peers.seal(b"x")
    file = written(tmp_path, KEY[::-1], 0o604)
    assert not peers.renew()
    file.chmod(0o640)
    assert peers.renew()
    assert peers.whose(b"x", sealed) is None


def test_keys_are_read_again_when_they_could_not_be_read_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An application at its limit of open files: the file does not change once more for our sake."""
    peers = load(written(tmp_path, KEY))
    file = written(tmp_path, KEY[::-1] + "\n")

    def no_descriptor_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_descriptor_left)
        assert not peers.renew()
    assert file.read_text() == KEY[::-1] + "\n"
    assert peers.renew()


def test_a_rewrite_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    """As `rsync -t` or a restored backup leaves it: the same inode, length and time of change."""
    file = written(tmp_path, KEY)
    times = file.stat()
    peers = load(file)
    written(tmp_path, KEY[::-1])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert peers.renew()


def test_keys_are_renewed_while_the_library_runs(tmp_path: Path) -> None:
    """With every export of metrics, by the thread that exports."""
    peers = load(written(tmp_path, KEY))
    with capture(peers=peers):
        sealed = peers.seal(b"x")
        written(tmp_path, f"{KEY[::-1]}\n{KEY}\n")
        lifecycle.flush(10)
        assert peers.seal(b"x") != sealed
        assert peers.whose(b"x", sealed) is not None


def test_a_process_of_its_own_key_has_nothing_to_renew() -> None:
    """There is no file."""
    assert not Peers().renew()
