"""What is made once and kept in the user's cache."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.cached import Cached


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The scratch folders in which something was made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["make"])
    return []


@pytest.fixture
def thing(made: list[Path]) -> Cached:
    def make(scratch: Path) -> Path:
        made.append(scratch)
        folder = scratch / "out"
        folder.mkdir()
        (folder / "program").write_text("of version 1")
        return folder

    return Cached("thing", b"version 1", make, cost="a moment", program="program")


def test_it_is_made_once(thing: Cached, made: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """The second time it is there; the last line says where. Nothing is left of the scratch folder."""
    thing.main()
    thing.main()
    (scratch,) = made
    assert not scratch.exists()
    where = Path(capsys.readouterr().out.splitlines()[-1])
    assert where.read_text() == "of version 1"
    assert list(where.parent.parent.iterdir()) == [where.parent]


def test_other_sources_are_another(thing: Cached, made: list[Path]) -> None:
    """What was made of the old ones stays."""
    thing.main()
    other = replace(thing, made_from=b"version 2")
    other.main()
    assert len(made) == 2
    assert thing.folder.is_dir()
    assert other.folder.is_dir()


def test_where_makes_nothing(
    thing: Cached, made: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says the path all the same."""
    monkeypatch.setattr(sys, "argv", ["make", "--where"])
    thing.main()
    assert capsys.readouterr().out == f"{thing.folder / 'program'}\n"
    assert made == []


def test_half_of_it_is_never_there(thing: Cached) -> None:
    """A maker that fails ends with one line, and leaves nothing behind."""

    def make(scratch: Path) -> Path:
        (scratch / "half").mkdir()
        raise subprocess.CalledProcessError(1, "go")

    broken = replace(thing, make=make)
    with pytest.raises(SystemExit, match="thing could not be made"):
        broken.main()
    assert list(broken.folder.parent.iterdir()) == []
