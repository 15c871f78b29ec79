"""Async generators: an activity around a stream, without leaking its span into whoever reads the stream.

A generator has no context of its own; each step runs in the context of the task that asks for it. So the span is made
current when a step begins and what was current before is put back when the step ends, and nothing is current across a
`yield`. That holds for a stream that is abandoned, or closed by another task.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar, Token
from typing import Any

from opentelemetry import context as otel
from opentelemetry.context import Context

from instrumentation.diagnostics import count, fault
from instrumentation.telemetry.recorder import Scope

from .methods import passed_over

_stepping: ContextVar[None] = ContextVar("tenantscope_stepping")
#: A context variable and the value that it holds while the inside of the stream runs.
Hold = tuple[ContextVar[Any], object]


class _Place:
    """The context in which the inside of the stream goes on, step after step."""

    __slots__ = ("_held_before", "_here", "_hold", "_inside", "_outside")

    def __init__(self, inside: Context | None, hold: Hold | None) -> None:
        self._inside = inside
        self._outside: Context | None = None
        self._hold = hold
        self._held_before: object = None
        self._here: Token[None] | None = None

    def __enter__(self) -> None:
        try:
            if self._hold is not None:
                self._held_before = self._hold[0].get()
                self._hold[0].set(self._hold[1])
            self._here = _stepping.set(None)
            self._outside = otel.get_current()
            if self._inside is not None:
                otel.attach(self._inside)
        except BaseException as error:
            fault("stream.enter", error)

    def __exit__(self, *_: object) -> None:
        try:
            here, self._here = self._here, None
            if here is None:
                return
            try:
                _stepping.reset(here)
            except ValueError:  # thrown away by the garbage collector, in somebody else's context
                return
            # What the inside has made current stays current for its next step, and for nobody else.
            self._inside = otel.get_current()
            if self._outside is not None:
                otel.attach(self._outside)
            if self._hold is not None:
                self._hold[0].set(self._held_before)
        except BaseException as error:
            fault("stream.exit", error)


def observed(
    stream: Any,
    begin: Callable[[], Scope | None] = lambda: None,
    note: Callable[[Scope, object], None] | None = None,
    end: Callable[[BaseException | None], None] | None = None,
    hold: Hold | None = None,
    see: Callable[[object], None] | None = None,
) -> Any:
    """`stream`, item for item and exception for exception, with an activity around it.

    Args:
        stream: what the observed function returned; anything but an async generator is returned as it is, and counted.
        begin: makes the scope of the activity, when the first item is asked for; None for no activity.
        note: is shown every item, with the activity's scope; must not raise.
        end: is told that the stream is over, before its activity ends, and what it failed with; must not raise.
        hold: a context variable that has a value while the inside runs, and not between the steps.
        see: is shown every item, also without an activity; must not raise.
    """
    try:
        known = isinstance(stream, AsyncGenerator)
    except Exception as error:  # a `__class__` that raises
        fault("stream.kind", error)
        return stream
    if not known:
        count("stream.foreign")
        return stream
    return _observed(stream, begin, note, end, hold, see)


@passed_over
async def _observed(
    stream: AsyncGenerator[Any, Any],
    begin: Callable[[], Scope | None],
    note: Callable[[Scope, object], None] | None,
    end: Callable[[BaseException | None], None] | None,
    hold: Hold | None,
    see: Callable[[object], None] | None,
) -> AsyncGenerator[Any, Any]:
    scope = begin()
    place = _Place(None if scope is None else scope.open(), hold)
    failed: BaseException | None = None
    step: Callable[[], Any] = functools.partial(_first_step, stream)
    try:
        while True:
            try:
                with place:
                    item = await step()
            except StopAsyncIteration:
                return
            if see is not None:
                see(item)
            if scope is not None and note is not None:
                note(scope, item)
            try:
                sent = yield item
            except GeneratorExit:
                with place:
                    await stream.aclose()
                raise
            except BaseException as thrown:
                step = _throwing(stream, thrown)
            else:
                step = stream.__anext__ if sent is None else _sending(stream, sent)
    except GeneratorExit:
        raise  # closed before its end by the reader: nothing failed
    except BaseException as error:
        failed = error
        raise
    finally:
        if end is not None:
            end(failed)
        if scope is not None:
            scope.close(None if failed is None else type(failed))
        del failed  # it holds this frame, which would hold it


def _first_step(stream: AsyncGenerator[Any, Any]) -> Any:
    """The event loop is not told of the inner generator: it would close it at its end beside ours, which does so too,
    and one of the two would fail."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return stream.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _sending(stream: AsyncGenerator[Any, Any], value: object) -> Callable[[], Any]:
    return lambda: stream.asend(value)


def _throwing(stream: AsyncGenerator[Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: stream.athrow(error)
