"""Run as a process of its own, by any version of Python: are stacks read as Python itself tells them?

Threads wait in frames of many shapes, and are read through this process's memory; then every line table of some large
modules is looked up at every instruction. Prints each difference, and last how much was compared. Not a test, and
imports nothing but the standard library and `sidecar.wire`.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import functools
import inspect
import os
import re
import sys
import threading
import time
import types
import typing
import unittest.mock
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sidecar.wire import frames, process
from sidecar.wire.linetable import line_at
from sidecar.wire.memory import Memory

PYTHON = sys.hexversion >> 16
_state: Any = ctypes.PyDLL(None).PyThreadState_Get
_state.restype, _state.argtypes = ctypes.c_void_p, ()


class Waiting:
    """A thread that waits at the bottom of a shape."""

    def __init__(self, shape: Callable[[Callable[[], int]], object]) -> None:
        self.state = 0
        self.gate = threading.Lock()
        self.gate.acquire()
        self.there = threading.Event()
        self.thread = threading.Thread(target=lambda: shape(self.wait))
        self.thread.start()
        assert self.there.wait(20)

    def wait(self) -> int:
        self.state = _state()
        self.there.set()
        return int(self.gate.acquire())

    def true_stack(self) -> list[tuple[Any, ...]]:
        frame = sys._current_frames().get(self.thread.ident or 0)
        found = []
        while frame is not None and len(found) < frames.MAX_FRAMES:
            code = frame.f_code
            found.append(
                (code.co_filename[-frames.MAX_TEXT :], frame.f_lineno or 0, code.co_qualname[-frames.MAX_TEXT :])
            )
            frame = frame.f_back
        return found

    def both(self) -> tuple[object, object]:
        """What is read, and what is true, when the thread stands still."""
        whose = frames.Thread(PYTHON, self.state, self.thread.ident or 0, self.thread.native_id or 0)
        with Memory(os.getpid(), process.own_start()) as memory:
            while True:
                before = self.true_stack()
                read = frames.stack(memory.read, whose)
                if self.true_stack() == before and before[0][2] == "Waiting.wait" and "acquire" in line(before[0]):
                    return read, before
                time.sleep(0)

    def end(self) -> None:
        self.gate.release()
        self.thread.join()


def line(frame: tuple[Any, ...]) -> str:
    return str(Path(frame[0]).read_text("utf-8").splitlines()[frame[1] - 1])


# Shapes -------------------------------------------------------------------------------------------------------------
def over_lines(wait: Callable[[], int]) -> object:
    return max(
        1,
        [
            2,
            wait(),
        ][1],
        3,
    )


def backwards(wait: Callable[[], int]) -> object:
    return (
        lambda *_: 0,
    )[0](
        1,
        wait(

        ),
    )  # fmt: skip


def comprehensions(wait: Callable[[], int]) -> object:
    return {key: [wait() for _ in range(1)] for key in {*(one for one in (1,))}}


def generators(wait: Callable[[], int]) -> object:
    def inner() -> Iterator[int]:
        yield 1
        yield (
            wait()
        )  # fmt: skip

    def outer() -> Iterator[int]:
        yield from inner()

    return [*outer()]


def coroutines(wait: Callable[[], int]) -> object:
    async def inner() -> int:
        async with asyncio.Lock():
            return wait()

    async def listing() -> typing.AsyncIterator[int]:
        for _ in range(1):
            yield await inner()

    async def outer() -> list[int]:
        async with asyncio.timeout(None):
            return [one async for one in listing()]

    return asyncio.run(outer())


def through_c(wait: Callable[[], int]) -> object:
    class Key:
        def __lt__(self, other: object) -> bool:
            return bool(wait())

        def __getattr__(self, name: str) -> object:
            return sorted([Key(), Key()])

    return [*map(functools.partial(getattr, Key()), ["missing"])]


def callbacks(wait: Callable[[], int]) -> object:
    return re.sub(
        "a",
        lambda match: str(wait()),
        "a",
    )


def in_exception_and_with(wait: Callable[[], int]) -> object:
    try:
        with threading.Lock():
            raise KeyError
    except KeyError as error:
        try:
            raise ValueError from error
        except ValueError:
            return wait()
    finally:
        pass


def deep(wait: Callable[[], int], depth: int = 300) -> object:
    return deep(wait, depth - 1) if depth else wait()


def of_class_body(wait: Callable[[], int]) -> object:
    class Body:
        attribute = wait()

    return Body


def of_descriptor(wait: Callable[[], int]) -> object:
    class With:
        def __init__(self) -> None:
            self.value = self.read

        @property
        def read(self) -> int:
            return wait()

    return With()


def named(file: str, function: str) -> Callable[[Callable[[], int]], object]:
    """Code that was never in a file, under any name."""

    def shape(wait: Callable[[], int]) -> object:
        code = compile("\n" * 40 + "def f(wait):\n" + "  0\n" * 300 + "  return wait()", "x", "exec")
        inner = next(each for each in code.co_consts if isinstance(each, types.CodeType))
        inner = inner.replace(co_filename=file, co_qualname=function)
        return types.FunctionType(inner, {})(wait)

    return shape


SHAPES: dict[str, Callable[[Callable[[], int]], object]] = {
    each.__name__: each
    for each in (
        over_lines, backwards, comprehensions, generators, coroutines, through_c, callbacks, in_exception_and_with,
        deep, of_class_body, of_descriptor,
    )
} | {
    "ascii": named("<string>", "f"),
    "empty": named("", ""),
    "latin": named("/tmp/süß.py", "größe"),
    "wide": named("/tmp/файл.py", "имя"),
    "widest": named("/tmp/\U0001f40d.py", "\U0001d4ef"),
    "surrogate": named("/tmp/\udcff.py", "\ufefff"),
    "long": named("/deep" * 500 + "/ä.py", "q" * 5000),
}  # fmt: skip


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def main() -> None:
    """Compare everything."""
    for name, shape in SHAPES.items():
        waiting = Waiting(shape)
        read, true = waiting.both()
        waiting.end()
        if read != true:
            print(f"{name}: {read!r} is not {true!r}")
    instructions = 0
    for module in (argparse, asyncio.base_events, inspect, re, threading, typing, unittest.mock, sys.modules[__name__]):
        compiled = compile(Path(str(module.__file__)).read_text("utf-8"), "module.py", "exec", dont_inherit=True)
        for code in codes(compiled):
            for start, end, true_line in code.co_lines():
                for offset in range(start, end, 2):
                    instructions += 1
                    found = line_at(code.co_linetable, code.co_firstlineno, offset)
                    if found != (true_line or 0):
                        print(f"{module.__name__} {code.co_qualname} {offset}: {found} is not {true_line}")
    print(f"{len(SHAPES)} shapes, {'many' if instructions > 50_000 else 'few'} instructions")


if __name__ == "__main__":
    main()
