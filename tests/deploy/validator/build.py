"""Build the validator into the user's cache, once: `python tests/deploy/validator/build.py`; needs Go.

It lies below the hash of its sources, as the Collector lies below that of its manifest.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent


def where() -> Path:
    """Path of the binary that belongs to the sources, whether it is there or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    files = sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"])
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:12]
    return cache / "tenantscope" / f"validator-{digest}" / "validator"


def build(target: Path) -> None:
    """Build into a scratch folder beside `target`, then move the binary in place in one step."""
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if go is None:
        sys.exit("make validator needs Go 1.25 or newer in PATH: https://go.dev/dl")
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"Building the validator into {target.parent} (once, a minute) ...", flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        environment = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
        subprocess.run([go, "build", "-o", str(made), "."], cwd=SOURCES, env=environment, check=True)
        made.rename(target)


def main() -> None:
    """Print where the binary is; build it first when it is missing and `--where` isn't given."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--where", action="store_true", help="print the path, build nothing")
    only_where = arguments.parse_args().where
    target = where()
    if not only_where and not target.is_file():
        try:
            build(target)
        except subprocess.CalledProcessError as error:
            sys.exit(f"the validator could not be built: {error}")
    print(target)


if __name__ == "__main__":
    main()
