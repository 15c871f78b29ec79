"""The watchdog's reading of a cell, in a process of its own: `python polling.py CELL PID`.

Reads as fast as it can until its standard input ends, then writes what it saw as JSON: every name that it found for a
value of `RUNNING`, and every (tenant, loop time) that it found in the totals.
"""

from __future__ import annotations

import json
import os
import select
import sys

from sidecar.watchdog.opening import open_cell
from sidecar.wire import cell as layout


def main() -> None:
    """See above."""
    reader = open_cell(sys.argv[1], int(sys.argv[2]), 1)
    running: set[tuple[int, str]] = set()
    late: set[tuple[int, str]] = set()
    totals: set[tuple[str, int]] = set()
    suffered: set[tuple[str, int]] = set()
    print("reading", flush=True)
    looks = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        looks += 1
        word = reader.header()[layout.RUNNING]
        if word:
            running.add((word, reader.whose(word)))
        totals.update((found.tenant, found.loop_ns) for found in reader.totals())
        suffered.update((reader.name(holder), wait) for holder, wait in reader.suffered().items() if wait)
        count = reader.header()[layout.LONG_SLICES]
        late.update((found.running, reader.whose(found.running)) for found in reader.long_slices(0, count))
    json.dump(
        {
            "looks": looks,
            "running": list(running),
            "late": list(late),
            "totals": list(totals),
            "suffered": list(suffered),
        },
        sys.stdout,
    )
    sys.stdout.flush()
    os._exit(0)


main()
