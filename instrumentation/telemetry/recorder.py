"""Activity → span and metrics: opens a span while the activity runs, hands it on and adds it up when it ends.

A hook opens a `Scope` around what AutoGen does. The scope makes its span the current one, so that whatever happens
inside becomes its child, and puts back what was current before. It never raises, whatever happens inside itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.trace import set_span_in_context

from instrumentation import conventions as names
from instrumentation.activity import Activity, Kind, MemoryUse, ModelCall, Outcome, ToolCall
from instrumentation.diagnostics import fault
from instrumentation.telemetry.accumulators import Accumulators
from instrumentation.telemetry.digests import Digests
from instrumentation.telemetry.model_metrics import by_deployed_names, by_latest_names
from instrumentation.telemetry.spans import EndedSpan, OpenSpan, SpanFactory, non_recording

_DURATIONS: Final = {
    Kind.TOOL: names.TOOL_DURATION,
    Kind.MCP: names.MCP_DURATION,
    Kind.AGENT: names.AGENT_DURATION,
    Kind.WORKFLOW: names.WORKFLOW_DURATION,
    Kind.WAIT: names.INPUT_DURATION,
}
#: Beside the span in an OpenTelemetry context: the activity that it is of.
_ACTIVITY: Final = otel.create_key("tenantscope-activity")


def current_activity(context: Context | None = None) -> Activity | None:
    """The activity in which the running code is, or what `context` was made in; None outside of any."""
    return (otel.get_current() if context is None else context).get(_ACTIVITY)  # type: ignore[return-value]


class Recorder:
    """Opens spans for activities and adds what they say to the metrics.

    Args:
        spans: makes them.
        accumulators: where counts go.
        emit: takes a sampled span that has ended; must not block.
        clock: monotonic, in nanoseconds.
        digests: of what may be compared and not known.
        latest_conventions: name model metrics as the newest GenAI conventions do.
    """

    def __init__(
        self,
        spans: SpanFactory,
        accumulators: Accumulators,
        emit: Callable[[EndedSpan], None],
        clock: Callable[[], int] = time.monotonic_ns,
        digests: Digests | None = None,
        latest_conventions: bool = False,
    ) -> None:
        self.spans = spans
        self.accumulators = accumulators
        self.emit = emit
        self.clock = clock
        self.digests = Digests() if digests is None else digests
        self._model_metrics = by_latest_names if latest_conventions else by_deployed_names
        #: nothing is attached any more: activities that begin now are not recorded
        self.retired = False

    def scope(self, activity: Activity, parent: Context | None = None) -> Scope:
        """A context manager around what `activity` describes; `parent` is the context whose span it hangs under."""
        return Scope(self, activity, parent)

    def account(self, activity: Activity, seconds: float) -> None:
        """Add an ended activity to the metrics; `seconds` is its duration."""
        if activity.kind is Kind.OVERRUN:  # counted when it begins; its error is the handler's
            return
        tenant = activity.tenant.id
        into = self.accumulators
        with into.lock:
            if activity.kind is Kind.PROCESS:
                into.of(names.MESSAGES).add((tenant, activity.outcome.value), 1)
                into.of(names.PROCESS_DURATION).record((tenant, activity.name), seconds)
                if activity.queue_seconds is not None:
                    into.of(names.QUEUE_DURATION).record((tenant,), activity.queue_seconds)
            elif isinstance(activity, ModelCall):
                self._model_metrics(into, activity, seconds)
                if activity.delegated:
                    return  # the client that did the work has counted all of it, its errors too
            elif activity.state_size is not None:
                into.of(names.STATE).record((tenant, activity.kind.value), activity.state_size)
            elif isinstance(activity, MemoryUse):
                into.of(names.MEMORY_DURATION).record(
                    (tenant, activity.kind.value, activity.name, activity.error_type), seconds
                )
                if activity.kind is Kind.SEARCH_MEMORY and activity.hits:
                    into.of(names.MEMORY_ENTRIES).add((tenant, activity.name), activity.hits)
            elif activity.kind in _DURATIONS:
                into.of(_DURATIONS[activity.kind]).record((tenant, activity.name, activity.error_type), seconds)
            if isinstance(activity, ToolCall) and activity.mcp_method is not None:
                into.of(names.MCP_DURATION).record((tenant, activity.mcp_method, activity.error_type), seconds)
            if activity.outcome is Outcome.ERROR:
                into.of(names.ERRORS).add((tenant, activity.kind.value, activity.error_type), 1)

    def lost_message(self, tenant: str, outcome: Outcome) -> None:
        """A message ended before any handler of an agent had it, so that it has no span."""
        with self.accumulators.lock:
            self.accumulators.of(names.MESSAGES).add((tenant, outcome.value), 1)

    def responded(self, tenant: str, seconds: float) -> None:
        """A response reached its caller after so long in the queue."""
        with self.accumulators.lock:
            self.accumulators.of(names.RESPONSE_DURATION).record((tenant,), seconds)

    def abandoned(self, tenant: str, change: int) -> None:
        """So many more, or fewer, handlers run for a caller who has given up waiting."""
        with self.accumulators.lock:
            self.accumulators.of(names.ABANDONED).add((tenant,), change)

    def error(self, tenant: str, activity: str, error_type: str | None) -> None:
        """Something failed that has no activity of its own."""
        with self.accumulators.lock:
            self.accumulators.of(names.ERRORS).add((tenant, activity, error_type), 1)

    def overran(self, tenant: str, budget: str) -> None:
        """A turn is over its budget."""
        with self.accumulators.lock:
            self.accumulators.of(names.TURN_OVERRUNS).add((tenant, budget), 1)

    def finding(self, tenant: str, rule: str) -> None:
        """A rule of tenant isolation was seen broken."""
        with self.accumulators.lock:
            self.accumulators.of(names.FINDINGS).add((tenant, rule), 1)


class Scope:
    """An open activity. `with scope:` around the work; an exception in the work is noted by type and goes on."""

    __slots__ = ("_before", "_ignored", "_inside", "_parent", "_recorder", "_span", "activity")

    def __init__(self, recorder: Recorder, activity: Activity, parent: Context | None) -> None:
        self._recorder = recorder
        self.activity = activity
        self._parent = parent
        self._span: OpenSpan | None = None
        self._ignored = False
        self._before: Context | None = None
        self._inside: Context | None = None

    @property
    def inside(self) -> Context | None:
        """The context in which the work runs, once entered."""
        return self._inside

    def open(self) -> Context | None:
        """Start the span without making it current. Returns the context in which it is; None when that failed."""
        try:
            if self._recorder.retired:
                self._ignored = True
                return None
            above = current_activity(self._parent)
            if above is not None:
                self.activity.under(above)
            self._span = self._recorder.spans.open(self.activity, self._parent)
            # On top of the running context: the handler keeps its own baggage, only the span is ours.
            inside = set_span_in_context(non_recording(self._span))
            dict.__setitem__(inside, _ACTIVITY, self.activity)  # nobody else has it yet; a copy costs a microsecond
            return inside
        except BaseException as error:
            fault("span.open", error)
            return None

    def close(self, kind: type[BaseException] | None = None) -> None:
        """End the span, count the activity; `kind` is the type of the exception that ended it."""
        try:
            if self._ignored:
                return
            activity, recorder, span = self.activity, self._recorder, self._span
            if kind is not None:
                activity.failed(kind)
            duration_ns = recorder.clock() - activity.began_ns
            recorder.account(activity, duration_ns / 1e9)
            if span is not None and span.context.trace_flags.sampled:
                recorder.emit(EndedSpan(activity, span, duration_ns))
        except BaseException as error:
            fault("span.close", error)

    def __enter__(self) -> Self:
        inside = self.open()
        if inside is not None:
            try:
                self._before = otel.get_current()
                otel.attach(inside)
                self._inside = inside
            except BaseException as error:
                fault("span.enter", error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # No token: a generator may be closed in another context, where there is nothing of ours to undo.
            if self._before is not None and otel.get_current() is self._inside:
                otel.attach(self._before)
        except BaseException as broken:
            fault("span.exit", broken)
        self.close(kind)
