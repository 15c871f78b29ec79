"""Applications in containers of their own: a folder that is shared, and none that is."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from instrumentation.loop import Loops
from sidecar.watchdog import Watchdog
from sidecar.watchdog.cell import RefusedError
from sidecar.watchdog.opening import open_cell
from sidecar.wire import process

APPLICATION = Path(__file__).with_name("application.py")
DEADLINE = 30.0
IN_A_NAMESPACE = ("unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")

Start = Callable[..., subprocess.Popen[str]]


def namespaces() -> bool:
    """Whether this machine lets us make a pid namespace."""
    try:
        return subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True, timeout=DEADLINE).returncode == 0
    except OSError:
        return False


needs_namespaces = pytest.mark.skipif(not namespaces(), reason="no pid namespaces here")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return tmp_path / "release"


@pytest.fixture
def start(server: str, release: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def run(cells: Path, kind: str, *container: str) -> subprocess.Popen[str]:
        command = [*container, sys.executable, str(APPLICATION), server, str(cells), str(release), kind]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    release.touch()
    for application in started:
        application.kill()
        application.wait(DEADLINE)
        if application.stdout is not None:
            application.stdout.close()


@needs_namespaces
@pytest.mark.parametrize("kind", ["sleep", "held"])
def test_a_shared_folder_is_enough_to_name_the_tenant(
    kind: str, start: Start, cells: Path, release: Path, inbox: Any, watchdog: Watchdog
) -> None:
    """Another pid namespace, where the application's pid is 1: named while it blocks, interpreter held included.

    Its memory cannot be found from here, so the stack is the one that it leaves, if its interpreter is free.
    """
    application = start(cells, kind, *IN_A_NAMESPACE)
    wait_until(lambda: watchdog.loops())
    release.with_suffix(".go").touch()
    firing = inbox.next()
    assert (firing.name, firing.labels["tenant_id"]) == ("EventLoopStalled", "hooli")
    assert not release.exists()
    (loop,) = watchdog.loops()
    assert (loop["mode"], loop["pid"]) == ("cell_alone", 1)
    assert any("pid namespace" in line for line in loop["cannot"])
    (stall,) = watchdog.stalls()
    if kind == "sleep":
        wait_until(lambda: watchdog.stalls()[0]["stack"])
        assert "hold_by_sleep" in "\n".join(watchdog.stalls()[0]["stack"])
    else:
        assert "its process is in another pid namespace" in stall["stack_unavailable"]
    release.touch()
    resolved = inbox.next()
    assert resolved.status == "resolved"
    output, _ = application.communicate(timeout=DEADLINE)
    assert (output, application.returncode) == ("done\n", 0)
    wait_until(lambda: watchdog.loops() == [])
    assert inbox.empty()  # not called dead: the pid that it had means somebody else here


@needs_namespaces
def test_the_death_of_a_process_that_cannot_be_looked_up_is_seen(
    start: Start, cells: Path, inbox: Any, watchdog: Watchdog
) -> None:
    """The kernel drops its lock on the cell; nothing is said while it lives."""
    application = start(cells, "idle", *IN_A_NAMESPACE)
    wait_until(lambda: watchdog.loops())
    (child,) = (
        int(pid) for pid in Path(f"/proc/{application.pid}/task/{application.pid}/children").read_text().split()
    )
    assert inbox.empty()
    os.kill(child, signal.SIGKILL)
    dead = inbox.next()
    assert (dead.name, dead.status) == ("EventLoopDead", "firing")
    wait_until(lambda: watchdog.loops() == [])


@needs_namespaces
def test_what_a_dead_container_left_is_no_cell(start: Start, cells: Path) -> None:
    """Without a lock there is no writer, whatever process has its pid here."""
    application = start(cells, "idle", *IN_A_NAMESPACE)
    wait_until(lambda: list(cells.glob("*.cell")))
    (path,) = cells.glob("*.cell")
    elsewhere = process.pid_namespace() + 1
    open_cell(str(path), 1, 1, namespace=elsewhere).close()
    with pytest.raises(RefusedError) as refused:  # of our own namespace it cannot be
        open_cell(str(path), 1, 1, namespace=process.pid_namespace())
    assert refused.value.reason == "process"
    application.kill()
    application.wait(DEADLINE)
    wait_until(lambda: refusal(path, elsewhere) == "process")


def refusal(path: Path, namespace: int) -> str:
    try:
        open_cell(str(path), 1, 1, namespace=namespace).close()
    except RefusedError as refused:
        return refused.reason
    return ""


def test_without_a_shared_folder_heartbeats_name_the_tenant(
    start: Start, release: Path, inbox: Any, watchdog: Watchdog, sample: Any
) -> None:
    """While it blocks, with its stack, for the interpreter is free; then the victims; and the page says which way."""
    application = start(Path("/proc/no-room-for-cells"), "sleep")
    firing = inbox.next()
    assert (firing.name, firing.labels["tenant_id"]) == ("EventLoopStalled", "hooli")
    assert not release.exists()
    wait_until(lambda: watchdog.stalls()[0]["stack"])
    assert "hold_by_sleep" in "\n".join(watchdog.stalls()[0]["stack"])
    (loop,) = watchdog.loops()
    assert loop["mode"] == "heartbeats"
    assert loop["running"]["tenant"] == "hooli"
    assert sample("tenantscope_cells_refused_total", reason="path") == 1
    release.touch()
    resolved = inbox.next()
    assert resolved.status == "resolved"
    assert {"acme", "globex", "initech"} <= set(resolved.annotations["victims"].split(", "))
    output, _ = application.communicate(timeout=DEADLINE)
    assert (output, application.returncode) == ("done\n", 0)
    wait_until(lambda: watchdog.loops() == [])  # it said that it closed its loop
    assert inbox.empty()
    assert sample("tenantscope_heartbeats_refused_total", reason="order") is None


def test_without_a_shared_folder_an_interpreter_that_is_held_is_silence(
    start: Start, release: Path, inbox: Any, watchdog: Watchdog
) -> None:
    """No thread of the process can tell anything: the alert says what that may mean, and accuses nobody."""
    application = start(Path("/proc/no-room-for-cells"), "held")
    wait_until(lambda: watchdog.loops())
    release.with_suffix(".go").touch()
    firing = inbox.next()
    assert (firing.name, firing.labels["tenant_id"]) == ("EventLoopSilent", "unknown")
    assert "an interpreter that is held" in firing.annotations["summary"]
    release.touch()
    # Told of when it could speak again: the slice had ended by then, so there is no stall to tell of.
    output, _ = application.communicate(timeout=DEADLINE)
    assert (output, application.returncode) == ("done\n", 0)
    wait_until(lambda: watchdog.loops() == [])


def test_a_loop_that_is_left_open_at_the_end_is_taken_leave_of(server: str, inbox: Any, watchdog: Watchdog) -> None:
    """`stop` says so for each loop before the stream ends; else the watchdog would miss it."""
    loops = Loops(Path("/proc/no-room-for-cells"), "service", "instance", server)
    loops.start()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    wait_until(lambda: watchdog.loops())
    loops.stop()
    wait_until(lambda: watchdog.loops() == [])
    loop.close()
    assert inbox.empty()


def wait_until(condition: Callable[[], object]) -> None:
    """Another thread has to come round to it; a deadline, no timing."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)
