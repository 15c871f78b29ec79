"""The stack of a stall is there while the stall lasts, global lock held or not; or it is said why there is none."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.watchdog import Watchdog
from sidecar.watchdog.poll import Poll
from sidecar.watchdog.stream import Stream
from sidecar.wire import watchdog_pb2 as wire

DEADLINE = 60.0
#: By kind: the function that blocks, and the lines it can be in.
HOLDS = {
    "sleep": ("hold_by_sleep", {"while not release.exists():", "time.sleep(0.005)"}),
    "spin": ("hold_by_spin", {"while not release.exists():", "sum(range(10_000))"}),
    "held": ("hold_the_interpreter", {"while library.access(path, 0):", "library.usleep(5000)"}),
    "regex": ("hold_by_regex", {'re.match(r"(a+)+$", "a" * 50 + "!")'}),
    "power": ("hold_by_power", {"return 7**500_000_000"}),
}
SOURCE = Path(__file__).with_name("application.py").read_text().splitlines()

Start = Callable[..., subprocess.Popen[str]]


def begin(start: Start, watchdog: Watchdog, release: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start an application, and let it hold the interpreter when its loops are under watch."""
    application = start(*arguments)
    wait_until(lambda: len(watchdog.loops()) == (2 if "threads" in arguments else 1))
    release.with_suffix(".go").touch()
    return application


@pytest.mark.parametrize("loop", ["", "uvloop:"])
@pytest.mark.parametrize("kind", HOLDS)
def test_the_stack_is_there_while_it_is_blocked(
    kind: str, loop: str, start: Start, release: Path, watchdog: Watchdog, cells: Path
) -> None:
    """The function that blocks, in the line that blocks, callers first; and nothing runs in the application for it."""
    begin(start, watchdog, release, loop + kind)
    wait_until(lambda: watchdog.stalls() and watchdog.stalls()[0]["stack"])
    (stall,) = watchdog.stalls()
    assert stall["active"]
    assert stall["stack_unavailable"] is None
    assert "instrumentation/loop" not in "\n".join(stall["stack"])
    functions = [frame.split()[-1] for frame in stall["stack"]]
    blocking, lines = HOLDS[kind]
    assert functions.index("main") < functions.index(blocking)
    assert functions[0] == "<module>"
    assert line_of(stall, "main") == "HOLDS[kind](release)"
    assert line_of(stall, blocking) in lines
    assert not list(cells.glob("*.stacks"))  # nobody asked it to leave any


def line_of(stall: dict[str, Any], function: str) -> str:
    """The source of the line in which a function of the application is."""
    (place,) = [frame.split()[0] for frame in stall["stack"] if frame.split()[-1] == function]
    return SOURCE[int(place.rpartition(":")[2]) - 1].strip()


def test_an_application_goes_on_when_its_held_interpreter_was_read(
    start: Start, inbox: Any, release: Path, watchdog: Watchdog, cells: Path
) -> None:
    """What blocked returns what it would have returned, and the program ends in good order."""
    application = begin(start, watchdog, release, "held")
    wait_until(lambda: watchdog.stalls() and watchdog.stalls()[0]["stack"])
    assert inbox.next().labels["tenant_id"] == "hooli"
    release.touch()
    resolved = inbox.next()
    assert "hold_the_interpreter" in resolved.annotations["stack"]
    output, _ = application.communicate(timeout=DEADLINE)
    assert (output, application.returncode) == ("done\n", 0)
    assert list(cells.iterdir()) == []


def test_each_loop_of_a_process_has_the_stack_of_its_own_thread(
    start: Start, release: Path, watchdog: Watchdog
) -> None:
    """Two loops in two threads, both blocked."""
    begin(start, watchdog, release, "sleep", "threads")
    wait_until(lambda: sum(bool(stall["stack"]) for stall in watchdog.stalls()) == 2)
    stacks = {stall["tenant"]: "\n".join(stall["stack"]) for stall in watchdog.stalls()}
    assert "hold_by_sleep" in stacks["hooli"]
    assert "hold_elsewhere" not in stacks["hooli"]
    assert "hold_elsewhere" in stacks["umbrella"]
    assert "hold_by_sleep" not in stacks["umbrella"]


