"""What a message carries through the queue, and what becomes of it on the way.

AutoGen writes a piece of metadata onto every envelope, in the sender's context; a `Passport` stands in. The sender may
give up waiting while the handler runs on: the passport is what the two of them share, so it is where they meet.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Protocol

from opentelemetry import context as otel
from opentelemetry.context import Context

from instrumentation import budgets, tenancy
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder


class Passport:
    """Tenant, budget, trace context and time of sending. Stands in for AutoGen's `EnvelopeMetadata` and has its fields.

    Attributes:
        handled: a handler has had the message.
        ended: the handler is through (of a send, which has one).
        abandoned: the caller gave up waiting before that.
    """

    __slots__ = ("abandoned", "binding", "budget", "context", "ended", "handled", "sent_ns")

    traceparent: str | None = None
    tracestate: str | None = None
    links = None

    def __init__(
        self, binding: tenancy.Binding | None, budget: budgets.Bound | None, context: Context, sent_ns: int
    ) -> None:
        self.binding = binding
        self.budget = budget
        self.context = context
        self.sent_ns = sent_ns
        self.handled = self.ended = self.abandoned = False

    @property
    def tenant(self) -> tenancy.Tenant:
        """Whose message it is."""
        return tenancy.TABLE.unknown if self.binding is None else self.binding.tenant

    def give_up(self, recorder: Recorder) -> None:
        """The caller does not wait any more."""
        if not self.ended and not self.abandoned:
            self.abandoned = True
            if self.handled:
                recorder.abandoned(self.tenant.id, 1)


class Caller(Protocol):
    """A `send_message` that has begun, and the passport that its message gets."""

    passport: Passport | None


#: The send that is about to put its message into the queue: between the two, AutoGen awaits nothing.
CALLING: ContextVar[Caller | None] = ContextVar("tenantscope_calling", default=None)


def issue_passport() -> Passport | None:
    """Called in the sender's context, once a message or response; without a passport a message is nobody's."""
    try:
        binding = tenancy.BOUND.get()
        passport = Passport(
            None if binding is None else binding.tenant.binding,
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
