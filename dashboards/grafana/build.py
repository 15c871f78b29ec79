"""Write the dashboards' JSON: `python -m dashboards.grafana.build`; `--check` only compares.

Run from the root of the repository. The JSON is committed, so that importing a dashboard needs no Python.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from . import tenants

BOARDS = {Path(__file__).with_name("tenants.json"): tenants.build}


def main() -> None:
    """Write every board, or compare it with what is there."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of date")
    check = arguments.parse_args().check
    for path, build in BOARDS.items():
        text = json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        if not check:
            path.write_text(text)
            print(path)
        elif not path.is_file() or path.read_text() != text:
            sys.exit(f"{path} is out of date: run `python -m dashboards.grafana.build` and commit the result")


if __name__ == "__main__":
    main()
