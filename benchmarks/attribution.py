"""Is the right tenant charged, and the right tenant named? The truth is measured inside the callbacks themselves.

*Charged*: on one loop, one tenant computes for 5 to 50 ms at a time and 49 others for 50 to 200 us now and then, in
steps of tasks, in callbacks and in timers. Printed is by how much the accounting differs from what the tenants' own
code measured: the culprit's error, and the sum of what is wrong about the innocents, both as a share of the culprit's
time. What asyncio needs to get in and out of that code (some 10 us a step) is part of the error.

*Named*: an AutoGen runtime in a process of its own, 50 tenants, all of them at work. One after the other blocks the
loop for 15 to 55 ms longer than the threshold, in a handler, in a child task of one, in a `gather`, or in a
`call_later` callback that a handler left behind. A real watchdog in this process names the tenant of each stall.

    python -m benchmarks.attribution [--stalls 250] [--seconds 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler

import instrumentation
from benchmarks.targets import at_least, at_most
from benchmarks.watched import desk
from instrumentation import tenancy
from instrumentation.loop import Loops

LOOPS: dict[str, Callable[..., Any]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}
TENANTS = tuple(f"tenant-{number:02}" for number in range(50))
CULPRIT = TENANTS[0]
THRESHOLD_MS = 25
CULPRIT_PERCENT, INNOCENTS_PERCENT, NAMED = 0.5, 1.0, 0.999
WAYS = ("handler", "child task", "gather", "call_later")
SAME_S = 0.02  # a block and a stall that began within this are the same

Truth = Counter[str]


def compute(name: str, seconds: float, truth: Truth) -> None:
    """Hold the loop, and write down for how long."""
    began = time.monotonic_ns()
    end = began + round(seconds * 1e9)
    while time.monotonic_ns() < end:
        pass
    truth[name] += time.monotonic_ns() - began


async def worker(name: str, until: float, truth: Truth) -> None:
    """One tenant at work: in a step of its task, in a callback, in a timer."""
    loop = asyncio.get_running_loop()
    chance = random.Random(name)
    with instrumentation.tenant(name):
        while time.monotonic() < until:
            began = time.monotonic_ns()
            seconds = chance.uniform(0.005, 0.05) if name == CULPRIT else chance.uniform(0.00005, 0.0002)
            way = chance.randrange(3)
            if way == 0:
                compute(name, seconds, Counter())
            elif way == 1:
                loop.call_soon(compute, name, seconds, truth)
            else:
                loop.call_later(0.001, compute, name, seconds, truth)
            pause = asyncio.sleep(0.002 if name == CULPRIT else 0.1)
            truth[name] += time.monotonic_ns() - began
            await pause


def charged(kind: str, seconds: float) -> str:
    """One line on who was charged."""
    truth: Truth = Counter()

    async def main() -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(worker(name, until, truth) for name in TENANTS))
        await asyncio.sleep(0.05)

    with tempfile.TemporaryDirectory() as folder:
        loops = Loops(Path(folder), "attribution", "benchmark", "unix:/nonexistent")
        loops.start()
        LOOPS[kind](main())
        loops.stop()
    active = loops.totals().active_ns
    wrong = {name: active[tenancy.TABLE.intern(name).slot] - truth[name] for name in TENANTS}
    whole = truth[CULPRIT]
    innocents = sum(abs(error) for name, error in wrong.items() if name != CULPRIT)
    culprit, others = abs(wrong[CULPRIT] / whole) * 100, innocents / whole * 100
    return (
        f"{kind:<10}{whole / 1e9:>11.2f} s{wrong[CULPRIT] / whole:>+13.3%}{innocents / whole:>12.3%}"
        f"  {at_most(culprit, CULPRIT_PERCENT, '%')}, {at_most(others, INNOCENTS_PERCENT, '%')}"
    )


@dataclass
class Block:
    """A message: hold the loop for so long, in one of `WAYS`."""

    way: str
    seconds: float


class Blocker(RoutedAgent):
    """Blocks as it is told, and prints when that began, in seconds since the epoch."""

    def __init__(self) -> None:
        super().__init__("blocks the loop")

    @message_handler
    async def on_block(self, message: Block, ctx: MessageContext) -> None:
        loop = asyncio.get_running_loop()
        tenant = instrumentation.current_tenant()

        def block() -> None:
            print(json.dumps([time.time(), message.way, tenant]), flush=True)
            time.sleep(message.seconds)

        async def blocking() -> None:
            await asyncio.sleep(0)
            block()

        if message.way == "handler":
            block()
        elif message.way == "child task":
            await asyncio.create_task(blocking())
        elif message.way == "gather":
            await asyncio.gather(asyncio.sleep(0.001), blocking())
        else:
            loop.call_later(0.002, block)


async def polite(name: str) -> None:
    """A tenant who always has a little to do."""
    with instrumentation.tenant(name):
        while True:
            sum(range(1000))
            await asyncio.sleep(0.01)


async def blocks(stalls: int) -> None:
    """As many blocks in each way, by tenants in any order."""
    await asyncio.sleep(1)  # until the watchdog knows the loop
    runtime = SingleThreadedAgentRuntime()
    await Blocker.register(runtime, "blocker", Blocker)
    runtime.start()
    others = [asyncio.create_task(polite(name)) for name in TENANTS]
    chance = random.Random(7)
    for _ in range(stalls):
        for way in WAYS:
            seconds = chance.uniform(THRESHOLD_MS + 15, THRESHOLD_MS + 55) / 1000
            name = chance.choice(TENANTS)
            with instrumentation.tenant(name):
                await runtime.send_message(Block(way, seconds), AgentId("blocker", name))
            await asyncio.sleep(0.01)
    for other in others:
        other.cancel()
    await runtime.stop()


def application(endpoint: str, cells: str, kind: str, stalls: str) -> None:
    """The child."""
    instrumentation.start(service_name="attribution", endpoint=endpoint, cell_dir=cells)
    LOOPS[kind](blocks(int(stalls)))
    instrumentation.stop()


def named(kind: str, stalls: int) -> list[str]:
    """A line for each way to block, on how many were named."""
    with desk(THRESHOLD_MS) as watch:
        command = [sys.executable, "-m", "benchmarks.attribution", watch.endpoint, str(watch.folder), kind, str(stalls)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
        alerts = [alert for alert in watch.heard.rest() if alert.name == "EventLoopStalled"]
    found = [(alert.starts_at.timestamp(), alert.labels["tenant_id"]) for alert in alerts if alert.status == "firing"]
    counts = {way: Counter[str]() for way in WAYS}
    at = 0
    for line in done.stdout.splitlines():
        began, way, tenant = json.loads(line)
        while at < len(found) and found[at][0] < began - SAME_S:
            at += 1
            counts[way]["other"] += 1
        if at < len(found) and found[at][0] < began + SAME_S:
            counts[way]["right" if found[at][1] == tenant else "wrong"] += 1
            at += 1
        else:
            counts[way]["missed"] += 1
    return [
        f"{kind:<10}{way:<13}{stalls:>7}{count['right'] / stalls:>10.2%}{count['wrong']:>8}{count['missed']:>8}"
        f"{count['other']:>8}  {at_least(count['right'] / stalls, NAMED)}"
        for way, count in counts.items()
    ]


def main(stalls: int, seconds: float) -> None:
    """Print both tables."""
    print(f"Python {sys.version.split()[0]}, charged: what differs from the truth, as a share of the culprit's time")
    print(f"{'loop':<10}{'culprit had':>13}{'culprit':>13}{'innocents':>12}")
    for kind in LOOPS:
        print(charged(kind, seconds), flush=True)
    print(f"named: stalls of {len(TENANTS)} tenants, threshold {THRESHOLD_MS} ms; 'others' are stalls nobody planned")
    print(f"{'loop':<10}{'blocked in':<13}{'stalls':>7}{'right':>10}{'wrong':>8}{'missed':>8}{'others':>8}")
    for kind in LOOPS:
        for line in named(kind, stalls):
            print(line, flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 5 and not sys.argv[1].startswith("--"):
        application(*sys.argv[1:])
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
        parser.add_argument("--stalls", type=int, default=250)
        parser.add_argument("--seconds", type=float, default=20.0)
        arguments = parser.parse_args()
        main(arguments.stalls, arguments.seconds)
