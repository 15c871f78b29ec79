"""Activity → span and metrics: opens a span while the activity runs, hands it on and adds it up when it ends.

A hook opens a `Scope` around what AutoGen does. The scope makes its span the current one, so that whatever happens
inside becomes its child, and puts back what was current before. It never raises, whatever happens inside itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.trace import TraceFlags

from instrumentation import conventions as names
from instrumentation import tenancy
from instrumentation.activity import Activity, Kind, MemoryUse, ModelCall, Outcome, ToolCall
from instrumentation.diagnostics import fault
from instrumentation.slots import OTHER_SLOT
from instrumentation.telemetry.accumulators import Accumulators
from instrumentation.telemetry.digests import Digests
from instrumentation.telemetry.model_metrics import by_deployed_names, by_latest_names
from instrumentation.telemetry.spans import SPAN_KEY, ActivitySpan, SpanFactory

_DURATIONS: Final = {
    Kind.TOOL: names.TOOL_DURATION,
    Kind.MCP: names.MCP_DURATION,
    Kind.AGENT: names.AGENT_DURATION,
    Kind.WORKFLOW: names.WORKFLOW_DURATION,
    Kind.WAIT: names.INPUT_DURATION,
}
# A member of an enumeration is looked up anew wherever it is named, and its value computed: not once a message.
_PROCESS: Final = Kind.PROCESS
_ERROR: Final = Outcome.ERROR
_WORDS: Final = {outcome: outcome.value for outcome in Outcome}
_SAMPLED: Final = TraceFlags.SAMPLED
# An OpenTelemetry context refuses to be changed; one that nobody else has yet may be, and a copy costs a microsecond.
_put: Final = dict.__setitem__
#: Beside the span in an OpenTelemetry context: the activity that it is of.
_ACTIVITY: Final = otel.create_key("tenantscope-activity")


def current_activity(context: Context | None = None) -> Activity | None:
    """The activity in which the running code is, or what `context` was made in; None outside of any."""
    return (otel.get_current() if context is None else context).get(_ACTIVITY)  # type: ignore[return-value]


def open_activity() -> Activity | None:
    """The activity that the running code is a part of; None outside of any, and when it has ended meanwhile."""
    activity = current_activity()
    return None if activity is None or activity.ended else activity


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
        emit: Callable[[ActivitySpan], None],
        clock: Callable[[], int] = time.monotonic_ns,
        digests: Digests | None = None,
        latest_conventions: bool = False,
    ) -> None:
        self.spans = spans
        self.clock = clock
        self.digests = Digests() if digests is None else digests
        self._model_metrics = by_latest_names if latest_conventions else by_deployed_names
        #: nothing is attached any more: activities that begin now are not recorded
        self.retired = False
        self.lead_to(accumulators, emit)

    def lead_to(self, accumulators: Accumulators, emit: Callable[[ActivitySpan], None]) -> None:
        """Send counts and spans there from now on; a forked child has others than its parent."""
        self.accumulators = accumulators
        self.emit = emit
        # Looked up once: every message and every response adds to these.
        of = accumulators.of
        self._messages, self._responses = of(names.MESSAGES), of(names.RESPONSE_DURATION)
        self._queued, self._processed = of(names.QUEUE_DURATION), of(names.PROCESS_DURATION)
        self._durations = {kind: of(metric) for kind, metric in _DURATIONS.items()}

    def scope(self, activity: Activity, parent: Context | None = None) -> Scope:
        """A context manager around what `activity` describes; `parent` is the context whose span it hangs under."""
        return Scope(self, activity, parent)

    def account(self, activity: Activity, seconds: float) -> None:
        """Add an ended activity to the metrics; `seconds` is its duration."""
        kind, tenant = activity.kind, activity.tenant.id
        into = self.accumulators
        with into.lock:
            if kind is _PROCESS:
                self._messages.add((tenant, _WORDS[activity.outcome]), 1)
                self._processed.record((tenant, activity.name), seconds)
                if activity.queue_seconds is not None:
                    self._queued.record((tenant,), activity.queue_seconds)
            elif kind is Kind.OVERRUN:  # counted when it begins; its error is the handler's
                return
            elif isinstance(activity, ModelCall):
                self._model_metrics(into, activity, seconds)
                if activity.delegated:
                    return  # the client that did the work has counted all of it, its errors too
            elif kind in self._durations:
                self._durations[kind].record((tenant, activity.name, activity.error_type), seconds)
                if isinstance(activity, ToolCall) and activity.mcp_method is not None:
                    into.of(names.MCP_DURATION).record((tenant, activity.mcp_method, activity.error_type), seconds)
            elif activity.state_size is not None:
                into.of(names.STATE).record((tenant, kind.value), activity.state_size)
            elif isinstance(activity, MemoryUse):
                into.of(names.MEMORY_DURATION).record((tenant, kind.value, activity.name, activity.error_type), seconds)
                if kind is Kind.SEARCH_MEMORY and activity.hits:
                    into.of(names.MEMORY_ENTRIES).add((tenant, activity.name), activity.hits)
            if activity.outcome is _ERROR:
                into.of(names.ERRORS).add((tenant, kind.value, activity.error_type), 1)

    def lost_message(self, tenant: str, outcome: Outcome, messages: int = 1) -> None:
        """Messages that ended before any handler of an agent had them, so that they have no span."""
        with self.accumulators.lock:
            self._messages.add((tenant, outcome.value), messages)

    def responded(self, tenant: str, seconds: float) -> None:
        """A response reached its caller after so long in the queue."""
        with self.accumulators.lock:
            self._responses.record((tenant,), seconds)

    def abandoned(self, tenant: str, change: int) -> None:
        """So many more, or fewer, handlers of a tenant of this name run for a caller who has given up waiting."""
        if self.retired:  # nobody looks any more, and what rises by tenant has no bound but the looking
            return
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
        self._span: ActivitySpan | None = None
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
            recorder, activity = self._recorder, self.activity
            if recorder.retired:
                self._ignored = True
                return None
            self._before = current = otel.get_current()
            parent = current if self._parent is None else self._parent
            above: Any = parent.get(_ACTIVITY)
            if above is not None:
                activity.under(above)
            self._span = span = recorder.spans.open(activity, parent)
            # On top of the running context: the handler keeps its own baggage, only the span is ours.
            inside = Context(current)
            _put(inside, SPAN_KEY, span)  # nobody else has it yet
            _put(inside, _ACTIVITY, activity)
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
            activity.ended = True
            if kind is not None:
                activity.failed(kind)
            tenant = activity.tenant
            if tenant.slot == OTHER_SLOT:
                tenancy.TABLE.weigh(tenant, 1)
            else:
                tenant.weight += 1
            duration_ns = recorder.clock() - activity.began_ns
            recorder.account(activity, duration_ns / 1e9)
            if span is not None and span.flags & _SAMPLED:
                span.duration_ns = duration_ns
                recorder.emit(span)
        except BaseException as error:
            fault("span.close", error)

    def __enter__(self) -> Self:
        inside = self.open()
        if inside is not None:
            try:
                otel.attach(inside)
                self._inside = inside
            except BaseException as error:
                fault("span.enter", error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            inside = self._inside
            # No token: a generator may be closed in another context, where there is nothing of ours to undo.
            if inside is not None and self._before is not None and otel.get_current() is inside:
                otel.attach(self._before)
        except BaseException as broken:
            fault("span.exit", broken)
        self.close(kind)
