"""The validator: what says whether files of deploy/ are right, with the code of the programs that would read them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from validation import Validate, where


@pytest.fixture(scope="session")
def validate() -> Validate:
    """Runs the validator of this folder; skips without it, or fails when REQUIRE_VALIDATOR is 1."""
    path = where()
    if not path.is_file():
        give_up = pytest.fail if os.environ.get("REQUIRE_VALIDATOR") == "1" else pytest.skip
        give_up("the validator is not built: run `make validator` (needs Go)")

    def run(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([path, *arguments], capture_output=True, text=True, input=given)

    return run
