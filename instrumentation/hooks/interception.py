"""The intervention handler that stands first on every runtime, and lets everything through.

With at least one handler on the list, AutoGen opens an `intercept` stage for every message, in the run loop and just
before it makes the handler's task: that is where the tenant is bound (see `runtime.py`), for the task and for the
application's own handlers after us. First, because handlers do not chain: the last result wins, so an observer that
comes last would undo what the application's handler changed.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType, SimpleNamespace
from typing import Any

from autogen_core import AgentId, DefaultInterventionHandler, MessageContext


class TransparentHandler(DefaultInterventionHandler):
    """Returns every message as it came."""

    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        return message

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
        return message

    async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
        return message


class First:
    """Our handler, then the application's: its list is walked as the run loop would, not copied."""

    __slots__ = ("_handler", "_own")

    def __init__(self, handler: TransparentHandler, own: Iterable[Any] | None) -> None:
        self._handler = handler
        self._own = own

    def __iter__(self) -> Iterator[Any]:
        yield self._handler
        if self._own is not None:
            yield from self._own


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
