"""Write the dashboards' JSON: `python -m dashboards.grafana.build`; `--check` only compares.

Run from the root of the repository. The JSON is committed, so that importing a dashboard needs no Python: `classic` has
what Grafana 12 imports and provisions, `v2` the resources that Grafana 13 stores, made of the same dashboards.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from docs.generated import write_or_compare

from . import agents, event_loop, sidecar_board, tenants
from .v2 import as_v2

HERE = Path(__file__).parent
BOARDS = {
    "tenants": tenants.build,
    "event_loop": event_loop.build,
    "agents": agents.build,
    "sidecar": sidecar_board.build,
}


def files() -> Iterator[tuple[Path, str]]:
    """Every file and what is to be in it."""
    for name, build in BOARDS.items():
        classic = json.loads(json.dumps(build(), cls=JSONEncoder))
        for path, document in (
            (HERE / "classic" / f"{name}.json", classic),
            (HERE / "v2" / f"{name}.json", as_v2(classic)),
        ):
            yield path, json.dumps(document, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.exit(write_or_compare(files()))
