"""Stacks are taken before a slice is a stall, and `faulthandler`'s timer stays the application's."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from instrumentation.loop import Loops, timer
from instrumentation.loop.lookout import Lookout
from instrumentation.loop.timer import Timer
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


def test_the_timer_is_due_before_any_slice_can_be_a_stall(
    loops: Loops, clock: Any, make_loop: Callable[[], Any]
) -> None:
    """Whenever a slice began, it is dumped before the threshold, and the lookout is back well before the timer."""
    lookout = Lookout(loops._shared, clock)
    lookout._stall_ns = 100 * MS
    _, due, wake = lookout.look(clock.now)
    assert clock.now < wake <= clock.now + 60 * MS
    assert wake + 30 * MS <= due < clock.now + 100 * MS

    async def work() -> None:
        for age in (1, 29, 29):
            clock.advance(age)
            began = next(iter(loops._shared().values())).words[cell_layout.RUNNING] & cell_layout.START_BITS
            _, due, wake = lookout.look(clock.now)
            assert clock.now < wake <= began + 60 * MS
            assert wake + 30 * MS <= due < began + 100 * MS

    make_loop().run_until_complete(work())


# The timer ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def their_file(tmp_path: Path) -> Iterator[Any]:
    with (tmp_path / "theirs").open("w+") as file:
        yield file
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def ours() -> Iterator[Timer]:
    ours = Timer()
    ours.open()
    yield ours
    ours.close()


def test_a_timer_that_the_application_set_before_is_left_to_it(their_file: Any, tmp_path: Path) -> None:
    """It goes off as they set it, and ours does not; when they cancel it, it is free."""
    faulthandler.dump_traceback_later(0.2, file=their_file)
    ours = Timer()
    ours.open()
    try:
        assert ours.in_use
        with (tmp_path / "ours").open("w+b") as file:
            ours.arm(0.001, file.fileno())
            ours.cancel()
            wait_until(lambda: Path(their_file.name).stat().st_size)
            assert Path(file.name).stat().st_size == 0
            faulthandler.cancel_dump_traceback_later()
            assert not ours.in_use
            ours.arm(0.001, file.fileno())
            wait_until(lambda: Path(file.name).stat().st_size)
    finally:
        ours.close()


def test_a_timer_that_the_application_sets_later_replaces_ours(ours: Timer, their_file: Any, tmp_path: Path) -> None:
    """As it would without us; ours is not set again until they cancel theirs."""
    with (tmp_path / "ours").open("w+b") as file:
        ours.arm(3600, file.fileno())
        assert not ours.in_use
        faulthandler.dump_traceback_later(0.05, file=their_file)
        assert ours.in_use
        ours.arm(0.001, file.fileno())
        wait_until(lambda: Path(their_file.name).stat().st_size)
        assert Path(file.name).stat().st_size == 0


def test_a_wrong_call_fails_as_without_us(ours: Timer) -> None:
    """The application's mistake is the application's to see, and takes nothing."""
    with pytest.raises(ValueError, match="timeout"):
        faulthandler.dump_traceback_later(-1)
    assert not ours.in_use


def test_the_module_is_left_as_it_was() -> None:
    """And somebody who wrapped ours meanwhile stays in the chain."""
    before = faulthandler.dump_traceback_later, faulthandler.cancel_dump_traceback_later
    ours = Timer()
    ours.open()
    assert faulthandler.dump_traceback_later is not before[0]
    ours.close()
    assert (faulthandler.dump_traceback_later, faulthandler.cancel_dump_traceback_later) == before


def test_only_a_thread_that_blocks_all_signals_is_taken_for_the_timer() -> None:
    """Python's own threads and those of gRPC are not."""
    assert not timer._runs()
    faulthandler.dump_traceback_later(3600, file=sys.__stderr__)
    try:
        assert timer._runs()
    finally:
        faulthandler.cancel_dump_traceback_later()


# Processes ----------------------------------------------------------------------------------------------------------
FORKS = """
import os, sys, threading
from pathlib import Path
from instrumentation.loop import Loops
loops = Loops(Path(sys.argv[1]), "s", "i", "unix:/nonexistent")
loops.start()
loops._watchdog(20_000_000)
lookout = loops._lookout
waiting = threading.Event()
for number in range(20):
    while not lookout._timer._armed:
        waiting.wait(0.001)
    child = os.fork()
    if child == 0:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert len(list(Path(sys.argv[1]).iterdir())) == 1
loops.stop()
assert list(Path(sys.argv[1]).iterdir()) == []
"""


def test_children_that_were_forked_while_the_timer_ran_can_exit(cells: Path) -> None:
    """An armed timer would keep a child from exiting; and the parent's file stays the parent's."""
    done = subprocess.run([sys.executable, "-c", FORKS, str(cells)], capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (0, "")


CLOSED = """
import os, sys, threading
from pathlib import Path
from instrumentation import diagnostics
from instrumentation.loop import Loops
loops = Loops(Path(sys.argv[1]), "s", "i", "unix:/nonexistent")
loops.start()
loops._watchdog(20_000_000)
mine = loops._lookout._file.descriptor
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


def wait_until(condition: Callable[[], object]) -> None:
    """Another thread has to come round to it; a deadline, no timing."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)
