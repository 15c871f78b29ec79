"""The validator: what says whether files of deploy/ are right, with the code of the programs that would read them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import required
from validation import Validate


@pytest.fixture(scope="session")
def validate() -> Validate:
    """Runs the validator of this folder; skips without it, or fails when REQUIRE_VALIDATOR is 1."""
    path = required.made("tests.deploy.validator.build", variable="REQUIRE_VALIDATOR", target="validator")

    def run(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([path, *arguments], capture_output=True, text=True, input=given)

    return run
