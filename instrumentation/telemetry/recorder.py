"""Activity → span and metrics. The one place that knows how an activity looks in OpenTelemetry.

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
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from instrumentation import conventions as names
from instrumentation.activity import Activity, Kind, Outcome
from instrumentation.diagnostics import fault

from .accumulators import Accumulators

# The status description stays empty: an exception's message would be content.
_ERROR: Final = Status(StatusCode.ERROR)
_SPAN_KINDS: Final = {
    Kind.PROCESS: SpanKind.CONSUMER,
    Kind.CHAT: SpanKind.CLIENT,
    Kind.TOOL: SpanKind.INTERNAL,
    Kind.AGENT: SpanKind.INTERNAL,
    Kind.WORKFLOW: SpanKind.INTERNAL,
}
_NAME_ATTRIBUTES: Final = {
    Kind.PROCESS: names.AGENT_TYPE,
    Kind.CHAT: names.REQUEST_MODEL,
    Kind.TOOL: names.TOOL_NAME,
    Kind.AGENT: names.AGENT_NAME,
    Kind.WORKFLOW: names.WORKFLOW_NAME,
}


class Recorder:
    """Opens spans for activities and adds what they say to the metrics.

    Args:
        tracer: where spans come from.
        accumulators: where counts go.
        clock: monotonic, in nanoseconds.
    """

    def __init__(
        self, tracer: Tracer, accumulators: Accumulators, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.tracer = tracer
        self.accumulators = accumulators
        self.clock = clock

    def scope(self, activity: Activity, parent: Context | None = None) -> Scope:
        """A context manager around what `activity` describes; `parent` is the context whose span it hangs under."""
        return Scope(self, activity, parent)

    def open_span(self, activity: Activity, parent: Context | None) -> Span:
        """Start the span of an activity; attributes that are known from the start are there for samplers to see."""
        kind = activity.kind
        attributes: dict[str, AttributeValue] = {
            names.TENANT_ID: activity.tenant.id,
            _NAME_ATTRIBUTES[kind]: activity.name,
        }
        if kind is Kind.PROCESS:
            if activity.message_type is not None:
                attributes[names.MESSAGE_TYPE] = activity.message_type
            if activity.message_kind is not None:
                attributes[names.MESSAGE_KIND] = activity.message_kind
            if activity.sender is not None:
                attributes[names.MESSAGE_SENDER] = activity.sender
            if activity.queue_seconds is not None:
                attributes[names.MESSAGE_QUEUE_DURATION] = activity.queue_seconds
        else:
            attributes[names.OPERATION_NAME] = kind.value
            if activity.provider is not None:
                attributes[names.PROVIDER_NAME] = activity.provider
            if activity.conversation is not None:
                attributes[names.CONVERSATION_ID] = activity.conversation
        return self.tracer.start_span(
            f"{kind.value} {activity.name}", parent, _SPAN_KINDS[kind], attributes, record_exception=False
        )

    def close_span(self, activity: Activity, span: Span) -> None:
        """End the span with what is known by now."""
        if span.is_recording():
            if activity.kind is Kind.PROCESS:
                span.set_attribute(names.MESSAGE_OUTCOME, activity.outcome.value)
            elif activity.kind is Kind.CHAT:
                late: dict[str, AttributeValue] = {}
                if activity.input_tokens is not None:
                    late[names.INPUT_TOKENS] = activity.input_tokens
                if activity.output_tokens is not None:
                    late[names.OUTPUT_TOKENS] = activity.output_tokens
                if activity.finish_reason is not None:
                    late[names.FINISH_REASONS] = (activity.finish_reason,)
                span.set_attributes(late)
            if activity.error_type is not None:
                span.set_attribute(names.ERROR_TYPE, activity.error_type)
                if activity.outcome is Outcome.ERROR:
                    span.set_status(_ERROR)
        span.end()

    def account(self, activity: Activity, seconds: float) -> None:
        """Add an ended activity to the metrics; `seconds` is its duration."""
        tenant = activity.tenant.id
        into = self.accumulators
        with into.lock:
            if activity.kind is Kind.PROCESS:
                into.of(names.MESSAGES).add((tenant, activity.outcome.value), 1)
                into.of(names.PROCESS_DURATION).record((tenant, activity.name), seconds)
                if activity.queue_seconds is not None:
                    into.of(names.QUEUE_DURATION).record((tenant,), activity.queue_seconds)
            elif activity.kind is Kind.CHAT:
                operation, provider, model = Kind.CHAT.value, activity.provider, activity.name
                into.of(names.OPERATION_DURATION).record(
                    (tenant, operation, provider, model, activity.error_type), seconds
                )
                for token_type, tokens in (
                    ("input", activity.input_tokens),
                    ("output", activity.output_tokens),
                ):
                    if tokens is not None:
                        into.of(names.TOKEN_USAGE).record((tenant, operation, provider, model, token_type), tokens)
            if activity.outcome is Outcome.ERROR:
                into.of(names.ERRORS).add((tenant, activity.kind.value, activity.error_type), 1)

    def dropped_message(self, tenant: str) -> None:
        """An intervention handler of the application dropped a message: it has no handler, so no span."""
        with self.accumulators.lock:
            self.accumulators.of(names.MESSAGES).add((tenant, Outcome.DROPPED.value), 1)

    def error(self, tenant: str, activity: str, error_type: str | None) -> None:
        """Something failed that has no activity of its own."""
        with self.accumulators.lock:
            self.accumulators.of(names.ERRORS).add((tenant, activity, error_type), 1)

    def finding(self, tenant: str, rule: str) -> None:
        """A rule of tenant isolation was seen broken."""
        with self.accumulators.lock:
            self.accumulators.of(names.FINDINGS).add((tenant, rule), 1)


class Scope:
    """An open activity. `with scope:` around the work; an exception in the work is noted by type and goes on."""

    __slots__ = ("_before", "_inside", "_recorder", "_span", "activity", "context")

    def __init__(self, recorder: Recorder, activity: Activity, parent: Context | None) -> None:
        self._recorder = recorder
        self.activity = activity
        self._before = parent
        self._span: Span | None = None
        self._inside: Context | None = None
        #: the context with this activity's span, for those that enter and leave it piece by piece; None if it failed
        self.context: Context | None = None

    def open(self) -> Context | None:
        """Start the span without making it current; None when that failed."""
        try:
            self._span = self._recorder.open_span(self.activity, self._before)
            # The handler keeps its own baggage; only the span is ours.
            self.context = set_span_in_context(self._span)
        except BaseException as error:
            fault("span.open", error)
        return self.context

    def close(self, kind: type[BaseException] | None = None) -> None:
        """End the span, count the activity; `kind` is the type of the exception that ended it."""
        try:
            if kind is not None:
                self.activity.failed(kind)
            recorder = self._recorder
            recorder.account(self.activity, (recorder.clock() - self.activity.began_ns) / 1e9)
        except BaseException as error:
            fault("account", error)
        try:
            if self._span is not None:
                self._recorder.close_span(self.activity, self._span)
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
            if self._inside is not None and otel.get_current() is self._inside:
                otel.attach(self._before)  # type: ignore[arg-type]  # set by __enter__ together with _inside
        except BaseException as broken:
            fault("span.exit", broken)
        self.close(kind)
