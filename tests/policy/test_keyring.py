"""The keys of pseudonyms: made once, for us alone to read, rotated with overlap, never quietly replaced."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.configuration.settings import ConfigurationError
from sidecar.policy.keyring import MAX_KEYS, NAME, read_keys, retire, rotate


def test_the_first_key_is_made_once_for_us_alone(tmp_path: Path) -> None:
    """The same after a restart, mode 0600."""
    (key,) = read_keys(tmp_path, "KEY")
    assert (key.id, len(key.secret)) == ("k1", 32)
    assert read_keys(tmp_path, "KEY") == (key,)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    other = tmp_path / "other"
    other.mkdir()
    assert read_keys(other, "KEY") != (key,)


def test_a_new_key_comes_before_the_others_until_they_are_retired(tmp_path: Path) -> None:
    """Ids are never used again while one of the others is there."""
    (first,) = read_keys(tmp_path, "KEY")
    second, *older = rotate(tmp_path, "KEY")
    assert (second.id, older) == ("k2", [first])
    assert read_keys(tmp_path, "KEY") == (second, first)
    assert retire(tmp_path, "KEY", "k1") == (second,)
    assert [key.id for key in rotate(tmp_path, "KEY")] == ["k3", "k2"]
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_the_key_in_use_is_not_retired(tmp_path: Path) -> None:
    """Nor is one that is not there; the message says which ones there are."""
    rotate(tmp_path, "KEY")
    for name in ("k2", "k9"):
        with pytest.raises(ConfigurationError, match="the older ones are: k1"):
            retire(tmp_path, "KEY", name)


def test_keys_are_bounded(tmp_path: Path) -> None:
    """Whoever rotates daily must say from when on the past is past."""
    for _ in range(MAX_KEYS - 1):
        rotate(tmp_path, "KEY")
    with pytest.raises(ConfigurationError, match="retire k1 first"):
        rotate(tmp_path, "KEY")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def twice(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def one_secret_twice(path: Path) -> None:
    path.write_bytes(path.read_bytes() + path.read_bytes().replace(b"k1", b"k2"))


def foreign(path: Path) -> None:
    path.write_bytes(b"\xff\xfe secret")


def huge(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n" * 100_000)


def opened(path: Path) -> None:
    path.chmod(0o640)


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    "damage", [cut, emptied, twice, one_secret_twice, foreign, huge, opened, linked, piped], ids=lambda d: d.__name__
)
def test_what_we_did_not_write_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """One line that names the setting and holds no key; the file stays as it is."""
    (key,) = read_keys(tmp_path, "KEY")
    damage(tmp_path / NAME)
    with pytest.raises(ConfigurationError, match=r"\AKEY: ") as caught:
        read_keys(tmp_path, "KEY")
    assert key.secret.hex() not in str(caught.value)
    with pytest.raises(ConfigurationError):
        rotate(tmp_path, "KEY")
    assert list(tmp_path.iterdir()) == [tmp_path / NAME]
