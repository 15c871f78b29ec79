"""The long run of delivery: a sidecar is killed under load, 200 times, and both of its upstreams have everything.

    python tests/delivery/soak_delivery.py [--kills 200] [--seed 1]

Prints what was acknowledged and what was lost of it; exits with 1 when that is anything.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]


def main() -> int:
    """Run it; the exit code."""
    from test_killed import kill_under_load

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ts-") as home:  # a Unix socket's address has 107 bytes at most
        chance = random.Random(options.seed)
        acknowledged, lost, again = kill_under_load(
            Path(home), options.kills, chance, lambda number: said(number, options.kills)
        )
    print(
        f"{options.kills} kills under load: {acknowledged:,} spans acknowledged, {lost} of them lost;"
        f" {again:,} arrived once more than they should"
    )
    return lost != 0


def said(number: int, kills: int) -> None:
    """How far it is, now and then."""
    if number % 10 == 0:
        print(f"  {number} of {kills} kills", flush=True)


if __name__ == "__main__":
    sys.exit(main())
