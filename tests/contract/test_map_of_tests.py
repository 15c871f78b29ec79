"""CONTRIBUTING.md says where the tests of each room are: all rooms, all folders, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("instrumentation", "sidecar", "tenantscope")
SECTION = (ROOT / "CONTRIBUTING.md").read_text().split("### Where the tests are")[1].split("\n## ")[0]
MAP = {
    room: re.findall(r"`(tests/\w+)`", tests)
    for room, tests in re.findall(r"^\| `([^`]+)` \| (.*) \|$", SECTION, re.MULTILINE)
}


def test_every_room_has_a_line() -> None:
    """A new folder of a package needs one; a folder that is gone has none."""
    folders = (room.parent for package in PACKAGES for room in (ROOT / package).glob("*/__init__.py"))
    rooms = {f"{folder.relative_to(ROOT)}/" for folder in folders}
    assert set(MAP) == rooms | {f"{package}/*.py" for package in PACKAGES}


def test_every_folder_of_tests_is_named() -> None:
    """Under the room that it is of, or as what holds the whole together."""
    folders = {f"tests/{test.parent.name}" for test in (ROOT / "tests").glob("*/test_*.py")}
    assert set(re.findall(r"`(tests/\w+)`", SECTION)) == folders


@pytest.mark.parametrize("room", [room for room in MAP if room.startswith("sidecar/") and room.endswith("/")])
def test_the_tests_of_a_room_use_it(room: str) -> None:
    """Each folder that is named imports the room; tests of the library go through its few public names instead."""
    module = room.rstrip("/").replace("/", ".")
    assert MAP[room]
    for folder in MAP[room]:
        assert any(re.search(rf"\b{re.escape(module)}\b", test.read_text()) for test in (ROOT / folder).glob("*.py"))


def test_a_test_file_has_a_name_of_its_own() -> None:
    """Test folders are no packages: two files of one name would be one module."""
    names = [test.name for test in (ROOT / "tests").glob("**/test_*.py")]
    assert sorted(names) == sorted(set(names))
