"""For the application's own logs: who a line is about, and where it is in the trace.

    structlog.configure(processors=[instrumentation.logs.add_context, ..., structlog.processors.JSONRenderer()])

    handler.addFilter(instrumentation.logs.ContextFilter())
    handler.setFormatter(logging.Formatter("%(tenant_id)s %(trace_id)s %(message)s"))

Nothing is configured here and no handler is made: what the application logs, where to and how stays its own.
Outside of a tenant, a conversation or a trace, structlog's event lacks the key and logging's record has an empty text.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any, Final

from opentelemetry import context as otel
from opentelemetry.trace import get_current_span

from . import tenancy
from .conventions import CONVERSATION_ID, TENANT_ID
from .diagnostics import fault
from .telemetry.recorder import current_activity

# As OpenTelemetry names them in logs that are no OTLP.
TRACE_ID: Final = "trace_id"
SPAN_ID: Final = "span_id"
#: What a record of logging is given: attributes cannot have dots where a format string names them.
_RECORD_ATTRIBUTES: Final = {
    TENANT_ID: "tenant_id",
    CONVERSATION_ID: "conversation_id",
    TRACE_ID: "trace_id",
    SPAN_ID: "span_id",
}


def add_context(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: adds `tenant.id`, `gen_ai.conversation.id`, `trace_id` and `span_id`, as far as there are
    any. A key that the application set itself stays as it is. Never raises."""
    for key, value in _context().items():
        event.setdefault(key, value)
    return event


class ContextFilter(logging.Filter):
    """A filter that lets everything through, with the attributes `tenant_id`, `conversation_id`, `trace_id` and
    `span_id` on the record. On a handler it sees the records of all loggers. Never raises."""

    def filter(self, record: logging.LogRecord) -> bool:
        about = _context()
        for key, attribute in _RECORD_ATTRIBUTES.items():
            if not hasattr(record, attribute):
                setattr(record, attribute, about.get(key, ""))
        return True


def _context() -> dict[str, str]:
    about: dict[str, str] = {}
    try:
        tenant = tenancy.current_tenant()
        if tenant is not None:
            about[TENANT_ID] = tenant
        context = otel.get_current()
        activity = current_activity(context)
        if activity is not None and activity.conversation is not None:
            about[CONVERSATION_ID] = activity.conversation
        span = get_current_span(context).get_span_context()
        if span.is_valid:
            about[TRACE_ID] = f"{span.trace_id:032x}"
            about[SPAN_ID] = f"{span.span_id:016x}"
    except Exception as error:
        fault("logs.context", error)
    return about
