"""Stacks are read from the memory of another process: what comes out is true, or nothing does."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.watchdog.stacks import Asked, find, unreadable
from sidecar.wire import frames, process
from sidecar.wire.linetable import line_at
from sidecar.wire.memory import ForbiddenError, Memory, TornError

ROOT = Path(__file__).parents[2]
SHAPES = Path(__file__).with_name("shapes.py")
DEADLINE = 60.0
PYTHON = sys.hexversion >> 16


# Truth --------------------------------------------------------------------------------------------------------------
def interpreter(minor: int) -> str | None:
    """A Python 3.`minor` of this machine."""
    name = f"python3.{minor}"
    candidates = [sys.executable, shutil.which(name)]
    candidates += map(str, Path(os.environ.get("PYENV_ROOT", "/nowhere")).glob(f"versions/3.{minor}.*/bin/{name}"))
    for candidate in filter(None, candidates):
        asked = [candidate, "-c", "import sys; print(sys.version_info[:2])"]
        if subprocess.run(asked, capture_output=True, text=True, timeout=DEADLINE).stdout == f"(3, {minor})\n":
            return candidate
    return None


@pytest.mark.parametrize("python", frames.LAYOUTS)
def test_what_is_read_is_what_python_says(python: int) -> None:
    """File, line and function, in frames of every shape, by every version of Python whose layout is known."""
    executable = interpreter(python & 0xFF)
    if executable is None:
        pytest.skip(f"no Python 3.{python & 0xFF} here")
    told = subprocess.run(
        [executable, str(SHAPES)], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100
    )
    assert (told.stdout, told.stderr) == ("18 shapes, many instructions\n", "")


class Waiting:
    """A thread of this process that waits, in a function that calls itself a few times."""

    def __init__(self) -> None:
        self._gate = threading.Lock()
        self._gate.acquire()
        self._there = threading.Event()
        self.state = 0
        self.thread = threading.Thread(target=self.deeper, args=(5,))
        self.thread.start()
        assert self._there.wait(DEADLINE)

    def deeper(self, depth: int) -> None:
        if depth:
            self.deeper(depth - 1)
        else:
            self.state = thread_state()
            self._there.set()
            self._gate.acquire()

    def whose(self) -> frames.Thread:
        return frames.Thread(PYTHON, self.state, self.thread.ident or 0, self.thread.native_id or 0)

    def end(self) -> None:
        if self._gate.locked():
            self._gate.release()
        self.thread.join()


def thread_state() -> int:
    get = ctypes.PyDLL(None).PyThreadState_Get
    get.restype, get.argtypes = ctypes.c_void_p, ()
    return int(get())


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    waiting = Waiting()
    yield waiting
    waiting.end()


@pytest.fixture
def memory() -> Iterator[Memory]:
    with Memory(os.getpid(), process.own_start()) as memory:
        yield memory


def test_a_thread_that_never_stands_still_is_not_misread(memory: Memory) -> None:
    """A thread that calls and returns all the time is read as frames of its own; those that stand are in their place.

    The others may be of different moments: two looks can find the same remains of a call that is over.
    """
    stop = threading.Event()
    state: list[int] = []

    def even(depth: int) -> None:
        if depth:
            odd(depth - 1)

    def odd(depth: int) -> None:
        if depth:
            even(depth - 1)

    def busy() -> None:
        state.append(thread_state())
        while not stop.is_set():
            even(7)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        while not state:
            pass
        whose = frames.Thread(PYTHON, state[0], thread.ident or 0, thread.native_id or 0)
        seen: set[str] = set()
        for _ in range(20):
            try:
                stack = [function.split(".")[-1] for _, _, function in frames.stack(memory.read, whose)]
            except TornError:
                continue
            assert stack[-3:] == ["run", "_bootstrap_inner", "_bootstrap"]
            inner = stack[:-3]
            assert set(inner) <= {"busy", "even", "odd", "is_set"}, stack
            assert "busy" not in inner[:-1], stack
            seen.update(stack)
        assert "busy" in seen
    finally:
        stop.set()
        thread.join()


def read_or_nothing(memory: Memory, whose: frames.Thread) -> list[frames.Frame]:
    try:
        return frames.stack(memory.read, whose)
    except TornError:
        return []


# What is not this thread ---------------------------------------------------------------------------------------------
def test_a_thread_that_ended_is_not_read(memory: Memory) -> None:
    """Nor another one that has its state's place now."""
    ended = []
    for _ in range(20):
        waiting = Waiting()
        ended.append(waiting.whose())
        assert frames.stack(memory.read, ended[-1])
        waiting.end()
    later = [Waiting() for _ in range(20)]
    try:
        for whose in ended:
            if whose not in [each.whose() for each in later]:  # the system may give out an id again
                assert read_or_nothing(memory, whose) == []
    finally:
        for each in later:
            each.end()


