"""What slice accounting costs: CPU per callback of asyncio's loop and of uvloop, bare against installed, interleaved.

Two workloads: callbacks that do nothing (the worst case; every nanosecond shows), and two tasks that pass a message to
and fro through queues (what an agent runtime does). CPU time of the process, so that waiting and neighbours don't count
for much; medians of interleaved rounds, for a machine's speed drifts.

    python -m benchmarks.slice_cost
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from instrumentation import tenancy
from instrumentation.loop import Loops

ROUNDS = 21
CALLBACKS = 50_000
MESSAGES = 10_000

Workload = Callable[[], Awaitable[int]]
Make = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, Make] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def empty_callbacks() -> int:
    """A callback that schedules its successor, and nothing else."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = CALLBACKS

    def step() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(step)
        else:
            done.set_result(None)

    step()
    await done
    return CALLBACKS


async def messages() -> int:
    """Two tasks of two tenants and two queues between them; a message costs about two callbacks."""
    to, fro = asyncio.Queue[int](), asyncio.Queue[int]()

    async def echo() -> None:
        with tenancy.tenant("globex"):
            for _ in range(MESSAGES):
                await fro.put(await to.get())

    task = asyncio.create_task(echo())
    with tenancy.tenant("acme"):
        for number in range(MESSAGES):
            await to.put(number)
            await fro.get()
    await task
    return 2 * MESSAGES


def cpu_ns(workload: Workload, make: Make) -> float:
    """CPU nanoseconds per callback of one round."""
    loop = make()
    try:
        loop.run_until_complete(asyncio.sleep(0))  # adoption is once a loop, not once a callback
        began = time.thread_time_ns()
        callbacks = loop.run_until_complete(workload())
        return (time.thread_time_ns() - began) / callbacks
    finally:
        loop.close()


def measure(workload: Workload, make: Make, cells: Path) -> tuple[float, float]:
    """Medians (bare, installed) of interleaved rounds."""
    bare: list[float] = []
    installed: list[float] = []
    for _ in range(ROUNDS):
        bare.append(cpu_ns(workload, make))
        loops = Loops(cells, "slice-cost", "benchmark", "unix:/nonexistent")
        loops.start()
        try:
            installed.append(cpu_ns(workload, make))
        finally:
            loops.stop(0.1)
    return statistics.median(bare), statistics.median(installed)


def main() -> None:
    """Print one line for each workload."""
    with tempfile.TemporaryDirectory() as folder:
        cells = Path(folder)
        print(f"{'workload':<18}{'loop':<9}{'bare':>10}{'installed':>12}{'difference':>12}{'ratio':>8}   per callback")
        for workload in (empty_callbacks, messages):
            for kind, make in LOOPS.items():
                bare, installed = measure(workload, make, cells)
                print(
                    f"{workload.__name__:<18}{kind:<9}{bare:>7.0f} ns{installed:>9.0f} ns{installed - bare:>9.0f} ns"
                    f"{installed / bare:>7.2f}x"
                )


if __name__ == "__main__":
    main()
