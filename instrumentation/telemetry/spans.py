"""Spans that cannot hold content, and what an ended one looks like in OpenTelemetry.

While an activity runs, its span is an `opentelemetry.trace.NonRecordingSpan`: whatever looks for the current span finds
the right ids to hang its own spans under, and whatever tries to write onto it (the application, another
instrumentation, AutoGen itself) writes nothing. What is exported is made from the Activity alone, later, in the
export thread. It is also cheap: the SDK's recording span costs 15 us on the event loop, this one about 3.

Sampling is the SDK's: the sampler of `OTEL_TRACES_SAMPLER` decides.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, Sampler, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
)
from opentelemetry.util.types import AttributeValue

from instrumentation import conventions as names
from instrumentation.activity import Activity, Kind, MemoryUse, ModelCall, Outcome, ToolCall

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
_NAME_ATTRIBUTES: Final = {
    Kind.PROCESS: names.AGENT_TYPE,
    Kind.CREATE: names.AGENT_TYPE,
    Kind.CHAT: names.REQUEST_MODEL,
    Kind.TOOL: names.TOOL_NAME,
    Kind.MCP: names.MCP_METHOD,
    Kind.ADD_MEMORY: names.MEMORY_TYPE,
    Kind.SEARCH_MEMORY: names.MEMORY_TYPE,
    Kind.UPDATE_CONTEXT: names.MEMORY_TYPE,
    Kind.CLEAR_MEMORY: names.MEMORY_TYPE,
    Kind.AGENT: names.AGENT_NAME,
    Kind.WORKFLOW: names.WORKFLOW_NAME,
    Kind.WAIT: names.AGENT_NAME,
    Kind.PAUSE: names.WORKFLOW_NAME,
    Kind.RESUME: names.WORKFLOW_NAME,
    Kind.RESET: names.WORKFLOW_NAME,
    Kind.OVERRUN: names.AGENT_TYPE,
    Kind.SAVE: names.COMPONENT,
    Kind.LOAD: names.COMPONENT,
}
#: What the GenAI conventions have a name for.
_OPERATIONS: Final = frozenset(
    {
        Kind.CHAT,
        Kind.TOOL,
        Kind.CREATE,
        Kind.AGENT,
        Kind.WORKFLOW,
        Kind.ADD_MEMORY,
        Kind.SEARCH_MEMORY,
        Kind.CLEAR_MEMORY,
    }
)
#: A tool call that hands over does not come back to its agent.
_PASS_CONTROL: Final = "pass_control"  # noqa: S105  # control, not a credential


class OpenSpan:
    """The span of a running activity: its ids, its parent's, and when it began."""

    __slots__ = ("context", "parent", "started_ns")

    def __init__(self, context: SpanContext, parent: SpanContext | None) -> None:
        self.context = context
        self.parent = parent
        self.started_ns = time.time_ns()


class EndedSpan:
    """What the export queue holds: an activity that will not change any more, its span, and its duration."""

    __slots__ = ("activity", "duration_ns", "span")

    def __init__(self, activity: Activity, span: OpenSpan, duration_ns: int) -> None:
        self.activity = activity
        self.span = span
        self.duration_ns = duration_ns

    def readable(self, resource: Resource) -> ReadableSpan:
        """The span as the SDK's own types have it."""
        activity, span = self.activity, self.span
        return ReadableSpan(
            name=f"{activity.kind.value} {activity.name}",
            context=span.context,
            parent=span.parent,
            resource=resource,
            attributes=attributes_of(activity),
            kind=KINDS[activity.kind],
            status=_ERROR if activity.outcome is Outcome.ERROR else _UNSET,
            start_time=span.started_ns,
            # Not a second reading of the wall clock, which may have been set in between.
            end_time=span.started_ns + self.duration_ns,
            instrumentation_scope=_SCOPE,
        )


