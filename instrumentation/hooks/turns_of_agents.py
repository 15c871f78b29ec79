"""Turns of AgentChat's agents: where AutoGen opens none, and whom a turn hands the conversation over to.

AutoGen opens `invoke_agent` where a team asks an agent, and where one is run alone (see `agents_and_tools.py`). One
that another agent wraps, or that the application asks itself (`on_messages`, `on_messages_stream`), has its turn here.

A handoff is the call of a tool. AutoGen makes it from the agent's own list of handoffs, which says who the target is:
`gen_ai.transfer.*` on the span of the tool, as the GenAI conventions propose. An agent without such a list (a custom
one, `UserProxyAgent`) hands over by what it answers, a `HandoffMessage`: then they are on the span of its turn. Whom it
names there a model may have made up, so it is `unnamed` unless the team knows it.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from instrumentation import tenancy
from instrumentation.activity import UNNAMED, Activity, AgentTurn, TeamRun, name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder, Scope, open_activity

from .streams import observed

#: The list of the agent that is at work: the names of its handoffs' tools, and what AutoGen knows of each.
_HANDOFFS: ContextVar[dict[str, Any] | None] = ContextVar("tenantscope_handoffs", default=None)


def on_messages_stream(original: Callable[..., AsyncGenerator[Any, Any]], recorder: Recorder) -> Callable[..., Any]:
    """`BaseChatAgent.on_messages_stream`: in a turn of the agent's own, and with its list of handoffs at hand."""

    @functools.wraps(original)
    def observed_on_messages_stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        stream = original(self, *args, **kwargs)
        handoffs = _handoffs(self)
        hold = (_HANDOFFS, handoffs) if handoffs else None
        if not _is_its_turn(self):
            note = _answers if handoffs is None else None
            return observed(stream, lambda: _scope(self, recorder), note, hold=hold)
        if handoffs is None:
            turn = open_activity()
            return observed(stream, see=lambda item: _answered(turn, item))
        # What most agents of a team do: nothing to be added, unless it may hand over.
        return stream if hold is None else observed(stream, hold=hold)

    return observed_on_messages_stream


def on_messages(original: Callable[..., Coroutine[Any, Any, Any]], recorder: Recorder) -> Callable[..., Any]:
    """`BaseChatAgent.on_messages`: in a turn of the agent's own. Most agents come from their stream, in one already."""

    @functools.wraps(original)
    async def observed_on_messages(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = None if _is_its_turn(self) else _scope(self, recorder)
        if scope is None:
            response = await original(self, *args, **kwargs)
            if _handoffs(self) is None:
                _answered(open_activity(), response)
            return response
        with scope:
            response = await original(self, *args, **kwargs)
            if _handoffs(self) is None:
                _answered(scope.activity, response)
            return response

    return observed_on_messages


def mark(activity: Activity) -> None:
    """Note the target, when this call of a tool is a handoff; may raise."""
    handoffs = _HANDOFFS.get()
    if handoffs is not None and activity.name in handoffs:
        activity.transfer_target = name_of(handoffs[activity.name].target)


def _handoffs(agent: object) -> dict[str, Any] | None:
    """The agent's list of handoffs; None when it keeps none."""
    try:
        found = vars(agent).get("_handoffs")
    except Exception:  # an agent without attributes of its own
        return None
    return found if type(found) is dict else None


def _answers(scope: Scope, item: object) -> None:
    _answered(scope.activity, item)


def _answered(turn: Activity | None, item: object) -> None:
    """An agent without a list of handoffs answered this, if it is an answer: note to whom it hands over."""
    try:
        from autogen_agentchat.base import Response
        from autogen_agentchat.messages import HandoffMessage

        if type(turn) is AgentTurn and isinstance(item, Response):
            message = item.chat_message
            if isinstance(message, HandoffMessage):
                run = turn.workflow
                is_known = isinstance(run, TeamRun) and message.target in run.targets
                turn.transfer_target = name_of(message.target) if is_known else UNNAMED
    except BaseException as error:
        fault("agent.handoff", error)


def _is_its_turn(agent: object) -> bool:
    """Whether the turn that is open here is this agent's. The first who is at work in it is whom AutoGen opened it for;
    an agent that calls its base class says so again."""
    try:
        turn = open_activity()
        if type(turn) is not AgentTurn:
            return False
        if turn.agent_key is None:
            turn.agent_key = id(agent)
        return turn.agent_key == id(agent)
    except BaseException as error:
        fault("agent.turn", error)
        return True


def _scope(agent: Any, recorder: Recorder) -> Scope | None:
    try:
        turn = AgentTurn(tenancy.current() or tenancy.TABLE.unknown, name_of(agent.name), recorder.clock())
        turn.agent_key = id(agent)
        return recorder.scope(turn)
    except BaseException as error:
        fault("agent", error)
        return None