@pytest.mark.parametrize("field", ["python", "state", "ident", "native_id"])
@pytest.mark.parametrize("wrong", [0, 1, 2**47 - 8, 2**63, 2**64 - 1])
def test_a_wrong_announcement_reads_nothing(field: str, wrong: int, waiting: Waiting, memory: Memory) -> None:
    """Whatever a cell says of its thread."""
    whose = waiting.whose()
    values = {name: getattr(whose, name) for name in ("python", "state", "ident", "native_id")}
    with pytest.raises(TornError):
        frames.stack(memory.read, frames.Thread(**{**values, field: wrong}))


def test_a_layout_of_another_version_reads_nothing(waiting: Waiting, memory: Memory) -> None:
    """No garbage: a stack, or none."""
    whose = waiting.whose()
    for python in frames.LAYOUTS:
        if python != PYTHON:
            theirs = frames.Thread(python, whose.state, whose.ident, whose.native_id)
            assert read_or_nothing(memory, theirs) == []


# Any memory -----------------------------------------------------------------------------------------------------------
class Recorded:
    """Everything that reading one stack reads, to be spoilt."""

    def __init__(self) -> None:
        waiting = Waiting()
        self.whose = waiting.whose()
        self.pieces: dict[tuple[int, int], bytes] = {}
        with Memory(os.getpid(), process.own_start()) as memory:

            def read(address: int, length: int) -> bytes:
                self.pieces[address, length] = memory.read(address, length)
                return self.pieces[address, length]

            self.stack = frames.stack(read, self.whose)
        waiting.end()


RECORDED = Recorded()
#: Reads of a stack of 64 frames, twice, with code, names and types, in each of the attempts.
MOST_READS = 4 * 64 * 30


