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
from instrumentation.activity import Activity, Kind, name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder, Scope

from . import handoffs

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
                tenant = tenancy.current() or tenancy.TABLE.unknown
                activity = Activity(kind, tenant, name_of(about.get(attribute, "")), time.monotonic_ns())
                if kind is Kind.TOOL:
                    handoffs.mark(activity)
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
