"""Where the validator is, and how it is asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

#: Arguments of the validator, and what it is given on its standard input.
Validate = Callable[..., subprocess.CompletedProcess[str]]


def where() -> Path:
    """Path of the binary, whether it is there or not."""
    command = [sys.executable, Path(__file__).with_name("validator") / "build.py", "--where"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
