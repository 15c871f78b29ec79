"""Spans that cannot hold content, and what an ended one looks like in OpenTelemetry.

While an activity runs, its span is an `opentelemetry.trace.NonRecordingSpan`: whatever looks for the current span finds
the right ids to hang its own spans under, and whatever tries to write onto it (the application, another
instrumentation, AutoGen itself) writes nothing. What is exported is made from the Activity alone, later, in the
export thread. It is also cheap: the SDK's recording span costs 15 us on the event loop, this one about 1.

Sampling is the SDK's: the sampler of `OTEL_TRACES_SAMPLER` decides.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, Sampler, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from instrumentation import chance
from instrumentation import conventions as names
from instrumentation.activity import Activity, Kind, Outcome

from .attributes import attributes_of

#: Under which a context holds its span: found out from one that does, for the API keeps the key to itself.
SPAN_KEY: Final = next(iter(set_span_in_context(INVALID_SPAN, Context())))
_SCOPE: Final = InstrumentationScope(names.SCOPE)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)
_UNSET: Final = Status(StatusCode.UNSET)
# The description stays empty: an exception's message would be content.
_ERROR: Final = Status(StatusCode.ERROR)
KINDS: Final = {
    Kind.PROCESS: SpanKind.CONSUMER,
    Kind.CREATE: SpanKind.INTERNAL,
    Kind.CHAT: SpanKind.CLIENT,
    Kind.TOOL: SpanKind.INTERNAL,
    Kind.MCP: SpanKind.CLIENT,
    Kind.ADD_MEMORY: SpanKind.INTERNAL,
    Kind.SEARCH_MEMORY: SpanKind.INTERNAL,
    Kind.UPDATE_CONTEXT: SpanKind.INTERNAL,
    Kind.CLEAR_MEMORY: SpanKind.INTERNAL,
    Kind.AGENT: SpanKind.INTERNAL,
    Kind.WORKFLOW: SpanKind.INTERNAL,
    Kind.WAIT: SpanKind.INTERNAL,
    Kind.PAUSE: SpanKind.INTERNAL,
    Kind.RESUME: SpanKind.INTERNAL,
    Kind.RESET: SpanKind.INTERNAL,
    Kind.OVERRUN: SpanKind.INTERNAL,
    Kind.SAVE: SpanKind.INTERNAL,
    Kind.LOAD: SpanKind.INTERNAL,
}


class ActivitySpan(NonRecordingSpan):
    """The span of an activity, from its begin until it is exported.

    The rest of the process sees a span that records nothing. Its `SpanContext` is made when somebody asks for it: our
    own spans, which are most of those that come under it, take the ids as they are.

    Attributes:
        activity: what it is of; does not change any more once the span has a duration.
        trace_id, span_id, flags, state: its own.
        parent_id, parent_is_remote: of the span that it hangs under; None for a root.
        started_ns: wall clock, nanoseconds since 1970.
        duration_ns: once it has ended.
    """

    def __init__(
        self,
        activity: Activity,
        trace_id: int,
        span_id: int,
        parent_id: int | None,
        parent_is_remote: bool,
        flags: TraceFlags,
        state: TraceState | None,
    ) -> None:
        # Not the base class's own, which wants the context.
        self.activity = activity
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.parent_is_remote = parent_is_remote
        self.flags = flags
        self.state = state
        self.started_ns = time.time_ns()
        self.duration_ns = 0

    def get_span_context(self) -> SpanContext:
        """The ids, for whoever is not ours."""
        return SpanContext(self.trace_id, self.span_id, False, self.flags, self.state)

    def __reduce__(self) -> tuple[type[NonRecordingSpan], tuple[SpanContext]]:
        """A copy, and what is pickled, is a plain span of the same ids: nothing of the activity goes with it."""
        return NonRecordingSpan, (self.get_span_context(),)

    def __repr__(self) -> str:
        return f"NonRecordingSpan({self.get_span_context()!r})"

    def readable(self, resource: Resource) -> ReadableSpan:
        """The span as the SDK's own types have it."""
        activity = self.activity
        parent = None
        if self.parent_id is not None:
            parent = SpanContext(self.trace_id, self.parent_id, self.parent_is_remote, self.flags, self.state)
        return ReadableSpan(
            name=f"{activity.kind.value} {activity.name}",
            context=self.get_span_context(),
            parent=parent,
            resource=resource,
            attributes=attributes_of(activity),
            kind=KINDS[activity.kind],
            status=_ERROR if activity.outcome is Outcome.ERROR else _UNSET,
            start_time=self.started_ns,
            # Not a second reading of the wall clock, which may have been set in between.
            end_time=self.started_ns + self.duration_ns,
            instrumentation_scope=_SCOPE,
        )


class SpanFactory:
    """Makes spans: ids and the sampling decision.

    Args:
        ratios: share of the traces that is kept, by tenant, for those that begin here; the standard sampler decides for
            all other tenants. Below a span of somebody else's, what was decided there holds.
    """

    def __init__(self, ratios: Mapping[str, float] | None = None) -> None:
        # Only asked for what it read from the environment: it makes no span, and its ids would use up the application's
        # random numbers.
        provider = TracerProvider(shutdown_on_exit=False)
        self._sampler = provider.sampler
        # The default does as the parent does, and takes everything that has none: nobody needs to be asked.
        self._parent_decides = provider.sampler is DEFAULT_ON
        self._by_tenant = {tenant: TraceIdRatioBased(ratio) for tenant, ratio in (ratios or {}).items()}
        self._nobody_is_asked = self._parent_decides and not self._by_tenant

    def open(self, activity: Activity, parent: Context) -> ActivitySpan:
        """A span under the one that is current in `parent`."""
        above: Any = parent.get(SPAN_KEY)
        if type(above) is ActivitySpan:
            trace_id, parent_id, is_remote = above.trace_id, above.span_id, False
            flags, state = above.flags, above.state
        else:
            # Somebody else's, or nobody's.
            found = get_current_span(parent).get_span_context()
            if found is not None and found.is_valid:
                trace_id, parent_id, is_remote = found.trace_id, found.span_id, found.is_remote
                flags, state = found.trace_flags, found.trace_state
            else:
                trace_id, parent_id, is_remote, flags, state = chance.trace_id(), None, False, _SAMPLED, None
        if not self._nobody_is_asked:
            sampler = self._asked_about(activity, parent_id is None)
            if sampler is not None:
                name = f"{activity.kind.value} {activity.name}"
                verdict = sampler.should_sample(parent, trace_id, name, KINDS[activity.kind], attributes_of(activity))
                flags = _SAMPLED if verdict.decision is Decision.RECORD_AND_SAMPLE else _UNSAMPLED
                state = verdict.trace_state
        return ActivitySpan(activity, trace_id, chance.span_id(), parent_id, is_remote, flags, state)

    def _asked_about(self, activity: Activity, is_root: bool) -> Sampler | None:
        """Who decides; None when nobody needs to be asked: as was decided above, and else taken."""
        own = self._by_tenant.get(activity.tenant.name) if self._by_tenant else None
        if own is not None:
            return own if is_root else None
        return None if self._parent_decides else self._sampler
