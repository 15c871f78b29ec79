"""Run as a process of its own: four tenants on one loop, of whom `hooli` holds it until a file appears.

    python application.py ENDPOINT CELLS RELEASE [uvloop:]KIND [OPTION]

`fork`: the work is done by a forked child while the parent's own link is up. `closed`: nobody without privileges may
read this process's memory, until RELEASE.open appears. `threads`: a second thread has a loop of its own, which its
tenant `umbrella` holds. Where the interpreter is held, that begins when RELEASE.go appears, for nothing gets out of the
process any more. It prints a line when its work is done. Not a test, and imports nothing of tests.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
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


def hold_by_regex(_: Path) -> None:
    """For hours: each character doubles the time."""
    re.match(r"(a+)+$", "a" * 50 + "!")


def hold_by_power(_: Path) -> int:
    """For minutes."""
    return 7**500_000_000


def hold_elsewhere(release: Path) -> None:
    """In a second thread."""
    while not release.exists():
        time.sleep(0.005)


async def polite(name: str, done: asyncio.Event) -> None:
    with tenant(name):
        while not done.is_set():
            await asyncio.sleep(0)


HOLDS = {
    "sleep": hold_by_sleep, "spin": hold_by_spin, "held": hold_the_interpreter,
    "regex": hold_by_regex, "power": hold_by_power,
}  # fmt: skip


async def main(release: Path, kind: str, closed: bool) -> None:
    done = asyncio.Event()
    others = [asyncio.create_task(polite(name, done)) for name in ("acme", "globex", "initech")]
    while closed and not release.exists() and not release.with_suffix(".go").exists():
        await asyncio.sleep(0.005)
        if release.with_suffix(".open").exists():
            let_memory_be_read(True)
            closed = False
    while kind in ("held", "regex", "power") and not release.with_suffix(".go").exists():
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


async def hold_as_umbrella(release: Path) -> None:
    with tenant("umbrella"):
        hold_elsewhere(release)


def let_memory_be_read(allowed: bool) -> None:
    """`PR_SET_DUMPABLE`, as programs that hold keys use it."""
    assert ctypes.CDLL(None).prctl(4, int(allowed), 0, 0, 0) == 0


def give_up_privileges() -> None:
    """Who has fewer than we may not read us."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0


if __name__ == "__main__":
    endpoint, cells, release, kind, *option = sys.argv[1:]
    loop, _, kind = kind.rpartition(":")
    if option == ["closed"]:
        give_up_privileges()
        let_memory_be_read(False)
    loops = Loops(Path(cells), "billing-agents", "instance-1", endpoint)
    loops.start()
    if option == ["fork"]:
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
    second = threading.Thread(target=lambda: asyncio.run(hold_as_umbrella(Path(release))))
    if option == ["threads"]:
        second.start()
    run = uvloop.run if loop == "uvloop" else asyncio.run
    run(main(Path(release), kind, option == ["closed"]))
    if option == ["threads"]:
        second.join()
    loops.stop()
    print("done", flush=True)
