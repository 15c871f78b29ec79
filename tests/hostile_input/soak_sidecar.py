"""The long run of a whole sidecar: a million tenants, bombs, empty messages, a thousand reloads, a minute's stop.

    python tests/hostile_input/soak_sidecar.py [--tenants 1000000] [--reloads 1000] [--stop-seconds 60]

A real sidecar in a process of its own; memory is what the kernel counts. Prints a line for each, and exits with 1 when
one of them is beyond its bound, or anything is not accounted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]


def main() -> int:
    """Run it; the exit code."""
    from victim import MEBIBYTE, Victim, bodies, bomb, crowd, nothings, reloads, stopped, victim, well

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=1_000_000)
    parser.add_argument("--bomb-bytes", type=int, default=512 << 20)
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--stop-seconds", type=float, default=60.0)
    options = parser.parse_args()
    failures = 0

    def held(what: str, more: float, most: float) -> None:
        nonlocal failures
        failures += more > most
        print(f"{what}: {more:.1f} MB more memory, at most {most:.0f}", flush=True)

    def ends_well(sidecar: Victim) -> None:
        well(sidecar)
        counts = sidecar.settled()
        print(f"  {counts['received']:,} spans received, each accounted; {sidecar.rss() / MEBIBYTE:.0f} MB", flush=True)

    with tempfile.TemporaryDirectory() as folder, victim(Path(folder)) as sidecar:
        well(sidecar)
        held(
            f"a bomb of {options.bomb_bytes >> 20} MB, from a stranger and a client",
            bomb(sidecar, options.bomb_bytes) / MEBIBYTE,
            32,
        )
        held("2,000,000 empty resources, 20 times", nothings(sidecar, 20) / MEBIBYTE, 64)
        held("4 MB from each of 200 connections at once", bodies(sidecar, 200) / MEBIBYTE, 400)
        ends_well(sidecar)
        begun = time.monotonic()
        early, late = crowd(sidecar, options.tenants)
        held(f"{options.tenants:,} tenants, after the first tenth of them", (late - early) / MEBIBYTE, 24)
        print(f"  in {time.monotonic() - begun:.0f} s")
        ends_well(sidecar)
        early, late = reloads(sidecar, options.reloads)
        held(f"{options.reloads:,} reloads under load, after the first tenth of them", (late - early) / MEBIBYTE, 24)
        ends_well(sidecar)
        back = stopped(sidecar, options.stop_seconds)
        print(
            f"stopped for {options.stop_seconds:.0f} s under load: takes requests again after {back:.2f} s, at most 10"
        )
        failures += back > 10
        ends_well(sidecar)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