class SpanFactory:
    """Makes spans: ids and the sampling decision.

    Args:
        ratios: share of the traces that is kept, by tenant, for those that begin here; the standard sampler decides for
            all other tenants. Below a span of somebody else's, what was decided there holds.
    """

    def __init__(self, ratios: Mapping[str, float] | None = None) -> None:
        # Only asked for what it read from the environment; it makes no span.
        provider = TracerProvider(shutdown_on_exit=False)
        self._ids = provider.id_generator
        self._sampler = provider.sampler
        # The default does as the parent does, and takes everything that has none: nobody needs to be asked.
        self._parent_decides = provider.sampler is DEFAULT_ON
        self._by_tenant = {tenant: TraceIdRatioBased(ratio) for tenant, ratio in (ratios or {}).items()}

    def open(self, activity: Activity, parent: Context | None) -> OpenSpan:
        """A span under the one that is current in `parent` (None: in the running context)."""
        above: SpanContext | None = get_current_span(parent).get_span_context()
        if above is not None and above.is_valid:
            trace_id, state, flags = above.trace_id, above.trace_state, above.trace_flags
        else:
            above, trace_id, state, flags = None, self._ids.generate_trace_id(), None, _SAMPLED
        sampler = self._asked_about(activity, above)
        if sampler is not None:
            verdict = sampler.should_sample(
                parent,
                trace_id,
                f"{activity.kind.value} {activity.name}",
                KINDS[activity.kind],
                attributes_of(activity),
            )
            flags = _SAMPLED if verdict.decision is Decision.RECORD_AND_SAMPLE else _UNSAMPLED
            state = verdict.trace_state
        return OpenSpan(SpanContext(trace_id, self._ids.generate_span_id(), False, flags, state), above)

    def _asked_about(self, activity: Activity, above: SpanContext | None) -> Sampler | None:
        """Who decides; None when nobody needs to be asked: as was decided above, and else taken."""
        own = self._by_tenant.get(activity.tenant.name) if self._by_tenant else None
        if own is not None:
            return own if above is None else None
        return None if self._parent_decides else self._sampler


def non_recording(span: OpenSpan) -> NonRecordingSpan:
    """What the rest of the process sees of a span."""
    return NonRecordingSpan(span.context)


def _of_model_call(call: ModelCall) -> dict[str, AttributeValue | None]:
    return {
        names.PROVIDER_NAME: call.provider,
        names.RESPONSE_MODEL: call.response_model,
        names.INPUT_TOKENS: call.input_tokens,
        names.OUTPUT_TOKENS: call.output_tokens,
        names.CACHE_READ_TOKENS: call.cache_read_tokens,
        names.CACHE_WRITE_TOKENS: call.cache_write_tokens,
        names.REASONING_TOKENS: call.reasoning_tokens,
        names.FINISH_REASONS: None if call.finish_reason is None else (call.finish_reason,),
        names.FIRST_CHUNK: call.first_chunk_seconds,
        names.MODEL_CACHED: call.cached or None,
        names.STATUS_CODE: call.status_code,
        names.RESEND_COUNT: call.resends or None,
    }


def attributes_of(activity: Activity) -> dict[str, AttributeValue]:
    """An activity's attributes, as far as they are known by now."""
    kind = activity.kind
    found: dict[str, AttributeValue | None] = {
        names.TENANT_ID: activity.tenant.id,
        _NAME_ATTRIBUTES[kind]: activity.name,
    }
    if kind is Kind.PROCESS:
        found[names.MESSAGE_TYPE] = activity.message_type
        found[names.MESSAGE_KIND] = activity.message_kind
        found[names.MESSAGE_SENDER] = activity.sender
        found[names.MESSAGE_QUEUE_DURATION] = activity.queue_seconds
        found[names.MESSAGE_OUTCOME] = activity.outcome.value
        found[names.MESSAGE_ABANDONED] = activity.abandoned or None
    elif kind is Kind.OVERRUN:
        found[names.TURN_BUDGET] = activity.budget
        found[names.TURN_BUDGET_LIMIT] = activity.limit_seconds
        found[names.TURN_LOOP_TIME] = activity.loop_seconds
        found[names.MESSAGE_OUTCOME] = activity.outcome.value
    elif kind not in _OPERATIONS:
        found[names.ACTIVITY] = kind.value
        found[names.STATE_SIZE] = activity.state_size
        found[names.STATE_DIGEST] = activity.state_digest
        found[names.STATE_AGENTS] = activity.state_agents
    else:
        found[names.OPERATION_NAME] = kind.value
        if activity.transfer_target is not None:
            found[names.TRANSFER_MODE] = _PASS_CONTROL
            found[names.TRANSFER_TARGET] = activity.transfer_target
        found[names.STOP_REASON] = activity.stop_reason
    if kind in (Kind.CHAT, Kind.TOOL):
        found[names.AGENT_NAME] = activity.agent
    found[names.CONVERSATION_ID] = activity.conversation
    if isinstance(activity, ModelCall):
        found |= _of_model_call(activity)
    elif isinstance(activity, ToolCall):
        found[names.TOOL_ARGUMENTS_SIZE] = activity.arguments_size
        found[names.TOOL_RESULT_SIZE] = activity.result_size
        found[names.MCP_METHOD] = activity.mcp_method
    elif isinstance(activity, MemoryUse):
        found[names.MEMORY_HITS] = activity.hits
    found[names.ERROR_TYPE] = activity.error_type
    return {name: value for name, value in found.items() if value is not None}
