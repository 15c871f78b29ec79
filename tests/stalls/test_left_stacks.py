"""A stack that a process left is shown only for the slice it is of, and nothing else of its file ever is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instrumentation.loop.stacks import StacksFile
from sidecar.watchdog.left import left_stack
from sidecar.watchdog.stacks import shown_stack
from sidecar.wire import stacks as layout

IDENT = 0xABC
BEGAN = 10**12
TEXT = (
    b"Thread 0x0000000000000def (most recent call first):\n"
    b'  File "other.py", line 1 in other\n'
    b"\n"
    b"Thread 0x0000000000000abc (most recent call first):\n"
    b'  File "in ner.py", line 3 in Class.inner\n'
    b'  File "/x/instrumentation/loop/slices.py", line 2 in _run\n'
    b'  File "outer.py", line 1 in outer\n'
    b"\n"
    b"Thread 0x0000000000abcabc (most recent call first):\n"
    b'  File "third.py", line 1 in third\n'
)
LINES = ["outer.py:1 outer", "in ner.py:3 Class.inner"]

Left = Callable[..., list[str]]


@pytest.fixture
def file(cells: Path) -> StacksFile:
    return StacksFile.create(cells)


@pytest.fixture
def left(cells: Path) -> Left:
    def read(began: int = BEGAN) -> list[str]:
        (path,) = cells.glob("*.stacks")
        return list(shown_stack(left_stack(path, began, IDENT)[1]))

    return read


def test_a_stack_of_this_slice_is_shown(file: StacksFile, left: Left) -> None:
    """Outermost first, the loop's own thread, without the frames of the accounting."""
    file.publish(BEGAN + 10_000, TEXT)
    assert left() == LINES
    file.close()


@pytest.mark.parametrize("late", [-1, 0, 4095])
def test_a_stack_that_may_be_of_an_earlier_slice_is_not(late: int, file: StacksFile, left: Left) -> None:
    """One that was taken before the slice began, to what is known of that."""
    file.publish(BEGAN + late, TEXT)
    assert left() == []
    assert left(BEGAN - 10_000) == LINES
    file.close()


@pytest.mark.parametrize("line", [b"secret = 'value'", b'  File "a.py", line x in f', b'    File "a.py", line 1 in f'])
def test_a_line_that_is_no_frame_ends_the_stack(line: bytes, file: StacksFile, left: Left) -> None:
    """Source text, values: whatever does not belong there is not shown, nor is what follows."""
    file.publish(BEGAN + 10_000, TEXT.replace(b'  File "outer', line + b'\n  File "outer'))
    assert left() == LINES[1:]
    file.close()


def test_another_users_or_a_redirected_file_is_not_read(file: StacksFile, left: Left, cells: Path) -> None:
    """Open to others, a link, a FIFO, cut off, gone: no stack, and no failure."""
    file.publish(BEGAN + 10_000, TEXT)
    (path,) = cells.glob("*.stacks")
    path.chmod(0o640)
    assert left() == []
    path.chmod(0o600)
    assert left() == LINES
    copy = path.rename(cells / "elsewhere")
    path.symlink_to(copy)
    assert left() == []
    path.unlink()
    os.mkfifo(path, 0o600)
    assert left() == []
    path.unlink()
    path.write_bytes(copy.read_bytes()[:20])
    path.chmod(0o600)
    assert left() == []
    path.unlink()
    assert left_stack(path, BEGAN, IDENT) == (0, [])
    file.close()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.integers(0, 2**64 - 1), min_size=8, max_size=8), text=st.binary(max_size=2000))
def test_any_file_is_survived(words: list[int], text: bytes, cells: Path) -> None:
    """Whatever it holds, what is shown is bounded and printable."""
    path = cells / "hostile.stacks"
    body = TEXT.replace(b"inner", text)
    path.write_bytes(b"".join(word.to_bytes(8, "little") for word in words) + body.ljust(layout.SIZE))
    path.chmod(0o600)
    lines = shown_stack(left_stack(path, 0, IDENT)[1])
    assert len(lines) <= layout.MAX_FRAMES
    assert all(line.isprintable() and len(line) < 1100 for line in lines)
