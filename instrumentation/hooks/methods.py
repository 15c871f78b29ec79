"""How a class can be changed so that nothing hangs on its instances, and what of it can be wrapped at all."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
# `warnings` and `logging` pass over the frames of files that are named so, where they look for a caller.
_PASSED_OVER: Final = " (passed over like importlib._bootstrap)"


def in_place_of(name: str, answer: Callable[[Any], Any]) -> property:
    """A data descriptor on the class, which wins over the instance's own attribute and keeps it up to date."""

    def keep(instance: Any, value: Any) -> None:
        vars(instance)[name] = value

    return property(answer, keep)


def is_a_method(value: Any) -> bool:
    """A function, or another instrumentation's object that binds like one.

    A mock is called without `self`, and is asked afterwards how often: it stays what it is.
    """
    return (
        callable(value)
        and hasattr(type(value), "__get__")
        and not isinstance(value, staticmethod | type)
        and not getattr(value, "__isabstractmethod__", False)
    )


def unbound(method: Any) -> Callable[..., Any]:
    """`method` as a function that takes `self`."""
    if inspect.isfunction(method):
        return method

    @functools.wraps(method)
    def bind_and_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method.__get__(self, type(self))(*args, **kwargs)

    return bind_and_call


def passed_over(function: F) -> F:
    """`function` itself, which is no caller any more: a warning of what it calls is about who called it.

    AutoGen warns with `stacklevel=2`. Where that leads is printed, and decides which filter holds and what was said
    before; so a frame of ours must not be there. Tracebacks still show it, under a name that says so.
    """
    function.__code__ = _renamed(function.__code__)  # of a Python function
    return function


@functools.cache
def _renamed(code: CodeType) -> CodeType:
    return code.replace(co_filename=code.co_filename.removesuffix(_PASSED_OVER) + _PASSED_OVER)


def all_subclasses(base: type) -> list[type]:
    """Those that are alive, however far below."""
    found: dict[type, None] = {}
    waiting: list[Any] = [base]
    while waiting:
        for cls in waiting.pop().__subclasses__():
            if cls not in found:
                found[cls] = None
                waiting.append(cls)
    return list(found)
