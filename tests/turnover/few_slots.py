"""A process with few slots, by a clock that the test moves: a loop, all accounts, and a receiver that adds up.

The receiver does what a backend does with cumulative series: it takes the difference to the value before, or all of a
value whose series began anew. So a counter that goes back, or one that begins again under the same start, is found out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import Metric
from virtual_time import VirtualClock, VirtualLoop

from instrumentation import conventions, tenancy
from instrumentation.bindings import Tenant
from instrumentation.conventions import MESSAGES, TENANT_LOOP_TIME
from instrumentation.loop import Loops
from instrumentation.slots import TenantTable
from instrumentation.telemetry.accumulators import Accumulators
from instrumentation.telemetry.loop_metrics import loop_metrics
from instrumentation.turnover import Turnover
from sidecar.wire import cell as layout

MS = 1_000_000
SECOND = 1_000_000_000
IDLE_NS = 300 * SECOND


class Receiver:
    """What arrives, by (metric, tenant)."""

    def __init__(self) -> None:
        self.sums: Counter[tuple[str, str]] = Counter()
        self._series: dict[tuple[Any, ...], tuple[int, float]] = {}
        self.present: set[tuple[str, str]] = set()

    def take(self, metrics: list[Metric]) -> None:
        self.present = set()
        for metric in metrics:
            for point in metric.data.data_points:
                attributes = dict(point.attributes or {})
                who = str(attributes.get("tenant.id", ""))
                self.present.add((metric.name, who))
                value = point.sum if hasattr(point, "bucket_counts") else point.value
                start = point.start_time_unix_nano
                key = (metric.name, *sorted(attributes.items()))
                before = self._series.get(key, (-1, 0.0))
                if start == before[0]:
                    assert value >= before[1] - 1e-9, f"{key} went back"
                    self.sums[metric.name, who] += value - before[1]
                else:
                    assert start > before[0], f"{key} began before its end"
                    self.sums[metric.name, who] += value
                self._series[key] = (start, value)

    def of(self, metric: conventions.Metric) -> dict[str, float]:
        """The sum of a metric by tenant."""
        return {who: round(value, 9) for (name, who), value in self.sums.items() if name == metric.name and value}


class House:
    """See above. `tenancy.TABLE` must be `table` meanwhile."""

    def __init__(
        self, table: TenantTable, clock: Any, loop: asyncio.AbstractEventLoop, cells: Path, idle_ns: int = IDLE_NS
    ) -> None:
        self.table = table
        self.clock = clock
        self.loop = loop
        self.wall = 1_000
        self.loops = Loops(
            cells, "service", "instance", "unix:/nonexistent", clock=clock, cpu_clock=clock.cpu, wall=self._wall
        )
        self.loops.start()
        self.turnover = Turnover(table, self.loops, idle_ns, clock)
        self.accumulators = Accumulators(self._wall, table.is_shown)
        self.receiver = Receiver()
        self.delivered = True
        self.expected: Counter[tuple[str, str]] = Counter()
        self.began: dict[int, str] = {}  # who it was, by the word RUNNING
        self.held: dict[str, Tenant] = {}  # bound somewhere, so that it is the same object all along

    def _wall(self) -> int:
        self.wall += 1
        return self.wall

    def work(self, who: str, milliseconds: int) -> None:
        """A tenant has the loop for so long, and handles a message."""

        async def main() -> None:
            with tenancy.tenant(who):
                bound = tenancy.current()
                assert bound is not None
                self.held[who] = bound
                # What a reader may find in the cell meanwhile.
                self.began[self._running()] = bound.id
                self.clock.advance(milliseconds)
                self.expected[TENANT_LOOP_TIME.name, bound.id] += milliseconds
                self.expected[MESSAGES.name, bound.id] += 1
                with self.accumulators.lock:
                    self.accumulators.of(MESSAGES).add((bound.id, "ok"), 1)

        self.loop.run_until_complete(main())

    def _running(self) -> int:
        (account,) = self.loops._accounts.values()
        return int(account.words[layout.RUNNING])

    @property
    def cell(self) -> Path:
        """The loop's cell; it exists once the loop has run."""
        (account,) = self.loops._shared().values()
        assert account.cell.path is not None
        return account.cell.path

    def beat(self) -> None:
        """The loop runs for a while, and does nothing for anybody."""
        self.loop.run_until_complete(asyncio.sleep(0.2))

    def collect(self, arrives: bool = True) -> None:
        """One export of metrics, as `lifecycle` makes it."""
        self.turnover.settle(self.delivered)
        now = self._wall()
        found = self.accumulators.collect(now, self.delivered)
        totals = self.loops.totals()
        found += loop_metrics(totals, 1, now)
        self.turnover.judge(totals)
        self.delivered = arrives
        if arrives:
            self.receiver.take(found)

    def interval(self, arrives: bool = True) -> None:
        """Ten seconds and an export."""
        self.clock.wait(9_800)
        self.beat()
        self.collect(arrives)

    def intervals(self, count: int) -> None:
        for _ in range(count):
            self.interval()

    def check(self) -> None:
        """What arrived is what was done, by whom it was done: with a slot the tenant, without `other`."""
        for metric, unit in ((TENANT_LOOP_TIME, 1000), (MESSAGES, 1)):
            came = {who: round(value * unit, 3) for who, value in self.receiver.of(metric).items() if who != "unknown"}
            done = {who: value for (name, who), value in self.expected.items() if name == metric.name}
            assert came == done, metric.name

    def shown(self) -> set[str]:
        """Who has a slot."""
        return {tenant.id for tenant in self.table.in_order()} - {"unknown", "other"}


MakeHouse = Callable[..., House]


@contextmanager
def a_house(bound: int, idle_ns: int = IDLE_NS) -> Iterator[House]:
    """A house with so many slots."""
    clock, table = VirtualClock(), TenantTable(bound)
    with TemporaryDirectory() as cells, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tenancy, "TABLE", table)
        loop = VirtualLoop(clock)
        house = House(table, clock, loop, Path(cells), idle_ns)
        try:
            yield house
        finally:
            house.loops.stop()
            loop.close()
