"""The reference is the tables of the code, no more and no less; coverage and reliability are what the tests say."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import instrumentation
from instrumentation.settings import SETTINGS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("document", ["reference", "coverage", "reliability"])
def test_a_document_is_up_to_date(document: str) -> None:
    """A setting, attribute, metric or alert that is new in a table is in the reference, after `make docs`; a test that
    proves what is covered, or withstood, in those."""
    ran = subprocess.run(
        [sys.executable, f"docs/{document}.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr


def test_arguments_of_start_are_the_ones_that_it_takes() -> None:
    """The reference says which argument wins over which setting; `resolver` has none."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import reference
    finally:
        sys.path.pop(0)
    taken = set(inspect.signature(instrumentation.start).parameters) - {"resolver"}
    assert set(reference.ARGUMENTS.values()) == taken
    assert set(reference.ARGUMENTS) <= {setting.key for setting in SETTINGS}
