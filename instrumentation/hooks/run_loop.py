"""A run loop that ends: by an exception, after which its runtime handles nothing any more, or by `stop`. What is still
in the queue then is thrown away, and AutoGen says nothing of it: it is counted as dropped.

With `ignore_unhandled_exceptions=False`, as AgentChat has it, AutoGen keeps what a handler of a published message
raised, in one place for all of them, and raises it in the run loop at the next message. Whose message it was is still
to be read in the exception's traceback.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from autogen_core._single_threaded_agent_runtime import ResponseMessageEnvelope

from instrumentation import tenancy
from instrumentation.activity import Outcome, name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder

from .passport import Passport


def ended(recorder: Recorder, error: BaseException) -> None:
    """`error` came out of the run loop. Never raises."""
    try:
        recorder.error(_tenant(error).id, "run_loop", name_of(type(error).__name__))
    except Exception as broken:
        fault("run_loop", broken)


def thrown_away(recorder: Recorder, runtime: Any) -> None:
    """`runtime` empties its queue next; responses in it have been counted where they were handled. Never raises."""
    try:
        lost: Counter[str] = Counter()
        for envelope in list(runtime._message_queue._queue):  # noqa: SLF001
            if not isinstance(envelope, ResponseMessageEnvelope):
                passport = envelope.metadata
                tenant = passport.tenant if isinstance(passport, Passport) else tenancy.TABLE.unknown
                lost[tenant.id] += 1
        for tenant_id, messages in lost.items():
            recorder.lost_message(tenant_id, Outcome.DROPPED, messages)
    except Exception as error:
        fault("run_loop.queue", error)


def stop(original: Callable[[Any], Coroutine[Any, Any, None]], recorder: Recorder) -> Callable[..., Any]:
    """`RunContext.stop`, which `stop`, `stop_when` and `close` of a runtime come to."""

    @functools.wraps(original)
    async def counted_stop(self: Any) -> None:
        thrown_away(recorder, self._runtime)  # `original` empties the queue before it awaits anything
        await original(self)

    return counted_stop


def _tenant(error: BaseException) -> tenancy.Tenant:
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_name == "_process_publish":
            passport = step.tb_frame.f_locals["message_envelope"].metadata
            if type(passport) is Passport:
                return passport.tenant
        step = step.tb_next
    return tenancy.TABLE.unknown
