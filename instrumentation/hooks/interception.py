"""The intervention handler that stands before those of the application, and lets everything through.

AutoGen opens an `intercept` stage for every handler of every message, in the run loop and just before it makes the
message's task: that is where the tenant is bound (see `runtime.py`), for the handlers after us. First, because handlers
do not chain: the last result wins, so an observer that comes last would undo what the application's handler changed.

Where the application has no handlers there is nothing of ours either: the message's task binds the tenant itself.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, FunctionType, SimpleNamespace
from typing import Any

from autogen_core import AgentId, DefaultInterventionHandler, DropMessage, MessageContext

from instrumentation import tenancy
from instrumentation.activity import Outcome
from instrumentation.conventions import OTHER_ERROR
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder

from .passport import Passport


class TransparentHandler(DefaultInterventionHandler):
    """Returns every message as it came."""

    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        return message

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
        return message

    async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
        return message


class First:
    """Our handler, then the application's: its list is walked as the run loop would, not copied.

    A walk that ends early has lost the message: a handler dropped it, which AutoGen says, or raised, which of a
    published message nobody hears.
    """

    __slots__ = ("_handler", "_own", "_recorder")

    def __init__(self, handler: TransparentHandler, own: Iterable[Any], recorder: Recorder) -> None:
        self._handler = handler
        self._own = own
        self._recorder = recorder

    def __iter__(self) -> Iterator[Any]:
        yield self._handler
        _bind_to(sys._getframe(1))  # noqa: SLF001
        try:
            yield from self._own
        except GeneratorExit:
            _ended_early(sys._getframe(1), self._recorder)  # noqa: SLF001
            raise


def _bind_to(run_loop: FrameType) -> None:
    """Bind the tenant of the message at hand: for a response, AutoGen opens no `intercept` stage that would."""
    try:
        passport = run_loop.f_locals["message_envelope"].metadata
        if type(passport) is Passport:
            tenancy.bind(passport.binding)
    except Exception as error:
        fault("intercept.bind", error)


def _ended_early(run_loop: FrameType, recorder: Recorder) -> None:
    try:
        result = run_loop.f_locals.get("temp_message")
        if result is not DropMessage and not isinstance(result, DropMessage):
            tenant = (tenancy.current() or tenancy.TABLE.unknown).id
            recorder.lost_message(tenant, Outcome.ERROR)
            recorder.error(tenant, "intercept", OTHER_ERROR)
    except Exception as error:
        fault("intercept.end", error)


def quiet_about(handler: TransparentHandler, warn_if_none: Any) -> Callable[[Any, str], None]:
    """AutoGen's `_warn_if_none`, silent when it is our handler that passed on a None.

    A response of None is ordinary; AutoGen takes a None from a handler for a mistake and warns, which without us it
    would not. For the application's handlers it warns as before, and at the same place in the code.
    """

    def warn(message: str, category: type[Warning], stacklevel: int) -> None:
        warnings.warn(message, category, stacklevel=stacklevel + 2)  # this frame, and the one below

    loud = FunctionType(
        warn_if_none.__code__, {"warnings": SimpleNamespace(warn=warn), "RuntimeWarning": RuntimeWarning}
    )

    def warn_unless_ours(value: Any, method: str) -> None:
        if value is None and sys._getframe(1).f_locals.get("handler") is not handler:  # noqa: SLF001
            loud(value, method)

    return warn_unless_ours
