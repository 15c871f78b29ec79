"""Agents and tools: the spans that AutoGen opens itself, through `trace_invoke_agent_span` and `trace_tool_span`.

Those functions put descriptions, call ids and the text of exceptions into the application's global tracer. They keep
running; the tracer that they ask for is ours, takes the operation and the name, and gives back a span that records
nothing. A caller who passes a tracer of his own keeps it.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Span

from instrumentation import conventions, tenancy
from instrumentation.activity import UNNAMED, Activity, AgentTurn, Kind, ToolCall, name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder, Scope, open_activity

from . import turns_of_agents

#: What `BaseTool` says of itself, and a workbench cannot say of what it is asked for.
_DESCRIPTION: Final = "gen_ai.tool.description"
_KINDS: Final = {
    Kind.TOOL.value: (Kind.TOOL, conventions.TOOL_NAME),
    Kind.AGENT.value: (Kind.AGENT, conventions.AGENT_NAME),
}


class _Open(AbstractContextManager[Span]):
    """An activity of an agent or a tool. The span that AutoGen gets swallows what AutoGen writes onto it."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope | None) -> None:
        self._scope = scope

    def __enter__(self) -> Span:
        if self._scope is not None:
            self._scope.__enter__()
        return INVALID_SPAN

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scope is not None:
            # An abandoned generator is closed with GeneratorExit: nothing failed.
            self._scope.__exit__(None if kind is GeneratorExit else kind, None, None)


class _Told(AbstractContextManager[Span]):
    """A tool of the workbench that was called says that it is at work: what it raises is the call's, for the workbench
    will not let it out. `name` is the tool's own, not what a model asked for; None when that is not certain."""

    __slots__ = ("_call",)

    def __init__(self, call: ToolCall, name: str | None) -> None:
        self._call = call
        call.untold = False  # tools that this one calls are calls of their own
        if name is not None and call.name == UNNAMED:
            call.name = name

    def __enter__(self) -> Span:
        return INVALID_SPAN

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call.ended:  # nobody waited for the tool
            return
        self._call.untold = True  # a workbench that asks again, after an error say, is still at the same call
        if kind is not None and kind is not GeneratorExit:
            self._call.failed(kind)


class TracerTap:
    """What AutoGen takes for a tracer."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def start_as_current_span(
        self, name: str, *, attributes: dict[str, Any] | None = None, **_: Any
    ) -> AbstractContextManager[Span]:
        """Open the activity that the attributes name. Never raises; `create_agent` is no activity."""
        try:
            about = attributes or {}
            known = _KINDS.get(about.get(conventions.OPERATION_NAME, ""))
            if known is not None:
                kind, attribute = known
                tenant, name = tenancy.current() or tenancy.TABLE.unknown, name_of(about.get(attribute, ""))
                if kind is Kind.TOOL:
                    call = open_activity()
                    if isinstance(call, ToolCall) and call.untold:
                        return _Told(call, name if _DESCRIPTION in about else None)
                    activity: Activity = ToolCall(tenant, name, time.monotonic_ns())
                    turns_of_agents.mark(activity)
                else:
                    activity = AgentTurn(tenant, name, time.monotonic_ns())
                return _Open(self._recorder.scope(activity))
        except BaseException as error:
            fault("agents_and_tools", error)
        return _Open(None)


class TraceModule:
    """Stands where AutoGen imported the module `opentelemetry.trace`; only `get_tracer` is another."""

    def __init__(self, recorder: Recorder) -> None:
        self._tracer = TracerTap(recorder)

    def get_tracer(self, *_: Any, **__: Any) -> TracerTap:
        return self._tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(trace, name)
