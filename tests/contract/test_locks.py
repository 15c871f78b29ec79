"""What the tests run with is what everything else runs with, and more."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def pins(name: str) -> set[str]:
    return set(re.findall(r"^[a-z0-9._-]+==[^\s;]+", (ROOT / name).read_text(), re.MULTILINE))


def test_the_lock_of_the_tests_contains_the_other() -> None:
    """`make lock` writes both; a version that stands in one alone would be tested and not used, or the reverse."""
    assert len(pins("requirements.lock")) > 50
    assert pins("requirements.lock") <= pins("requirements-test.lock")