def survives(read: Callable[[int, int], bytes]) -> list[frames.Frame]:
    """The stack, empty for none. Never anything but frames, nothing without a bound."""
    reads = 0

    def counted(address: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        assert reads <= MOST_READS
        assert 0 < length <= 1 << 16
        return read(address, length)

    try:
        stack = frames.stack(counted, RECORDED.whose)
    except TornError:
        return []
    assert len(stack) <= frames.MAX_FRAMES
    for file, line, function in stack:
        assert len(file) <= frames.MAX_TEXT >= len(function)
        assert line >= 0
    return stack


def test_the_recorded_memory_reads_as_the_real_one() -> None:
    """What all tests below spoil is right to begin with."""
    assert len(RECORDED.stack) >= 6
    assert survives(lambda address, length: RECORDED.pieces[address, length]) == RECORDED.stack


@settings(max_examples=400, deadline=None)
@given(
    spoilt=st.dictionaries(
        st.tuples(st.integers(0, len(RECORDED.pieces) - 1), st.integers(0, 80)),
        st.one_of(
            st.integers(0, 255),
            st.sampled_from(sorted({address for address, _ in RECORDED.pieces})),
            st.integers(0, 2**64 - 1),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_memory_that_is_spoilt_anywhere_is_survived(spoilt: dict[tuple[int, int], int]) -> None:
    """Bytes and pointers replaced, by each other, by anything; an address that was not read before has nothing."""
    pieces = {key: bytearray(raw) for key, raw in RECORDED.pieces.items()}
    keys = list(pieces)
    for (number, offset), value in spoilt.items():
        raw = pieces[keys[number]]
        change = bytes([value]) if value < 256 else value.to_bytes(8, sys.byteorder)
        at = offset % len(raw) // len(change) * len(change)
        if at + len(change) <= len(raw):
            raw[at : at + len(change)] = change

    def read(address: int, length: int) -> bytes:
        if (address, length) not in pieces:
            raise TornError("nothing is there")
        return bytes(pieces[address, length])

    survives(read)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), zeros=st.booleans())
def test_memory_of_noise_is_survived(seed: int, zeros: bool) -> None:
    """Every address has something, and none of it makes sense; but for who the thread is."""
    noise = random.Random(seed)

    def read(address: int, length: int) -> bytes:
        raw = (RECORDED.pieces.get((address, length)) if address == RECORDED.whose.state else None) or b""
        return raw or (bytes(length) if zeros else noise.randbytes(length))

    assert survives(read) == []


def test_frames_in_a_circle_end() -> None:
    """A caller that is its own callee's callee: as many frames as are shown, and no more."""
    layout = frames.LAYOUTS[PYTHON]
    pieces = {key: bytearray(raw) for key, raw in RECORDED.pieces.items()}
    bodies = [key for key in pieces if key[1] == 72]
    for address, length in bodies:
        pieces[address, length][layout.previous : layout.previous + 8] = address.to_bytes(8, sys.byteorder)
    stack = survives(lambda address, length: bytes(pieces[address, length]))
    assert stack == [RECORDED.stack[0]] * frames.MAX_FRAMES


@settings(max_examples=300, deadline=None)
@given(table=st.binary(max_size=300), first=st.integers(-(2**31), 2**31 - 1), offset=st.integers(-2, 4000))
@example(table=b"\xf0" + b"\x7f" * 200, first=1, offset=0)
def test_any_line_table_gives_a_line_or_none(table: bytes, first: int, offset: int) -> None:
    """Cut off, without end, no table at all."""
    assert offset < 0 or line_at(table, first, offset) >= 0


# Another process ------------------------------------------------------------------------------------------------------
CHILD = "import sys\nprint(1, flush=True)\nsys.stdin.readline()\nimport os\nos.execvp('sleep', ['sleep', '600'])"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def asked(whose: tuple[int, int] | None, python: int = PYTHON) -> Asked:
    return Asked(whose, frames.Thread(python, 1, 2, 3), Path("/nowhere"), 0)


def started(child: subprocess.Popen[str]) -> int:
    found = process.stat(child.pid)
    assert found is not None
    return found[1]


def mapped(pid: int) -> int:
    """An address that is mapped."""
    return int(Path(f"/proc/{pid}/maps").read_text().split("-")[0], 16)


def test_a_process_that_ends_while_it_is_read_reads_as_nothing(child: subprocess.Popen[str]) -> None:
    """And afterwards there is none to be read, nor a later one with its pid."""
    start, address = started(child), mapped(child.pid)
    with Memory(child.pid, start) as memory:
        assert memory.read(address, 8)
        child.kill()
        child.wait(DEADLINE)
        with pytest.raises(TornError):
            memory.read(address, 8)
    with pytest.raises(ForbiddenError):
        Memory(child.pid, start)
    with pytest.raises(ForbiddenError):
        Memory(os.getpid(), start)
    assert "No such" in unreadable(asked((child.pid, start)))
    assert "No such" in find(asked((child.pid, start))).why_not


def test_a_program_that_becomes_another_reads_as_nothing(child: subprocess.Popen[str]) -> None:
    """It keeps its pid and its start, but not its memory."""
    address, program = mapped(child.pid), Path(f"/proc/{child.pid}/exe")
    with Memory(child.pid, started(child)) as memory:
        assert memory.read(address, 8)
        before = program.readlink()
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
        while program.readlink() == before:
            assert child.poll() is None
        with pytest.raises(TornError):
            memory.read(address, 8)


@pytest.mark.parametrize("address", [-1, 0, 1, 2**47 - 1, 2**56, 2**63 - 1, 2**63, 2**64 - 1, 2**70])
def test_any_address_may_be_asked_for(address: int, memory: Memory) -> None:
    """Unmapped, the kernel's, no address at all."""
    with pytest.raises(TornError):
        memory.read(address, 8)


def test_what_cannot_be_read_is_known_with_its_reason() -> None:
    """A process that offers nothing, or a version that is not known, or that is not to be found from here."""
    here = os.getpid(), process.own_start()
    assert unreadable(asked(here)) == ""
    assert "not offer" in unreadable(asked(here, 0))
    assert "version" in unreadable(asked(here, 0x0401))
    assert "gone" in unreadable(asked((os.getpid(), process.own_start() + 1)))
    assert "namespace" in unreadable(asked(None))
    assert "namespace" in find(asked(None)).why_not
