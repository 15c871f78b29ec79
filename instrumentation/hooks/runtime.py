"""The runtime: a message's way from the sender through the queue to its handler, and the tenant's with it.

AutoGen writes a piece of metadata onto every envelope, in the sender's context, and hands it to its trace helper at
each later stage, in the context of the stage. Both ends are ours here: the metadata becomes a `Passport` (tenant,
budget, trace context, time of sending), and the stages read it. Nothing is remembered beside the envelope, so nothing
can be left behind when a message is dropped, cancelled or lost.

| stage | where it runs | what happens here |
| --- | --- | --- |
| create | the sender's task | a resolver may name the tenant; a caller who gives up waiting is noted at its end |
| intercept | the run loop, for the application's intervention handlers | the tenant is bound |
| process | the handler's task | one span, from here to the end of the handler |
| ack | the task that resolves the sender's future | the tenant is bound, the response has arrived |
| send | the handler's task, around `process` | the tenant is bound; counts a message that nobody had |
| publish | the task of all handlers, around every `process` | the same |
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final

from autogen_core import AgentId, TopicId
from opentelemetry.trace import INVALID_SPAN, Span

from instrumentation import budgets, tenancy
from instrumentation.activity import Activity, Kind, Outcome, name_of
from instrumentation.budgets import TurnBudgetExceeded
from instrumentation.diagnostics import count, fault
from instrumentation.isolation import Isolation
from instrumentation.telemetry.recorder import Recorder, Scope

from .passport import CALLING, Passport
from .turn import Overran, Turn, nobody_waits

#: Names the tenant of a message for which nobody bound one, from its recipient or topic; None when it can't tell.
Resolver = Callable[[AgentId | TopicId], str | None]

#: The message that this task is about to hand to an agent, which may have to be made first.
DELIVERING: ContextVar[Passport | None] = ContextVar("tenantscope_delivering", default=None)

SENDER: Final = "sender"
MESSAGE_TYPE: Final = "message_type"
KIND: Final = "kind"
AGENT: Final = "agent"


class About(dict[str, Any]):
    """What `look_up_agents` found out. A runtime that looks up something else is not asked what it says."""


class Stage:
    """A stage that needs nothing from us."""

    __slots__ = ()

    def __enter__(self) -> Span:
        return INVALID_SPAN

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class _Sending(Stage):
    """`create` of a send: the caller waits inside for the answer."""

    __slots__ = ("_recorder", "passport")

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.passport: Passport | None = None

    def __enter__(self) -> Span:
        CALLING.set(self)
        return INVALID_SPAN

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            passport = self.passport
            if passport is None:  # there is no such recipient, or a logging handler raised
                if CALLING.get() is self:
                    CALLING.set(None)
            elif kind is not None:
                passport.give_up(self._recorder, kind)
        except BaseException as broken:
            fault("stage.send", broken)


class _Resolved(Stage):
    """`create`, when a resolver named the tenant: it is bound while the message is put into the queue."""

    __slots__ = ("_binding", "_inner")

    def __init__(self, tenant: tenancy.Tenant, inner: Stage) -> None:
        # Its own, to be known again: with an owner, so that the message takes another one along.
        self._binding = tenancy.Binding(tenant, owner=_Resolved)
        self._inner = inner

    def __enter__(self) -> Span:
        self._binding.previous = tenancy.BOUND.get()
        tenancy.bind(self._binding)
        return self._inner.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not in the context of somebody else, where the garbage collector may end a send that nobody waits for.
        if tenancy.BOUND.get() is self._binding:
            tenancy.bind(self._binding.previous)
        self._inner.__exit__(kind, error, trace)


class _Delivering(Stage):
    """`send`: the agent is found, made if need be, and handles the message inside."""

    __slots__ = ("_passport", "_recorder")

    def __init__(self, passport: Passport, recorder: Recorder) -> None:
        self._passport = passport
        self._recorder = recorder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # Not when the garbage collector throws away a run loop that has been left.
            if self._passport.handled is None and kind is not GeneratorExit:
                self._recorder.lost_message(self._passport.tenant.id, Outcome.ERROR)
        except BaseException as broken:
            fault("stage.deliver", broken)


class _Publishing(Stage):
    """`publish`: every subscriber's handler runs inside."""

    __slots__ = ("_passport", "_recorder")

    def __init__(self, passport: Passport, recorder: Recorder) -> None:
        self._passport = passport
        self._recorder = recorder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._passport.handled is None:
                self._nobody_had_it(sys._getframe(1).f_locals)  # noqa: SLF001  # the runtime's `_process_publish`
        except BaseException as broken:
            fault("stage.publish", broken)

    def _nobody_had_it(self, process_publish: Mapping[str, Any]) -> None:
        recipients = process_publish.get("recipients")
        if recipients is None:
            return  # another runtime's way of publishing
        sender = process_publish["message_envelope"].sender
        if not recipients:
            self._recorder.lost_message(self._passport.tenant.id, Outcome.UNHANDLED)
        elif any(recipient != sender for recipient in recipients):
            # One of the agents could not be made: AutoGen then gives the message to none of the others either.
            self._recorder.lost_message(self._passport.tenant.id, Outcome.ERROR)


