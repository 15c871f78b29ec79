"""A message that has come to a worker of AutoGen's distributed runtime, and which of its names may be believed.

Types of agents and messages are names that a developer gave, and leave the process. But a sender in another process
says of himself what he likes: his names are taken when one of our keys vouches for him, or when they are known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

from autogen_core import JSON_DATA_CONTENT_TYPE, PROTOBUF_DATA_CONTENT_TYPE, AgentId

from .passport import PassportAbroad
from .runtime import AGENT, KIND, MESSAGE_TYPE, SENDER, About
from .tracestate import TRACEPARENT, TRACESTATE

#: Trace context, kind of message, type and key of the sender.
Came = tuple[Mapping[str, str], str, tuple[str, str] | None]
#: AutoGen's attributes of an event.
SENDER_TYPE: Final = "agagentsendertype"
SENDER_KEY: Final = "agagentsenderkey"
_NOBODY: Final = "unknown"  # what AutoGen calls the sender of an event that no agent published


class Arrival:
    """A request or an event that this task works on."""

    __slots__ = ("kind", "passport", "runtime", "sender")

    def __init__(self, runtime: Any, passport: PassportAbroad, kind: str, sender: AgentId | None) -> None:
        self.runtime = runtime
        self.passport = passport
        self.kind = kind
        self.sender = sender


ARRIVED: ContextVar[Arrival | None] = ContextVar("tenantscope_arrived", default=None)


def of_request(request: Any) -> Came:
    """What came with an `RpcRequest`."""
    sender = (request.source.type, request.source.key) if request.HasField("source") else None
    return request.metadata, "send", sender


def of_event(event: Any) -> Came:
    """What came with a `CloudEvent`."""
    about = event.attributes
    metadata = {name: about[name].ce_string for name in (TRACEPARENT, TRACESTATE) if name in about}
    sender = None
    if SENDER_TYPE in about and SENDER_KEY in about:
        sender = about[SENDER_TYPE].ce_string, about[SENDER_KEY].ce_string
    return metadata, "publish", None if sender == (_NOBODY, _NOBODY) else sender


def known_sender(runtime: Any, passport: PassportAbroad, sender: tuple[str, str] | None) -> AgentId | None:
    """The sender, if its type is a name that a developer gave: a stranger may call himself anything."""
    if sender is None or not (passport.believed or sender[0] in runtime._agent_factories):  # noqa: SLF001
        return None
    with suppress(ValueError):  # of an id that AutoGen does not allow
        return AgentId(*sender)
    return None


def about_handling(arrival: Arrival, agent_id: AgentId, message_type: object) -> About:
    """What there is to say of an agent of this process that handles the message."""
    about = About()
    agent = arrival.runtime._instantiated_agents.get(agent_id)  # noqa: SLF001
    if agent is not None:
        about[AGENT] = agent
    about[SENDER] = arrival.sender
    about[KIND] = arrival.kind
    kind = str(message_type)
    registry = arrival.runtime._serialization_registry  # noqa: SLF001
    contents = (JSON_DATA_CONTENT_TYPE, PROTOBUF_DATA_CONTENT_TYPE)
    # A message of a type that nobody registered here arrives as this one, whatever its sender calls it.
    about[MESSAGE_TYPE] = kind if any(registry.is_registered(kind, c) for c in contents) else "UnknownPayload"
    return about
