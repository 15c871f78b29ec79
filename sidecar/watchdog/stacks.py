"""The stack of a stall: read from the process's memory; else what the process left; else why there is none.

The memory tells also while C code holds the interpreter, and nothing runs in the application for it. What the process
left (`left`) was taken by a thread of its own, so there is none of a held interpreter. Which it was, nobody needs to
know: a stack is lines, outermost first.

A read takes a millisecond. But the kernel may keep us waiting for as long as the process's memory is locked, by a page
that a dead file server holds back, for example. So a thread of its own asks; who waits for it waits with a bound.

What it refuses: to tell whether the slice that was meant still runs; who asked looks after that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.alerts import printable
from sidecar.wire import frames, stacks
from sidecar.wire.memory import ForbiddenError, Memory, TornError

from .left import left_stack

_ELSEWHERE: Final = "its process is in another pid namespace"
_NOT_OFFERED: Final = "the process does not offer its memory to be read"
_NOT_KNOWN: Final = "its version of Python is not known here"
_NO_FRAMES: Final = "the thread runs no Python code"
_NOT_LEFT: Final = "no thread of the process took its stack, for the interpreter may be held"


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose stack is wanted.

    Attributes:
        process: pid and start time of its process; None where that cannot be looked up from here.
        thread: the loop's.
        left: path of the process's stacks file, which need not exist.
        since: one taken later than this, in nanoseconds of `CLOCK_MONOTONIC`.
    """

    process: tuple[int, int] | None
    thread: frames.Thread
    left: Path
    since: int


@dataclass(frozen=True, slots=True)
class Found:
    """The answer: lines, outermost first, and the moment since which they held; or why there are none."""

    lines: tuple[str, ...] = ()
    at: int = 0
    why_not: str = ""


Answer = Callable[[Found], None]


def ask(asked: Asked, answer: Answer) -> None:
    """Have it found by another thread, which calls `answer`, once."""
    try:
        threading.Thread(target=_answered, args=(asked, answer), name="stack-reader", daemon=True).start()
    except RuntimeError:  # no more threads
        answer(Found(why_not="the sidecar has no thread to read it with"))


def _answered(asked: Asked, answer: Answer) -> None:
    try:
        found = find(asked)
    except Exception as error:  # noqa: BLE001  # who asked waits for an answer
        found = Found(why_not=f"reading it failed: {type(error).__name__}")
    answer(found)


def find(asked: Asked) -> Found:
    """The stack, from wherever it is to be had."""
    began = time.monotonic_ns()
    try:
        lines = _read(asked)
        if lines:
            return Found(lines, began)
        why = _NO_FRAMES
    except (ForbiddenError, TornError) as error:
        why = str(error)
    taken, left = left_stack(asked.left, asked.since, asked.thread.ident)
    return Found(shown_stack(left), taken) if left else Found(why_not=f"{why}; {_NOT_LEFT}")


def unreadable(asked: Asked) -> str:
    """Why stacks cannot be read from the memory of that process; empty when they can, as far as is known untried."""
    try:
        with _memory(asked.process, asked.thread.python):
            return ""
    except ForbiddenError as error:
        return str(error)


def _read(asked: Asked) -> tuple[str, ...]:
    with _memory(asked.process, asked.thread.python) as memory:
        found = frames.stack(memory.read, asked.thread)
    return shown_stack(frame for frame in found if not stacks.ours(frame[0]))


def _memory(process: tuple[int, int] | None, python: int) -> Memory:
    if process is None:
        raise ForbiddenError(_ELSEWHERE)
    if not python:
        raise ForbiddenError(_NOT_OFFERED)
    if python not in frames.LAYOUTS:
        raise ForbiddenError(_NOT_KNOWN)
    return Memory(*process)


def shown_stack(found: Iterable[frames.Frame]) -> tuple[str, ...]:
    """Frames, innermost first, as lines for people, outermost first."""
    return tuple(f"{printable(file)}:{line} {printable(function)}" for file, line, function in found)[::-1]
