"""Build the Collector of builder.yaml into the user's cache, once: `python deploy/collector/build.py`.

The binary lies below the hash of its manifest: a changed manifest is a new binary, an unchanged one is never
built again. Needs Go and a Go module proxy; it refuses to fetch a binary from anywhere.
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

MANIFEST = Path(__file__).with_name("builder.yaml")
BUILDER = "go.opentelemetry.io/collector/cmd/builder@v0.159.0"


def where() -> Path:
    """Path of the binary that belongs to the manifest, whether it is there or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(MANIFEST.read_bytes() + BUILDER.encode()).hexdigest()[:12]
    return cache / "tenantscope" / f"otelcol-{digest}" / "otelcol-tenantscope"


def build(target: Path) -> None:
    """Build into a scratch folder beside `target`, then move the binary in place in one step."""
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if go is None:
        sys.exit("make collector needs Go 1.25 or newer in PATH: https://go.dev/dl")
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"Building the Collector into {target.parent} (once, some minutes) ...", flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        manifest = Path(scratch) / "builder.yaml"
        manifest.write_bytes(MANIFEST.read_bytes())
        subprocess.run(  # noqa: S603  # fixed arguments
            [go, "run", BUILDER, "--config", manifest.name],
            cwd=scratch,
            # A module file of the caller's folder has no say here, nor has a vendoring flag.
            env={**os.environ, "GOFLAGS": "-mod=mod", "GOWORK": "off"},
            check=True,
        )
        (Path(scratch) / "build" / target.name).rename(target)


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
            sys.exit(f"the Collector could not be built: {error}")
    print(target)


if __name__ == "__main__":
    main()
