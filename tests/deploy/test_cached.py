"""What is made once and kept in the user's cache."""

from __future__ import annotations

import subprocess
import sys
import threading
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


def test_what_a_killed_maker_left_is_removed(thing: Cached) -> None:
    """By the next one that makes something; what was made stays."""
    thing.main()
    left = thing.folder.parent / "tmpkilled"
    left.mkdir()
    (left / "half").write_text("of a build")
    other = replace(thing, made_from=b"version 2")
    other.main()
    assert set(thing.folder.parent.iterdir()) == {thing.folder, other.folder}


def test_two_makers_at_once_make_it_once(thing: Cached, made: list[Path]) -> None:
    """The second waits for the first, which has not been killed, and finds what it made."""
    begun, go_on = threading.Event(), threading.Event()

    def slowly(scratch: Path) -> Path:
        begun.set()
        assert go_on.wait(10)
        return thing.make(scratch)

    makers = [threading.Thread(target=replace(thing, make=slowly).main), threading.Thread(target=thing.main)]
    makers[0].start()
    assert begun.wait(10)
    makers[1].start()
    go_on.set()
    for maker in makers:
        maker.join(10)
    assert len(made) == 1
    assert list(thing.folder.parent.iterdir()) == [thing.folder]
