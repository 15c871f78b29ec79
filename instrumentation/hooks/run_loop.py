"""A run loop that ends with an exception: from then on its runtime handles nothing any more.

With `ignore_unhandled_exceptions=False`, as AgentChat has it, AutoGen keeps what a handler of a published message
raised, in one place for all of them, and raises it in the run loop at the next message. Whose message it was is still
to be read in the exception's traceback.
"""

from __future__ import annotations

from instrumentation import tenancy
from instrumentation.activity import name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder

from .passport import Passport


def ended(recorder: Recorder, error: BaseException) -> None:
    """`error` came out of the run loop. Never raises."""
    try:
        recorder.error(_tenant(error).id, "run_loop", name_of(type(error).__name__))
    except Exception as broken:
        fault("run_loop", broken)


def _tenant(error: BaseException) -> tenancy.Tenant:
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_name == "_process_publish":
            passport = step.tb_frame.f_locals["message_envelope"].metadata
            if type(passport) is Passport:
                return passport.tenant
        step = step.tb_next
    return tenancy.TABLE.unknown
