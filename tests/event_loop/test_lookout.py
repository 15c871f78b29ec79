"""Stacks are taken before a slice is a stall, by a thread that stays out of the way."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from instrumentation.loop import Loops
from instrumentation.loop.lookout import Lookout
from sidecar.wire import cell as cell_layout
from sidecar.wire import process
from sidecar.wire import stacks as layout

MS = 1_000_000
DEADLINE = 30.0
NOWHERE = "unix:/nonexistent/tenantscope.sock"


def functions(text: bytes | None) -> list[str]:
    return [name for _, _, name in layout.frames(text or b"", threading.get_ident())]


def test_the_stack_of_a_slice_is_taken_at_60_percent_and_when_its_age_doubles(
    loops: Loops, clock: Any, make_loop: Callable[[], Any]
) -> None:
    """A slice that ends before costs nothing; one that goes on elsewhere is looked at anew."""
    lookout = Lookout(loops._shared, clock)
    lookout._stall_ns = 100 * MS
    seen: list[list[str]] = []

    def look() -> list[str]:
        return functions(lookout.look(clock.now)[0])

    def elsewhere() -> None:
        seen.append(look())

    async def work() -> None:
        clock.advance(59)
        seen.append(look())
        clock.advance(1)
        seen.append(look())
        clock.advance(50)
        seen.append(look())
        clock.advance(50)
        elsewhere()
        await asyncio.sleep(0)
        clock.advance(50)
        seen.append(look())

    make_loop().run_until_complete(work())
    young, first, same, later, next_slice = seen
    assert young == same == next_slice == []
    assert any("work" in name for name in first)
    assert not any("elsewhere" in name for name in first)
    assert any("elsewhere" in name for name in later)


def test_the_next_look_comes_before_any_slice_can_be_a_stall(
    loops: Loops, clock: Any, make_loop: Callable[[], Any]
) -> None:
    """Whenever a slice began, its stack is taken before the threshold."""
    lookout = Lookout(loops._shared, clock)
    lookout._stall_ns = 100 * MS
    _, wake = lookout.look(clock.now)
    assert clock.now < wake <= clock.now + 60 * MS

    async def work() -> None:
        for age in (1, 29, 29):
            clock.advance(age)
            began = next(iter(loops._shared().values())).words[cell_layout.RUNNING] & cell_layout.START_BITS
            _, wake = lookout.look(clock.now)
            assert clock.now < wake <= began + 60 * MS

    make_loop().run_until_complete(work())


def test_the_timer_of_faulthandler_is_never_touched(cells: Path, clock: Any) -> None:
    """It belongs to the application, and its dump can crash a process whose frames are changing."""
    before = faulthandler.dump_traceback_later, faulthandler.cancel_dump_traceback_later
    lookout = Lookout(dict, clock)
    lookout.watch(cells, 20 * MS)
    try:
        assert (faulthandler.dump_traceback_later, faulthandler.cancel_dump_traceback_later) == before
    finally:
        lookout.stop(5)


# Processes ----------------------------------------------------------------------------------------------------------
FORKS = """
import os, sys, threading
from pathlib import Path
from instrumentation.loop import Loops
loops = Loops(Path(sys.argv[1]), "s", "i", "unix:/nonexistent")
loops.start()
loops._unreadable(20_000_000, 0)
lookout = loops._lookout
waiting = threading.Event()
for number in range(6):  # each touches every page of the parent on its way out
    while lookout._file is None:
        waiting.wait(0.001)
    child = os.fork()
    if child == 0:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert len(list(Path(sys.argv[1]).iterdir())) == 1
loops.stop()
assert list(Path(sys.argv[1]).iterdir()) == []
"""


def test_children_that_were_forked_under_a_lookout_can_exit(cells: Path) -> None:
    """They end at once, and the parent's file stays the parent's."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, str(cells)]  # of fork, from 3.12 on
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, "")


CLOSED = """
import os, sys, threading
from pathlib import Path
from instrumentation import diagnostics
from instrumentation.loop import Loops
loops = Loops(Path(sys.argv[1]), "s", "i", "unix:/nonexistent")
loops.start()
loops._unreadable(20_000_000, 0)
mine = loops._lookout._file._descriptor
theirs = os.dup2(os.open(sys.argv[2], os.O_RDWR | os.O_CREAT), mine)
loops._lookout._check_at = 0
loops._lookout._thread.join(20)
assert not loops._lookout._thread.is_alive()
loops.stop()
os.write(theirs, b"still theirs")
assert Path(sys.argv[2]).read_bytes() == b"still theirs"
assert diagnostics.counts() == {"fault.loop.lookout": 1}, diagnostics.counts()
"""


def test_a_descriptor_that_is_not_ours_any_more_is_not_touched(cells: Path, tmp_path: Path) -> None:
    """A program that closes every descriptor gets its own back under our number: it stays open, nothing is written."""
    command = [sys.executable, "-c", CLOSED, str(cells), str(tmp_path / "theirs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr


def test_without_a_file_there_is_no_lookout_and_no_harm(cells: Path, clock: Any) -> None:
    """A name that is taken, a folder that is gone: counted, and the application goes on."""
    (cells / layout.name(os.getpid(), process.own_start())).touch()
    lookout = Lookout(dict, clock)
    lookout.watch(cells, 100 * MS)
    assert lookout._thread is None
    lookout.stop(1)
