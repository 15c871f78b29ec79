"""Write the dashboards' JSON: `python -m dashboards.grafana.build`; `--check` only compares.

Run from the root of the repository. The JSON is committed, so that importing a dashboard needs no Python: `classic` has
what Grafana 12 imports and provisions, `v2` the resources that Grafana 13 stores, made of the same dashboards.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

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


def main() -> None:
    """Write every board, or compare it with what is there."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    check = arguments.parse_args().check
    for path, text in files():
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(path)
        elif not path.is_file() or path.read_text() != text:
            sys.exit(f"{path} is out of date: run `python -m dashboards.grafana.build` and commit the result")


if __name__ == "__main__":
    main()
