"""What a watchdog that looks too late still finds in the cell: the long slices that have ended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from instrumentation.loop import Loops
from instrumentation.tenancy import tenant
from sidecar.watchdog.opening import open_cell
from sidecar.wire import cell as layout

MS = 1_000_000


def test_every_long_slice_leaves_its_tenant_and_its_end(loops: Loops, cells: Path, any_loop: Any, clock: Any) -> None:
    """From 5 ms on, in order, on every kind of loop; a change of tenant in mid callback ends one and begins another."""
    found: list[tuple[str, float]] = []

    def look() -> None:
        (path,) = cells.glob("*.cell")
        reader = open_cell(str(path), os.getpid(), int(path.stem.split("-")[2]))
        count = reader.header()[layout.LONG_SLICES]
        for running, ended, _ in reader.long_slices(0, count):
            lasted = (ended - (running & layout.START_BITS)) / MS
            found.append((reader.name(running & layout.SLOT_BITS), round(lasted, 1)))
        reader.close()

    async def main() -> None:
        await asyncio.sleep(0)
        with tenant("acme"):
            await asyncio.sleep(0)
            clock.advance(30)
            await asyncio.sleep(0)
            clock.advance(4.9)
            await asyncio.sleep(0)
        with tenant("globex"):
            await asyncio.sleep(0)
            clock.advance(5)
            with tenant("initech"):
                clock.advance(7)
            await asyncio.sleep(0)
        look()

    any_loop.run_until_complete(main())
    assert found == [("acme", 30), ("globex", 5), ("initech", 7)]


def test_the_table_goes_round(loops: Loops, cells: Path, virtual_loop: Any, clock: Any) -> None:
    """The last ones are in it, whatever came before, and one place less than there is: it may be written right now."""

    async def main() -> list[int]:
        for milliseconds in range(10, 10 + layout.MAX_LONG + 20):
            clock.advance(milliseconds)
            await asyncio.sleep(0)
        (path,) = cells.glob("*.cell")
        reader = open_cell(str(path), os.getpid(), int(path.stem.split("-")[2]))
        count = reader.header()[layout.LONG_SLICES]
        slices = reader.long_slices(0, count)
        reader.close()
        return [round((ended - (running & layout.START_BITS)) / MS) for running, ended, _ in slices]

    last = 10 + layout.MAX_LONG + 20
    assert virtual_loop.run_until_complete(main()) == list(range(last - layout.MAX_LONG + 1, last))
