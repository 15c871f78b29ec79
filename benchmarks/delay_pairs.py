"""Who made whom wait: how near are the seconds by pair of tenants to the truth?

Tenants hold an event loop in turn, with `time.sleep`, while pieces of work of others are ready or become due as timers.
The truth is written down by the benchmark: from when a piece could have run, which is the start of the slice or the
moment of its timer, to the end of that slice. Both clocks are the same; what differs is what the accounting adds or
misses. Its own task waits too, for nobody's tenant, and is left out.

    python -m benchmarks.delay_pairs [ROUNDS]
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.targets import at_most
from instrumentation import tenancy
from instrumentation.loop import Loops
from instrumentation.tenancy import tenant

TENANTS = ("acme", "globex", "hooli", "initech", "umbrella")
ROUNDS = 200
ERROR_PERCENT = 1.0
Truth = Counter[tuple[str, str]]


async def one_round(chance: random.Random, truth: Truth) -> None:
    """One tenant holds the loop; some of the others wait."""
    loop = asyncio.get_running_loop()
    culprit = chance.choice(TENANTS)
    others = [name for name in TENANTS if name != culprit]
    ready = chance.choices(others, k=chance.randint(0, 4))
    timers = [(name, chance.uniform(0.0, 0.03)) for name in chance.choices(others, k=chance.randint(0, 3))]
    hold = chance.uniform(0.006, 0.05)
    moments: dict[str, float] = {}

    def block() -> None:
        moments["began"] = time.monotonic()
        time.sleep(hold)
        moments["ended"] = time.monotonic()

    with tenant(culprit):
        loop.call_soon(block)
    for name in ready:
        with tenant(name):
            loop.call_soon(int)
    due = []
    for name, after in timers:
        with tenant(name):
            due.append((name, loop.call_later(after, int).when()))
    while "ended" not in moments:
        await asyncio.sleep(0)
    for name in ready:
        truth[culprit, name] += round((moments["ended"] - moments["began"]) * 1e9)
    for name, when in due:
        if moments["began"] < when <= moments["ended"]:
            truth[culprit, name] += round((moments["ended"] - when) * 1e9)
        elif when <= moments["began"]:
            truth[culprit, name] += round((moments["ended"] - moments["began"]) * 1e9)
    await asyncio.sleep(0.035)  # every timer of this round has run


async def rounds(count: int, truth: Truth) -> None:
    """The same rounds at each run."""
    chance = random.Random(7)
    for _ in range(count):
        await one_round(chance, truth)


def main() -> None:
    """Print each pair, and the largest error."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    truth: Truth = Counter()
    with tempfile.TemporaryDirectory() as folder:
        loops = Loops(Path(folder), "benchmark", "benchmark", "unix:/nonexistent")
        loops.start()
        asyncio.run(rounds(count, truth))
        ids = [tenant.id for tenant in tenancy.TABLE.in_order()]
        pairs = loops.totals().pairs_ns
        loops.stop()
    found = {(ids[culprit], ids[victim]): wait for (culprit, victim), wait in pairs.items()}
    print(f"Python {sys.version.split()[0]}, {count} rounds, seconds that the victim waited for the culprit")
    print(f"{'culprit':10} {'victim':10} {'truth':>9} {'accounted':>9} {'error':>8}")
    errors = []
    for (culprit, victim), true in truth.most_common():
        said = found.get((culprit, victim), 0)
        errors.append(abs(said - true) / true)
        print(f"{culprit:10} {victim:10} {true / 1e9:9.4f} {said / 1e9:9.4f} {(said - true) / true:+8.3%}")
    print(f"largest error {max(errors):.3%}, {at_most(max(errors) * 100, ERROR_PERCENT, '%')}")


if __name__ == "__main__":
    main()
