"""Handoffs: an agent passes the conversation on to another, or to a person, by calling a tool.

AutoGen makes that tool from the agent's own list of handoffs, which says who the target is: `gen_ai.transfer.*` on the
span of the tool, as the GenAI conventions propose. A handoff that an agent makes up without such a list is not marked.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from typing import Any

from instrumentation.activity import Activity, name_of
from instrumentation.telemetry.recorder import Recorder

from .streams import observed

#: The list of the agent that is at work: the names of its handoffs' tools, and what AutoGen knows of each.
_HANDOFFS: ContextVar[dict[str, Any] | None] = ContextVar("tenantscope_handoffs", default=None)


def on_messages_stream(original: Callable[..., AsyncGenerator[Any, Any]], recorder: Recorder) -> Callable[..., Any]:
    """`BaseChatAgent.on_messages_stream`: with its list of handoffs at hand, if it has one."""

    @functools.wraps(original)
    def with_handoffs(self: Any, *args: Any, **kwargs: Any) -> Any:
        stream = original(self, *args, **kwargs)
        handoffs = vars(self).get("_handoffs") if hasattr(self, "__dict__") else None
        return observed(stream, hold=(_HANDOFFS, handoffs)) if type(handoffs) is dict and handoffs else stream

    return with_handoffs


def mark(activity: Activity) -> None:
    """Note the target, when this call of a tool is a handoff; may raise."""
    handoffs = _HANDOFFS.get()
    if handoffs is not None and activity.name in handoffs:
        activity.transfer_target = name_of(handoffs[activity.name].target)