def test_a_forked_child_has_its_own_stack(start: Start, release: Path, watchdog: Watchdog) -> None:
    """It has its parent's thread state at the parent's address, in a memory of its own."""
    application = start("held", "fork")
    wait_until(lambda: any(loop["pid"] != application.pid for loop in watchdog.loops()))
    release.with_suffix(".go").touch()
    wait_until(lambda: watchdog.stalls() and watchdog.stalls()[0]["stack"])
    (stall,) = watchdog.stalls()
    assert stall["pid"] != application.pid
    assert "hold_the_interpreter" in "\n".join(stall["stack"])


# A memory that may not be read --------------------------------------------------------------------------------------
class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


SYS_PTRACE = 19


def set_tracing(allowed: bool) -> None:
    """Give this thread's CAP_SYS_PTRACE up, or take it back: root reads whatever it likes with it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, words = _Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(ctypes.byref(header), words) == 0
    if words[1] & 1 << SYS_PTRACE:  # permitted
        words[0] = words[0] | 1 << SYS_PTRACE if allowed else words[0] & ~(1 << SYS_PTRACE)
        assert libc.capset(ctypes.byref(header), words) == 0, os.strerror(ctypes.get_errno())


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Threads started meanwhile have no right that their user does not have: to be asked for before the watchdog."""
    set_tracing(False)
    yield
    set_tracing(True)


def test_of_a_closed_memory_with_the_interpreter_held_it_says_that_there_is_no_stack(
    unprivileged: None, start: Start, inbox: Any, release: Path, watchdog: Watchdog
) -> None:
    """And why, in the alert and in the status."""
    begin(start, watchdog, release, "held", "closed")
    firing = inbox.next()
    assert not release.exists()
    assert firing.labels["tenant_id"] == "hooli"
    assert firing.annotations["stack"].startswith("not available: ")
    wait_until(lambda: "may be held" in watchdog.stalls()[0]["stack_unavailable"])
    assert "does not let the sidecar read the process's memory" in watchdog.stalls()[0]["stack_unavailable"]


@pytest.mark.parametrize("kind", ["sleep", "spin"])
def test_of_a_closed_memory_the_process_leaves_its_stack(
    kind: str, unprivileged: None, start: Start, release: Path, watchdog: Watchdog, cells: Path
) -> None:
    """It is told that it cannot be read, and takes its stacks itself while its interpreter is free."""
    begin(start, watchdog, release, kind, "closed")
    wait_until(lambda: list(cells.glob("*.stacks")))
    wait_until(lambda: watchdog.stalls() and watchdog.stalls()[0]["stack"])
    assert watchdog.stalls()[0]["active"]
    assert HOLDS[kind][0] in "\n".join(watchdog.stalls()[0]["stack"])


def test_an_application_is_told_when_its_memory_can_be_read_again(
    unprivileged: None, start: Start, release: Path, cells: Path
) -> None:
    """Only what changes is said, at the next heartbeat."""
    application = start("idle", "closed")
    wait_until(lambda: list(cells.glob("*.cell")))
    (cell,) = cells.glob("*.cell")
    poll = Poll(100_000_000)
    stream = Stream(poll, lambda _: None, lambda _: None, lambda: None)
    announce = wire.Announce(loop_id=1, service_name="s", instance="i", pid=application.pid, cell_path=str(cell))
    beat = wire.Report(heartbeat=wire.Heartbeat()).SerializeToString()
    stream.take(wire.Report(announce=announce).SerializeToString())
    stream.take(beat)
    assert [told(stream), stream.outbox.empty()] == [100_000_000, True]
    release.with_suffix(".open").touch()
    wait_until(lambda: stream.take(beat) or not stream.outbox.empty())
    stream.take(beat)
    assert [told(stream), stream.outbox.empty()] == [0, True]
    stream.end()


def told(stream: Stream) -> int:
    message = stream.outbox.get_nowait()
    assert isinstance(message, bytes)
    return wire.Directive.FromString(message).leave_stacks.stall_ns


def wait_until(condition: Callable[[], object]) -> None:
    """Another process or thread has to come round to it; a deadline, no timing."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)
