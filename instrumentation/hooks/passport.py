"""What a message carries through the queue, and what becomes of it on the way.

AutoGen writes a piece of metadata onto every envelope, in the sender's context; a `Passport` stands in. The sender may
give up waiting while the handler runs on: the passport is what the two of them share, so it is where they meet.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from opentelemetry import context as otel
from opentelemetry.context import Context

from instrumentation import budgets, tenancy
from instrumentation.activity import name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder


class Passport:
    """Tenant, budget, trace context and time of sending. Stands in for AutoGen's `EnvelopeMetadata` and has its fields.

    Attributes:
        sent_ns: monotonic; None when another machine's clock has it.
        handled: a handler has had the message: who watches it, which after a restart is not who saw the message sent.
        ended: the handler is through (of a send, which has one).
        abandoned: the caller gave up waiting before that.
    """

    __slots__ = ("abandoned", "binding", "budget", "context", "ended", "handled", "sent_ns")

    conversation: str | None = None  # known from the context, as long as that is of this process
    traceparent: str | None = None
    tracestate: str | None = None
    links = None

    def __init__(
        self, binding: tenancy.Binding | None, budget: budgets.Bound | None, context: Context, sent_ns: int | None
    ) -> None:
        self.binding = binding
        self.budget = budget
        self.context = context
        self.sent_ns = sent_ns
        self.handled: Recorder | None = None
        self.ended = self.abandoned = False

    @property
    def tenant(self) -> tenancy.Tenant:
        """Whose message it is."""
        return tenancy.TABLE.unknown if self.binding is None else self.binding.tenant

    def give_up(self, recorder: Recorder, kind: type[BaseException]) -> None:
        """The caller does not wait any more; this kind of exception ended it."""
        if not self.ended and not self.abandoned:
            self.abandoned = True
            if self.handled is not None:
                self.handled.abandoned(self.tenant.name, 1)


class PassportAbroad(Passport):
    """That of a message to or from another process, where it is trace context (see `tracestate.py`).

    Attributes:
        trace_id: the trace that the message goes out with, or came in with; None of one that came without.
        conversation: what the sender's process said of it.
        marked: an entry of ours came with it, believed or not.
        believed: one of our keys vouches for what that says.
    """

    __slots__ = ("__weakref__", "believed", "conversation", "marked", "trace_id")

    def __init__(
        self, binding: tenancy.Binding | None, budget: budgets.Bound | None, context: Context, sent_ns: int | None
    ) -> None:
        super().__init__(binding, budget, context, sent_ns)
        self.trace_id: int | None = None
        self.conversation: str | None = None
        self.marked = self.believed = False

    def give_up(self, recorder: Recorder, kind: type[BaseException]) -> None:
        """The caller does not wait any more. Whether a handler runs on is not known here."""
        if not self.ended:
            recorder.error(self.tenant.id, "send", name_of(kind.__name__))


class Awaited:
    """Calls that another process owes an answer to, by runtime and AutoGen's number of the call.

    A passport lives as long as its caller waits, so nothing needs to be taken out again.
    """

    def __init__(self) -> None:
        self._passports: WeakValueDictionary[tuple[int, str], PassportAbroad] = WeakValueDictionary()

    def put(self, runtime: object, request_id: str, passport: PassportAbroad) -> None:
        """The call is about to go out."""
        self._passports[id(runtime), request_id] = passport

    def get(self, runtime: object, request_id: str) -> PassportAbroad | None:
        """That of a call; None when nobody waits for it any more."""
        return self._passports.get((id(runtime), request_id))

    def passports(self) -> list[PassportAbroad]:
        """All of this moment, from any thread."""
        return [passport for ref in self._passports.valuerefs() if (passport := ref()) is not None]


P = TypeVar("P", bound=Passport)


class Caller(Protocol):
    """A `send_message` that has begun, and the passport that its message gets."""

    passport: Passport | None


#: The send that is about to put its message into the queue: between the two, AutoGen awaits nothing.
CALLING: ContextVar[Caller | None] = ContextVar("tenantscope_calling", default=None)


def issue_passport(kind: type[P] = Passport) -> P | None:  # type: ignore[assignment]  # mypy has no such default
    """Called in the sender's context, once a message or response; without a passport a message is nobody's."""
    try:
        binding = tenancy.BOUND.get()
        passport = kind(
            None if binding is None else binding.carried(),
            budgets.BOUND.get(),
            otel.get_current(),
            time.monotonic_ns(),
        )
        caller = CALLING.get()
        if caller is not None:
            caller.passport = passport
            CALLING.set(None)
        return passport
    except BaseException as error:
        fault("passport", error)
        return None
