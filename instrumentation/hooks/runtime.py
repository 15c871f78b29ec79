"""The runtime: a message's way from the sender through the queue to its handler, and the tenant's with it.

AutoGen writes a piece of metadata onto every envelope, in the sender's context, and hands it to its trace helper at
each later stage, in the context of the stage. Both ends are ours here: the metadata becomes a `Passport` (tenant,
trace context, time of sending), and the stages read it. Nothing is remembered beside the envelope, so nothing can be
left behind when a message is dropped, cancelled or lost.

| stage | where it runs | what happens here |
| --- | --- | --- |
| create | the sender's task | a resolver may name the tenant, when nobody bound one |
| intercept | the run loop, just before the handler's task is made | the tenant is bound; the task inherits it |
| process | the handler's task | one span, from here to the end of the handler |
| ack | the task that resolves the sender's future | the tenant is bound |
| send, publish | the handler's task, around all the above | the tenant, unless `intercept` bound it; no span |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final

from autogen_core import AgentId, TopicId
from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from instrumentation import tenancy
from instrumentation.activity import Activity, Kind, name_of
from instrumentation.diagnostics import count, fault
from instrumentation.isolation import Isolation
from instrumentation.telemetry.recorder import Recorder, Scope

#: Names the tenant of a message for which nobody bound one, from its recipient or topic; None when it can't tell.
Resolver = Callable[[AgentId | TopicId], str | None]

SENDER: Final = "sender"
MESSAGE: Final = "message"
KIND: Final = "kind"
AGENT: Final = "agent"


class About(dict[str, Any]):
    """What `look_up_agents` found out. A runtime that looks up something else is not asked what it says."""


class Passport:
    """What a message carries through the queue. Stands in for AutoGen's `EnvelopeMetadata` and has its fields."""

    __slots__ = ("binding", "context", "sent_ns")

    traceparent: str | None = None
    tracestate: str | None = None
    links = None

    def __init__(self, binding: tenancy.Binding | None, context: Context, sent_ns: int) -> None:
        self.binding = binding
        self.context = context
        self.sent_ns = sent_ns


def issue_passport() -> Passport | None:
    """Called in the sender's context, once a message or response; without a passport a message is nobody's."""
    try:
        binding = tenancy.BOUND.get()
        return Passport(None if binding is None else binding.tenant.binding, otel.get_current(), time.monotonic_ns())
    except BaseException as error:
        fault("passport", error)
        return None


class _Stage:
    """A stage that needs nothing from us."""

    __slots__ = ()

    def __enter__(self) -> Span:
        return INVALID_SPAN

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class _Resolved(_Stage):
    """`create`, when a resolver is asked: the tenant is bound while the message is put into the queue."""

    __slots__ = ("_binding",)

    def __init__(self, tenant: tenancy.Tenant) -> None:
        # Its own, to be known again.
        self._binding = tenancy.Binding(tenant)

    def __enter__(self) -> Span:
        self._binding.previous = tenancy.BOUND.get()
        tenancy.bind(self._binding)
        return INVALID_SPAN

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not in the context of somebody else, where the garbage collector may end a send that nobody waits for.
        if tenancy.BOUND.get() is self._binding:
            tenancy.bind(self._binding.previous)


class _Handling(_Stage):
    """`process`: the handler runs inside."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __enter__(self) -> Span:
        self._scope.__enter__()
        return INVALID_SPAN

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.__exit__(kind, error, trace)


_STAGE: Final = _Stage()
_NOTHING: Final = About()


class TraceTap:
    """Stands where AutoGen's `TraceHelper` stands."""

    def __init__(self, recorder: Recorder, isolation: Isolation, resolver: Resolver | None) -> None:
        self._recorder = recorder
        self._isolation = isolation
        self._resolver = resolver

    def trace_block(
        self,
        operation: str,
        destination: Any,
        parent: Any,
        *,
        attributes: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> _Stage:
        """What `TraceHelper.trace_block` is to AutoGen; see the table above. Never raises."""
        try:
            if operation == "intercept":
                if type(parent) is Passport:
                    tenancy.bind(parent.binding)
            elif operation == "process":
                return self._process(destination, parent, attributes if type(attributes) is About else _NOTHING)
            elif operation == "ack":
                if type(parent) is Passport:
                    tenancy.bind(parent.binding)
            elif operation in ("send", "publish"):
                if type(parent) is Passport and tenancy.BOUND.get() is None:
                    tenancy.bind(parent.binding)
            elif operation == "create" and self._resolver is not None and tenancy.BOUND.get() is None:
                return self._resolve(self._resolver, destination)
        except BaseException as error:
            fault("stage", error)
        return _STAGE

    def _resolve(self, resolver: Resolver, destination: Any) -> _Stage:
        named = resolver(destination)
        return _STAGE if named is None else _Resolved(tenancy.TABLE.intern(named))

    def _process(self, agent_id: AgentId, passport: object, about: About) -> _Stage:
        now = self._recorder.clock()
        tenant = tenancy.current() or tenancy.TABLE.unknown
        activity = Activity(Kind.PROCESS, tenant, name_of(agent_id.type), now)
        if about:
            activity.message_type = name_of(type(about[MESSAGE]).__name__)
        activity.message_kind = about.get(KIND)
        sender = about.get(SENDER)
        if sender is not None:
            activity.sender = name_of(sender.type)
        parent: Context | None = None
        if type(passport) is Passport:
            parent = passport.context
            activity.queue_seconds = max(0, now - passport.sent_ns) / 1e9
        else:
            count("passport.foreign")  # sent before we were attached
        if AGENT in about:
            self._isolation.handled(about[AGENT], tenant)
        return _Handling(self._recorder.scope(activity, parent))


async def look_up_agents(
    runtime: Any, sender: AgentId | None, recipient: AgentId | None, message_context: Any, message: Any
) -> Mapping[str, Any]:
    """What AutoGen's `_create_otel_attributes` does to the application, without what it does for AutoGen's spans.

    It makes both agents when they do not exist yet, fails for an unknown sender, and asks the message for its truth
    value. All of that the application can see, so it stays; the payload is not serialised.
    """
    if not sender and not recipient and not message:
        return _NOTHING
    about = About()
    if sender:
        await runtime._get_agent(sender)  # noqa: SLF001  # AutoGen's own method called us
    if recipient:
        about[AGENT] = await runtime._get_agent(recipient)  # noqa: SLF001
    bool(message)
    about[SENDER] = sender
    about[MESSAGE] = message
    about[KIND] = None if message_context is None else "send" if message_context.is_rpc else "publish"
    return about
