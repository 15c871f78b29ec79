"""Build the validator into the user's cache, once: `python -m tests.deploy.validator.build`; needs Go."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from deploy.cached import Cached, go

SOURCES = Path(__file__).parent
FILES = sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"])


def build(scratch: Path) -> Path:
    """Build with the modules of go.sum, and no others."""
    folder = scratch / "validator"
    environment = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    command = [go("validator"), "build", "-o", str(folder / VALIDATOR.program), "."]
    subprocess.run(command, cwd=SOURCES, env=environment, check=True)
    return folder


VALIDATOR = Cached(
    "validator", b"\0".join(path.read_bytes() for path in FILES), build, cost="a minute", program="validator"
)

if __name__ == "__main__":
    VALIDATOR.main()
