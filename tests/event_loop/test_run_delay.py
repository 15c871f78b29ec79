"""What a long slice lacked because the host had no CPU for its thread: by the kernel's count, and by the tests' own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from instrumentation.loop import Loops
from instrumentation.loop.run_delay import RunDelay, own
from instrumentation.tenancy import tenant
from sidecar.watchdog.opening import open_cell
from sidecar.wire import cell as layout
from sidecar.wire import process

MS = 1_000_000
DEADLINE = 60.0


class Kernel:
    """Counts what the loop's thread lacked, in milliseconds, as a test says."""

    def __init__(self) -> None:
        self.lacked: float | None = 0

    def __call__(self) -> int | None:
        return None if self.lacked is None else round(self.lacked * MS)

    def starve(self, milliseconds: float) -> None:
        assert self.lacked is not None
        self.lacked += milliseconds


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def lacked(cells: Path, clock: Any, kernel: Kernel) -> Iterator[Callable[[], list[float | None]]]:
    """What each long slice lacked so far, by its cell, in milliseconds; None: not known."""
    loops = Loops(cells, "service", "instance", "unix:/nonexistent", clock=clock, cpu_clock=clock.cpu, run_delay=kernel)
    loops.start()

    def read() -> list[float | None]:
        (path,) = cells.glob("*.cell")
        reader = open_cell(str(path), os.getpid(), int(path.stem.split("-")[2]))
        slices = reader.long_slices(0, reader.header()[layout.LONG_SLICES])
        reader.close()
        return [None if long.lacked is None else long.lacked / MS for long in slices]

    yield read
    loops.stop()


def test_a_long_slice_says_what_it_lacked(any_loop: Any, clock: Any, kernel: Kernel, lacked: Any) -> None:
    """Not what others lacked before it and after it; also when the tenant changes in mid callback."""

    async def main() -> list[float | None]:
        await asyncio.sleep(0)
        kernel.starve(1000)
        clock.advance(20)
        await asyncio.sleep(0)
        with tenant("acme"):
            await asyncio.sleep(0)
            kernel.starve(12)
            clock.advance(40)
            with tenant("globex"):
                clock.advance(50)
            await asyncio.sleep(0)
        kernel.starve(7)
        clock.advance(30)
        await asyncio.sleep(0)
        return list(lacked())

    assert any_loop.run_until_complete(main()) == [1000, 12, 0, 7]


def test_short_slices_before_a_long_one_make_an_error_of_5_ms_at_most(
    any_loop: Any, clock: Any, kernel: Kernel, lacked: Any
) -> None:
    """However many they are, and though their thread had next to no CPU."""

    async def main() -> list[float | None]:
        for _ in range(100):
            clock.advance(0.25)
            kernel.starve(0.24)
            await asyncio.sleep(0)
        clock.advance(40)
        await asyncio.sleep(0)
        return list(lacked())

    (charged,) = any_loop.run_until_complete(main())
    assert 0 <= charged <= 5


def test_what_a_thread_lacked_when_it_woke_up_is_no_excuse(
    any_loop: Any, clock: Any, kernel: Kernel, lacked: Any
) -> None:
    """The loop had nothing to do and got a CPU late, then a slice held it: the wait was before that."""

    async def main() -> list[float | None]:
        clock.advance(40)
        await asyncio.sleep(0)
        return list(lacked())

    any_loop.run_until_complete(asyncio.sleep(0))
    kernel.starve(15)
    clock.wait(15)
    assert any_loop.run_until_complete(main()) == [0]


def test_what_nobody_counts_is_not_known(any_loop: Any, clock: Any, kernel: Kernel, lacked: Any) -> None:
    """From the first reading that failed to the first that has one before it again."""

    async def main() -> list[float | None]:
        for count in (0, None, None, 5, 8):
            await asyncio.sleep(0)
            kernel.lacked = count
            clock.advance(30)
        await asyncio.sleep(0)
        return list(lacked())

    assert any_loop.run_until_complete(main()) == [0, None, None, None, 3]


def test_another_threads_count_is_no_difference_to_this_ones() -> None:
    """A loop may run in one thread now and in another later."""
    counts = iter([100, 5000, 5010, 90, 80])
    delay = RunDelay(lambda: next(counts))
    found: list[int | None] = []
    thread = threading.Thread(target=lambda: found.extend((delay.since_last(), delay.since_last())))
    thread.start()
    thread.join(DEADLINE)
    assert found == [None, 10]
    assert delay.since_last() is None
    assert delay.since_last() is None  # it can't have become less: not the same thread's


# By the kernel --------------------------------------------------------------------------------------------------------
def _counts() -> bool:
    try:
        return Path("/proc/thread-self/schedstat").read_text().split()[2] != "0"
    except OSError:
        return False


counted = pytest.mark.skipif(not _counts(), reason="this kernel does not count")
SPINNER = "import os\nos.sched_setaffinity(0, {int(os.environ['CPU'])})\nprint(flush=True)\nwhile True: pass"


@counted
def test_it_is_what_the_kernel_says_of_the_thread_that_asks() -> None:
    """Of whichever thread that is, and it leaves no descriptor behind."""
    found: list[tuple[int, int | None, int]] = []

    def ask() -> None:
        before = process.run_delay(os.getpid(), threading.get_native_id())
        found.append((before, own(), process.run_delay(os.getpid(), threading.get_native_id())))

    ask()
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(DEADLINE)
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):  # others come and go
            assert "schedstat" not in os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    assert len(found) == 2
    for before, asked, after in found:
        assert asked is not None
        assert before <= asked <= after


@counted
def test_a_thread_that_shares_its_cpu_lacks_it() -> None:
    """The readings of a thread that computes grow while another process computes on the one CPU that both may use."""
    cpus = os.sched_getaffinity(0)
    cpu = min(cpus)
    spinner = subprocess.Popen(
        [sys.executable, "-c", SPINNER], env={**os.environ, "CPU": str(cpu)}, stdout=subprocess.PIPE
    )
    try:
        assert spinner.stdout is not None
        spinner.stdout.readline()
        os.sched_setaffinity(0, {cpu})  # of this thread
        delay = RunDelay(own)
        lacked, deadline = 0, time.monotonic() + DEADLINE
        while lacked < 20 * MS and time.monotonic() < deadline:
            lacked += delay.since_last() or 0
        assert lacked >= 20 * MS
    finally:
        os.sched_setaffinity(0, cpus)
        spinner.kill()
        spinner.communicate()


ASKED = """
import sys, threading, time
from instrumentation.loop.run_delay import own
own()
held, ran = threading.Lock(), []
held.acquire()
thread = threading.Thread(target=lambda: ran.append(held.acquire()))
sys.setswitchinterval(1000)
thread.start()  # and it runs until it waits for the lock
held.release()  # from here on it wants the interpreter
until = time.monotonic() + 0.1
while time.monotonic() < until:
    own()
print(len(ran))
thread.join()
print(len(ran))
"""


def test_asking_gives_the_interpreter_to_nobody() -> None:
    """A thread that computes would keep it for 5 ms: a system call of Python's own makes the loop wait for that.

    In a process that has no third thread, whose wish for the interpreter would be heard as well.
    """
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout.split() == ["0", "1"]
