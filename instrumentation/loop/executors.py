"""Carries the tenant along when a loop hands a call to an executor: AutoGen runs synchronous tools that way.

`asyncio.to_thread` takes the whole context along, `loop.run_in_executor` takes nothing. Here the tenant alone goes
along, so that what the call logs, sends or spawns is its tenant's; other context variables stay as they are without us.

What it refuses: to be pickled. A process pool gets the plain call, as without us, and no tenant.
"""

from __future__ import annotations

import functools
import inspect
from asyncio import iscoroutine
from collections.abc import Callable
from typing import Any

from instrumentation import tenancy


def run_in_executor(original: Callable[..., Any]) -> Callable[..., Any]:
    """A loop's `run_in_executor` whose call belongs to the tenant of whoever hands it over."""

    @functools.wraps(original)
    def run_in_executor(self: Any, executor: Any, func: Any, *args: Any) -> Any:
        binding = tenancy.BOUND.get()
        # What a loop refuses, it is to see as it is.
        if binding is not None and callable(func) and not iscoroutine(func) and not inspect.iscoroutinefunction(func):
            func = _Carried(binding, func)
        return original(self, executor, func, *args)

    return run_in_executor


class _Carried:
    """A call, and the tenant that it belongs to."""

    __slots__ = ("_binding", "_call")

    def __init__(self, binding: tenancy.Binding, call: Callable[..., Any]) -> None:
        self._binding = binding
        self._call = call

    def __call__(self, *args: Any) -> Any:
        before = tenancy.BOUND.get()
        tenancy.bind(self._binding)
        try:
            return self._call(*args)
        finally:
            tenancy.bind(before)

    def __repr__(self) -> str:
        return repr(self._call)

    def __reduce__(self) -> tuple[type[functools.partial[Any]], tuple[Any]]:
        return functools.partial, (self._call,)  # of Python's own: to unpickle ours, that process would import us
