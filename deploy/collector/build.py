"""Build the Collector of builder.yaml into the user's cache, once: `python -m deploy.collector.build`.

Needs Go and a Go module proxy; it refuses to fetch a binary from anywhere.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from deploy.cached import Cached, go

MANIFEST = Path(__file__).with_name("builder.yaml")
BUILDER = "go.opentelemetry.io/collector/cmd/builder@v0.159.0"


def build(scratch: Path) -> Path:
    """Build with OpenTelemetry's builder, which writes into `build` beside the manifest."""
    manifest = scratch / MANIFEST.name
    manifest.write_bytes(MANIFEST.read_bytes())
    subprocess.run(  # noqa: S603  # fixed arguments
        [go("collector"), "run", BUILDER, "--config", manifest.name],
        cwd=scratch,
        # A module file of the caller's folder has no say here, nor has a vendoring flag.
        env={**os.environ, "GOFLAGS": "-mod=mod", "GOWORK": "off"},
        check=True,
    )
    program = scratch / "build" / COLLECTOR.program
    folder = scratch / "collector"
    folder.mkdir()
    return program.rename(folder / program.name).parent


COLLECTOR = Cached(
    "otelcol", MANIFEST.read_bytes() + BUILDER.encode(), build, cost="some minutes", program="otelcol-tenantscope"
)

if __name__ == "__main__":
    COLLECTOR.main()
