"""The Model Context Protocol, as AutoGen's workbenches and tool adapters speak it: every request of a session.

A `tools/call` that a tool at work makes is a part of that tool's activity, as the conventions for the protocol have it;
every other request (`initialize`, `tools/list`, `resources/read` ...) is an activity of its own. The names of its
methods are the protocol's; what stands in a request or a result is not looked at.

The trace goes on in the server: `traceparent` is put into the request's `_meta`, which the protocol keeps for that
(SEP-414). Nothing else is: a server may be anybody's, so neither the tenant nor the application's trace state goes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Final

from opentelemetry import trace

from instrumentation import tenancy
from instrumentation.activity import Activity, Kind, Outcome, ToolCall
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder, Scope, open_activity

_METHODS: Final = frozenset({
    "initialize", "ping", "tools/list", "tools/call", "prompts/list", "prompts/get", "resources/list", "resources/read",
    "resources/templates/list", "resources/subscribe", "resources/unsubscribe", "completion/complete",
    "logging/setLevel",
})  # fmt: skip
_CALL: Final = "tools/call"
_OTHER: Final = "_OTHER"
_TOOL_ERROR: Final = "tool_error"
_TRACEPARENT: Final = "traceparent"


def send_request(original: Callable[..., Coroutine[Any, Any, Any]], recorder: Recorder) -> Callable[..., Any]:
    """`BaseSession.send_request`, observed on the client's side."""

    @functools.wraps(original)
    async def observed_send_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        scope = _scope(request, recorder)
        if scope is None:
            return await original(self, _with_context(request), *args, **kwargs)
        with scope:
            result = await original(self, _with_context(request), *args, **kwargs)
            _ended(scope, result)
            return result

    return observed_send_request


def _scope(request: Any, recorder: Recorder) -> Scope | None:
    """A scope for the request; none for what a tool's own call asks, nor for what a server asks of its client."""
    try:
        if type(request).__name__ != "ClientRequest":
            return None
        method = request.root.method
        method = method if method in _METHODS else _OTHER
        tool = open_activity()
        if method == _CALL and isinstance(tool, ToolCall) and tool.mcp_method is None:
            tool.mcp_method = method
            return None
        return recorder.scope(Activity(Kind.MCP, tenancy.current() or tenancy.TABLE.unknown, method, recorder.clock()))
    except BaseException as error:
        fault("mcp", error)
        return None


def _ended(scope: Scope, result: Any) -> None:
    try:
        if getattr(result, "isError", None) is True:
            scope.activity.outcome, scope.activity.error_type = Outcome.ERROR, _TOOL_ERROR
    except BaseException as error:
        fault("mcp.result", error)


def _with_context(request: Any) -> Any:
    """A copy of `request` that says where in which trace it was made; `request` itself when there is no place for it.

    Only what has parameters has one. A context that somebody else has put there stays.
    """
    try:
        span = trace.get_current_span().get_span_context()
        root = request.root
        params = getattr(root, "params", None)
        if not span.is_valid or params is None or type(request).__name__ != "ClientRequest":
            return request
        meta = params.meta
        told = {_TRACEPARENT: f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"}
        if meta is None:
            meta = type(params).Meta(**told)
        elif _TRACEPARENT in (meta.model_extra or {}):
            return request
        else:
            meta = meta.model_copy(update=told)
        params = params.model_copy(update={"meta": meta})
        return request.model_copy(update={"root": root.model_copy(update={"params": params})})
    except BaseException as error:
        fault("mcp.context", error)
        return request
