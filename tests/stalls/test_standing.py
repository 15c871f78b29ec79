"""What the system says of real processes: running, stopped, traced, gone, and never another one with the same pid."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sidecar.watchdog.freezer import ROOT, frozen
from sidecar.watchdog.standing import Proc, Standing
from sidecar.watchdog.tasks import GONE, Tasks
from sidecar.wire import process

DEADLINE = 30.0
SEIZE = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
print(libc.ptrace(0x4206, int(sys.argv[1]), None, None), flush=True)  # PTRACE_SEIZE: it runs on
input()
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.communicate(timeout=DEADLINE)


def start_of(pid: int) -> int:
    found = process.stat(pid)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("known", [False, True], ids=["by its pid", "by its thread"])
def test_running_stopped_gone(child: subprocess.Popen[bytes], known: bool) -> None:
    """As the system says; a process that nobody has waited for yet is gone, too."""
    proc, start = Proc(), start_of(child.pid)
    thread = child.pid if known else 0

    def standing() -> Standing:
        return proc.standing(child.pid, start, thread)

    assert standing() is Standing.RUNS
    assert proc.standing(child.pid, start + 1, thread) is Standing.GONE
    assert standing() is Standing.RUNS
    os.kill(child.pid, signal.SIGSTOP)
    wait_until(lambda: standing() is Standing.HELD)
    os.kill(child.pid, signal.SIGCONT)
    wait_until(lambda: standing() is Standing.RUNS)
    child.kill()
    wait_until(lambda: standing() is Standing.GONE)
    child.wait(DEADLINE)
    assert standing() is Standing.GONE
    assert not proc.traced(child.pid)
    assert proc.run_delay(child.pid, child.pid) == 0


def test_a_loops_thread_may_end_before_its_process() -> None:
    """That is no death; nor is a thread of another process taken for one of its own."""
    proc = Proc()
    ours, start = os.getpid(), start_of(os.getpid())
    gone: list[int] = []
    thread = threading.Thread(target=lambda: gone.append(threading.get_native_id()))
    thread.start()
    thread.join()
    assert proc.standing(ours, start, gone[0]) is Standing.RUNS
    assert proc.standing(ours, start, 1) is Standing.RUNS


def test_a_debugger_that_lets_it_run_is_seen_and_is_no_stop(child: subprocess.Popen[bytes]) -> None:
    """What a tracer does may take any time, so nothing is overdue; but the process stands still only when it does."""
    proc, start = Proc(), start_of(child.pid)
    assert not proc.traced(child.pid)
    tracer = subprocess.Popen(
        [sys.executable, "-c", SEIZE, str(child.pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert tracer.stdout is not None
    try:
        if tracer.stdout.readline() != "0\n":
            pytest.skip("no process may be traced here")
        assert proc.traced(child.pid)
        assert proc.standing(child.pid, start) is Standing.RUNS
    finally:
        tracer.communicate("\n", timeout=DEADLINE)
    wait_until(lambda: not proc.traced(child.pid))


def test_a_frozen_process_is_told_by_its_control_group(child: subprocess.Popen[bytes]) -> None:
    """Its state says that it sleeps. Where no control group may be made there is nothing to look at."""
    versions = [(ROOT / "freezer", "freezer.state", "FROZEN", "THAWED"), (ROOT, "cgroup.freeze", "1", "0")]
    made = []
    for root, name, ice, water in versions:
        group = root / f"tenantscope-test-{os.getpid()}"
        with suppress(OSError):
            group.mkdir()
            made.append((group, group / name, ice, water))
            (group / "cgroup.procs").write_text(str(child.pid))
            if (group / name).exists():
                break
    else:
        for group, *_ in made:
            group.rmdir()
        pytest.skip("no control group with a freezer may be made here")
    group, switch, ice, water = made[-1]
    try:
        assert not frozen(child.pid)
        switch.write_text(ice)
        wait_until(lambda: frozen(child.pid))
        assert Proc().standing(child.pid, start_of(child.pid)) is Standing.RUNS
        switch.write_text(water)
        wait_until(lambda: not frozen(child.pid))
    finally:
        switch.write_text(water)
        child.kill()
        child.wait(DEADLINE)
        for each, *_ in made:
            each.rmdir()
    assert not frozen(child.pid)


def test_what_is_kept_open_of_a_thread_is_never_the_next_ones(child: subprocess.Popen[bytes]) -> None:
    """Who gets the numbers of one that ended is looked up anew, and told apart by when its process began."""
    tasks, start = Tasks(), start_of(child.pid)
    assert tasks.state(child.pid, start, child.pid) in "RSD"
    assert tasks.state(child.pid, start + 1, child.pid) == GONE
    assert tasks.state(child.pid, start, child.pid) in "RSD"
    assert tasks.run_delay(child.pid, child.pid) >= 0
    child.communicate(b"\n", timeout=DEADLINE)
    assert tasks.state(child.pid, start, child.pid) == GONE
    assert tasks.run_delay(child.pid, child.pid) == 0


def test_no_more_files_are_kept_open_than_there_is_room_for() -> None:
    """Descriptors are for cells and streams; what gives way to another thread is opened again when it is asked for."""
    gate = threading.Event()
    threads = [threading.Thread(target=gate.wait) for _ in range(6)]
    tasks = Tasks(most=3)
    gc.collect()  # of other tests' watchdogs
    before = open_tasks()
    ours, start = os.getpid(), start_of(os.getpid())
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            for thread in threads:
                assert tasks.state(ours, start, thread.native_id or 0) in "RSD"
        assert open_tasks() == before + 6
    finally:
        gate.set()
        for thread in threads:
            thread.join()
    for thread in threads:
        wait_until(lambda thread=thread: tasks.state(ours, start, thread.native_id or 0) == GONE)  # type: ignore[misc]
    assert open_tasks() == before


def open_tasks() -> int:
    """How many files of threads of its own this process has open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the listing itself
            links.append(str(descriptor.readlink()))
    return sum(link.startswith(f"/proc/{os.getpid()}/task/") for link in links)


def wait_until(condition: Callable[[], object]) -> None:
    """Another process has to come round to it; a deadline, no timing."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)