class _Handling(Stage):
    """`process`: the handler runs inside.

    Its span stays current when it has ended, for what is left of its task: there AutoGen logs what the handler raised.
    """

    __slots__ = ("_passport", "_recorder", "_scope", "_turn")

    def __init__(self, scope: Scope, passport: Passport | None, recorder: Recorder, turn: Turn | None) -> None:
        self._scope = scope
        self._passport = passport
        self._recorder = recorder
        self._turn = turn

    def __enter__(self) -> Span:
        self._scope.__enter__()
        if self._turn is not None:
            self._turn.begin()
        return INVALID_SPAN

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        passport = self._passport
        if passport is not None:
            passport.ended = True
            if passport.abandoned:
                self._nobody_waited(passport)
        exceeded = None
        if self._turn is not None:
            exceeded = self._turn.end(kind, kind is not None and nobody_waits(sys._getframe(1)))  # noqa: SLF001
        if exceeded is None:
            self._scope.close(kind)
        else:
            self._scope.close(TurnBudgetExceeded)
            raise exceeded from error

    def _nobody_waited(self, passport: Passport) -> None:
        try:
            self._scope.activity.abandoned = True
            self._recorder.abandoned(passport.tenant.name, -1)
        except BaseException as broken:
            fault("stage.process", broken)


NO_STAGE: Final = Stage()
_NOTHING: Final = About()


#: Told of a message whose handler begins: on which loop, the slot of its tenant, for how many nanoseconds it waited.
Queued = Callable[[asyncio.AbstractEventLoop, int, int], None]


