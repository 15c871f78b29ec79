"""Workbenches: one `execute_tool` activity a call, whichever kind of workbench it is and whatever its tool is made of.

A workbench turns what its tool raises into a result that says so, and a server of the Model Context Protocol never
raises at all: here a call that comes back as an error has failed. AutoGen's own span of the tool, where there is one
(see `agents_and_tools.py`), is part of the call and adds the tool's name and the type of what it raised.

A model may ask for a tool that does not exist, and what it asks for is content. So a name is believed when the
workbench has listed it, when a tool answers to it, or when the call went well; else the call is `unnamed`.

Sizes are bytes of text and cost no serialising: what is no text, number or plain collection of them, or is large, is
not measured.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final

from autogen_core.tools import TextResultContent, ToolResult

from instrumentation import tenancy
from instrumentation.activity import UNNAMED, Outcome, ToolCall, name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder, Scope, open_activity

from .streams import observed

_TOOL_ERROR: Final = "tool_error"  # as the conventions for the Model Context Protocol call it
_MOST_VALUES: Final = 256  # of the arguments, nested ones included
_MOST_TEXT: Final = 1 << 14  # characters that are encoded to count their bytes (50 us); of ASCII the number is known
_NUMBER: Final = 8
_MOST_NAMES: Final = 10_000

#: The names that a workbench has listed.
_listed: weakref.WeakKeyDictionary[Any, frozenset[str]] = weakref.WeakKeyDictionary()


def list_tools(original: Callable[..., Coroutine[Any, Any, Any]], recorder: Recorder) -> Callable[..., Any]:
    """`Workbench.list_tools`: no activity, for an agent asks before every model call; only the names are kept."""

    @functools.wraps(original)
    async def observed_list_tools(self: Any, *args: Any, **kwargs: Any) -> Any:
        tools = await original(self, *args, **kwargs)
        try:
            if len(tools) <= _MOST_NAMES:
                _listed[self] = frozenset(tool["name"] for tool in tools)
        except TypeError:
            pass  # one that cannot be hashed, or not be referred to weakly, has no names
        except BaseException as error:
            fault("workbench.list", error)
        return tools

    return observed_list_tools


def call_tool(original: Callable[..., Coroutine[Any, Any, Any]], recorder: Recorder) -> Callable[..., Any]:
    """`Workbench.call_tool`, observed."""

    @functools.wraps(original)
    async def observed_call_tool(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked, scope = _open(self, recorder, args, kwargs)
        if scope is None:
            return await original(self, *args, **kwargs)
        with scope:
            result = await original(self, *args, **kwargs)
            _ended(scope, asked, result)
            return result

    return observed_call_tool


def call_tool_stream(original: Callable[..., AsyncGenerator[Any, Any]], recorder: Recorder) -> Callable[..., Any]:
    """`StreamWorkbench.call_tool_stream`, observed; the call begins with the first step."""

    @functools.wraps(original)
    def observed_call_tool_stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        asked: str | None = None

        def begin() -> Scope | None:
            nonlocal asked
            asked, scope = _open(self, recorder, args, kwargs)
            return scope

        def note(scope: Scope, item: object) -> None:
            _ended(scope, asked, item)

        return observed(original(self, *args, **kwargs), begin, note)

    return observed_call_tool_stream


def _open(
    workbench: Any, recorder: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str | None, Scope | None]:
    """What was asked for, and the scope of the call; none when another workbench passes its own call on."""
    try:
        above = open_activity()
        if isinstance(above, ToolCall) and above.untold:
            return None, None
        asked = args[0] if args else kwargs.get("name")
        activity = ToolCall(tenancy.current() or tenancy.TABLE.unknown, _name(workbench, asked), recorder.clock())
        activity.untold = True
        activity.arguments_size = size_of(args[1] if len(args) > 1 else kwargs.get("arguments"))
        return asked if type(asked) is str else None, recorder.scope(activity)
    except BaseException as error:
        fault("workbench.call", error)
        return None, None


def _name(workbench: Any, asked: object) -> str:
    try:
        listed = _listed.get(workbench)
    except TypeError:  # cannot be hashed, or not be referred to weakly
        listed = None
    return name_of(asked) if listed is not None and type(asked) is str and asked in listed else UNNAMED


def _ended(scope: Scope, asked: str | None, result: object) -> None:
    try:
        call = scope.activity
        if not isinstance(call, ToolCall) or not isinstance(result, ToolResult):
            return  # a piece of the stream
        texts = [part.content for part in result.result if type(part) is TextResultContent]
        call.result_size = size_of(texts) if texts else None
        if result.is_error is True:
            if call.outcome is Outcome.OK:  # no tool has said what it raised
                call.outcome, call.error_type = Outcome.ERROR, _TOOL_ERROR
        else:
            call.outcome, call.error_type = Outcome.OK, None
            if call.name == UNNAMED and asked is not None:
                call.name = name_of(asked)
    except BaseException as error:
        fault("workbench.result", error)


def size_of(value: object) -> int | None:
    """Bytes of text in `value`; None when it holds anything else, too much, or a long text that is no ASCII."""
    waiting: list[Any] = [value]
    size = seen = encoded = 0
    while waiting:
        item: Any = waiting.pop()
        kind = type(item)
        if kind is str:
            if item.isascii():
                size += len(item)
            else:
                encoded += len(item)
                if encoded > _MOST_TEXT:
                    return None
                size += len(item.encode("utf-8", "surrogatepass"))
        elif kind is int or kind is float:
            size += _NUMBER
        elif kind is dict or kind is list or kind is tuple:
            seen += len(item)
            if seen > _MOST_VALUES:
                return None
            waiting.extend(item)
            if kind is dict:
                waiting.extend(item.values())
        elif item is not None and kind is not bool:
            return None
    return size
