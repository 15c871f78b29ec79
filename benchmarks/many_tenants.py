"""What many tenants cost: a million of them, once each, through all accounts of a process, with a few that are busy.

    python -m benchmarks.many_tenants [--tenants 1000000]

Every tenant is bound, awaits something and handles a message (a scope; spans are not sampled); every tenth turn is one
of 20 busy tenants', who come when the slots are taken. All periods of the turnover, and that of the exports, are a
twentieth of what they are, so that minutes of it fit into the run; every export arrives. `busy shown` is how many of
the 20 have figures of their own; memory should not grow from the second line on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

os.environ["OTEL_TRACES_SAMPLER"] = "always_off"

from instrumentation import tenancy
from instrumentation.activity import Activity, Kind
from instrumentation.loop import Loops
from instrumentation.telemetry.accumulators import Accumulators
from instrumentation.telemetry.loop_metrics import loop_metrics
from instrumentation.telemetry.recorder import Recorder
from instrumentation.telemetry.spans import SpanFactory
from instrumentation.turnover import HALF_LIFE_NS, TENURE_NS, Turnover

FASTER = 20
IDLE_NS, EXPORT_NS = 900_000_000_000 // FASTER, 10_000_000_000 // FASTER
BUSY = [f"busy-{n}" for n in range(20)]
LINES = 10


def resident_mib() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


class Process:
    """The accounts of a process, and their exports."""

    def __init__(self, cells: Path) -> None:
        self.loops = Loops(cells, "many-tenants", "benchmark", "unix:/nonexistent")
        self.accumulators = Accumulators(is_shown=tenancy.TABLE.is_shown)
        self.recorder = Recorder(SpanFactory(), self.accumulators, lambda _: None)
        self.turnover = Turnover(
            tenancy.TABLE,
            self.loops,
            IDLE_NS,
            half_life_ns=HALF_LIFE_NS // FASTER,
            tenure_ns=TENURE_NS // FASTER,
        )
        self.due = 0
        self.longest = 0.0

    def export(self) -> None:
        """As `lifecycle` does it."""
        began = time.thread_time()
        self.turnover.settle(delivered=True)
        self.accumulators.collect(time.time_ns())
        totals = self.loops.totals()
        loop_metrics(totals, 1, time.time_ns())
        self.turnover.judge(totals)
        self.longest = max(self.longest, time.thread_time() - began)
        self.due = time.monotonic_ns() + EXPORT_NS

    async def turn(self, who: str) -> None:
        """One tenant's."""
        with tenancy.tenant(who):
            activity = Activity(
                Kind.PROCESS, tenancy.current() or tenancy.TABLE.unknown, "agent", self.recorder.clock()
            )
            with self.recorder.scope(activity):
                await asyncio.sleep(0)

    async def run(self, tenants: int) -> None:
        """All tenants, with a line now and then."""
        began, part = time.process_time(), max(1, tenants // LINES)
        for number in range(1, tenants + 1):
            await self.turn(f"tenant-{number}")
            if number % 10 == 0:
                await self.turn(BUSY[number // 10 % len(BUSY)])
            if time.monotonic_ns() >= self.due:
                self.export()
            if number % part == 0:
                used = (time.process_time() - began) / part * 1e6
                shown = sum(tenancy.TABLE.is_shown(who) for who in BUSY)
                print(
                    f"{number:>10,}{resident_mib():>10.1f} MiB{used:>9.1f} us{shown:>12} of {len(BUSY)}"
                    f"{self.turnover.displaced:>11}{tenancy.TABLE.beyond():>9}"
                )
                began = time.process_time()


def main() -> None:
    """Print a line for each tenth of the tenants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=1_000_000)
    tenants = parser.parse_args().tenants
    for number in range(tenancy.TABLE.slots):
        tenancy.TABLE.intern(f"first-{number}")
    with tempfile.TemporaryDirectory() as cells:
        process = Process(Path(cells))
        process.loops.start()
        print(f"{'tenants':>10}{'resident':>14}{'CPU each':>12}{'busy shown':>18}{'displaced':>11}{'beyond':>9}")
        asyncio.run(process.run(tenants))
        process.loops.stop(0.1)
        print(f"longest export: {process.longest * 1000:.1f} ms of CPU")


if __name__ == "__main__":
    main()