class TraceTap:
    """Stands where AutoGen's `TraceHelper` stands."""

    def __init__(
        self,
        recorder: Recorder,
        isolation: Isolation,
        resolver: Resolver | None,
        tiers: budgets.Tiers,
        overran: Overran,
        queued: Queued,
    ) -> None:
        self._recorder = recorder
        self._isolation = isolation
        self._resolver = resolver
        self._tiers = tiers
        self._overran = overran
        self._queued = queued

    def trace_block(
        self,
        operation: str,
        destination: Any,
        parent: Any,
        *,
        attributes: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Stage:
        """What `TraceHelper.trace_block` is to AutoGen; see the table above. Never raises."""
        try:
            if operation == "process":
                return self.process(destination, parent, attributes if type(attributes) is About else _NOTHING)
            if operation == "create":
                return self.create(destination)
            if type(parent) is Passport:
                if operation == "intercept":
                    tenancy.bind(parent.binding)
                    budgets.bind(parent.budget)
                elif operation == "ack":
                    tenancy.bind(parent.binding)
                    self.answered(parent.tenant, parent.sent_ns)
                elif operation in ("send", "publish"):
                    DELIVERING.set(parent)
                    tenancy.bind(parent.binding)
                    budgets.bind(parent.budget)
                    made = _Delivering if operation == "send" else _Publishing
                    return made(parent, self._recorder)
        except BaseException as error:
            fault("stage", error)
        return NO_STAGE

    def answered(self, tenant: tenancy.Tenant, sent_ns: int | None) -> None:
        """A response that was sent then is about to reach its caller."""
        if sent_ns is not None:
            self._recorder.responded(tenant.id, max(0, self._recorder.clock() - sent_ns) / 1e9)

    def create(self, destination: Any) -> Stage:
        """The stage of a message that is about to be sent or published. May raise."""
        stage: Stage = _Sending(self._recorder) if type(destination) is AgentId else NO_STAGE
        if self._resolver is not None and tenancy.current() is None:
            try:
                named = self._resolver(destination)
                if named is not None:
                    return _Resolved(tenancy.TABLE.intern(named), stage)
            except BaseException as error:
                fault("resolver", error)
        return stage

    def process(self, agent_id: AgentId, passport: object, about: About) -> Stage:
        """The stage of a handler that is about to begin, in its own task. May raise."""
        now = self._recorder.clock()
        tenant = tenancy.current() or tenancy.TABLE.unknown
        activity = Activity(Kind.PROCESS, tenant, name_of(agent_id.type), now)
        if about:
            kind = about[MESSAGE_TYPE]  # a class; or its name, of a message that was read from the wire
            activity.message_type = name_of(kind if type(kind) is str else kind.__name__)
        activity.message_kind = about.get(KIND)
        sender = about.get(SENDER)
        if sender is not None:
            activity.sender = name_of(sender.type)
        if AGENT in about:
            self._isolation.handled(about[AGENT], tenant)
        if not isinstance(passport, Passport):
            count("passport.foreign")  # sent before we were attached
            scope = self._recorder.scope(activity)
            return _Handling(scope, None, self._recorder, self._turn(scope, None))
        if passport.sent_ns is not None:
            waited = max(0, now - passport.sent_ns)
            activity.queue_seconds = waited / 1e9
            self._queued(asyncio.get_running_loop(), tenant.slot, waited)
        activity.conversation = passport.conversation
        scope = self._recorder.scope(activity, passport.context)
        handling = _Handling(scope, passport, self._recorder, self._turn(scope, passport.budget))
        DELIVERING.set(None)
        passport.handled = self._recorder
        if passport.abandoned:  # while the message was waiting
            self._recorder.abandoned(passport.tenant.name, 1)
        return handling

    def _turn(self, scope: Scope, bound: budgets.Bound | None) -> Turn | None:
        """What watches the handler's budget, None when it has none."""
        budget = self._tiers.of(scope.activity.tenant) if bound is None else bound.budget
        return None if budget is None else Turn(self._recorder, self._overran, scope, budget)


async def look_up_agents(
    runtime: Any,
    sender_agent_id: AgentId | None = None,
    recipient_agent_id: AgentId | None = None,
    message_context: Any = None,
    message: Any = None,
) -> Mapping[str, Any]:
    """What AutoGen's `_create_otel_attributes` does to the application, without what it does for AutoGen's spans.

    It makes both agents when they do not exist yet, fails for an unknown sender, and asks the message for its truth
    value. All of that the application can see, so it stays; the payload is not serialised.
    """
    if not sender_agent_id and not recipient_agent_id and not message:
        return _NOTHING
    about = About()
    made = runtime._instantiated_agents  # noqa: SLF001  # stands in for AutoGen's own method
    if sender_agent_id and sender_agent_id not in made:
        await runtime._get_agent(sender_agent_id)  # noqa: SLF001
    if recipient_agent_id:
        agent = made.get(recipient_agent_id)
        about[AGENT] = await runtime._get_agent(recipient_agent_id) if agent is None else agent  # noqa: SLF001
    bool(message)
    about[SENDER] = sender_agent_id
    about[MESSAGE_TYPE] = type(message)
    about[KIND] = None if message_context is None else "send" if message_context.is_rpc else "publish"
    return about
