"""Run as a process of its own: four tenants on one loop, of whom `hooli` holds it until a file appears.

    python application.py ENDPOINT CELLS RELEASE [uvloop:]KIND [FORK]

With FORK as fifth argument, the work is done by a forked child while the parent's own link is up. It prints a line when
its work is done. Not a test, and imports nothing of tests.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import threading
import time
from pathlib import Path

import uvloop

from instrumentation.loop import Loops
from instrumentation.tenancy import tenant


def hold_by_sleep(release: Path) -> None:
    while not release.exists():
        time.sleep(0.005)


def hold_by_spin(release: Path) -> None:
    while not release.exists():
        sum(range(10_000))


def hold_the_interpreter(release: Path) -> None:
    """No other thread of this process runs until the file appears."""
    library = ctypes.PyDLL(None)
    path = os.fsencode(release)
    sys.setswitchinterval(3600)
    while library.access(path, 0):
        library.usleep(5000)
    sys.setswitchinterval(0.005)


async def polite(name: str, done: asyncio.Event) -> None:
    with tenant(name):
        while not done.is_set():
            await asyncio.sleep(0)


def known() -> bool:
    """Whether the watchdog knows the loop: it told its threshold, or a test that sees it do so made a file."""
    found = any(thread.name == "tenantscope-lookout" for thread in threading.enumerate())
    return found or Path(sys.argv[3]).with_name("known").exists()


HOLDS = {"sleep": hold_by_sleep, "spin": hold_by_spin, "held": hold_the_interpreter}


async def main(release: Path, kind: str) -> None:
    done = asyncio.Event()
    others = [asyncio.create_task(polite(name, done)) for name in ("acme", "globex", "initech")]
    # The watchdog tells its threshold when it knows the loop.
    while kind == "held" and not known():
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.1)
    with tenant("hooli"):
        if kind == "idle":
            while not release.exists():
                await asyncio.sleep(0.005)
        else:
            HOLDS[kind](release)
        await asyncio.sleep(0)
    done.set()
    await asyncio.gather(*others)


if __name__ == "__main__":
    endpoint, cells, release, kind, *fork = sys.argv[1:]
    loop, _, kind = kind.rpartition(":")
    loops = Loops(Path(cells), "billing-agents", "instance-1", endpoint)
    loops.start()
    if fork:
        before = asyncio.new_event_loop()
        before.run_until_complete(asyncio.sleep(0.3))
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            before.run_until_complete(asyncio.sleep(0))
            before.close()
            loops.stop()
            sys.exit()
        inherited = loops
        loops = Loops(Path(cells), "billing-agents", "instance-1", endpoint)
        loops.start()
    run = uvloop.run if loop == "uvloop" else asyncio.run
    run(main(Path(release), kind))
    loops.stop()
    print("done", flush=True)
