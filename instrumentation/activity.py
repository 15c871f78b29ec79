"""One thing that AutoGen did: who for, which kind, names, counts, outcome.

An `Activity` has no field that could hold content, and the hooks have no other way to say anything: names are cut to
what a class, an agent type, a tool or a model may be called, an exception leaves its class name and nothing else.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Final

from .tenancy import Tenant

_MAX_NAME: Final = 128
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_.:/\- ]")
# AgentChat appends the team's uuid to its participants' agent types: a name per conversation is no name.
_TEAM_ID: Final = re.compile(r"_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
UNNAMED: Final = "unnamed"


class Kind(StrEnum):
    """What was done; the value is the verb of the span's name and, for GenAI operations, `gen_ai.operation.name`.

    `await_input` is a person's time: `UserProxyAgent` waits for what somebody types.
    """

    PROCESS = "process"
    CREATE = "create_agent"
    CHAT = "chat"
    TOOL = "execute_tool"
    MCP = "mcp"
    ADD_MEMORY = "create_memory"
    SEARCH_MEMORY = "search_memory"
    UPDATE_CONTEXT = "update_context"
    CLEAR_MEMORY = "delete_memory"
    AGENT = "invoke_agent"
    WORKFLOW = "invoke_workflow"
    WAIT = "await_input"
    PAUSE = "pause"
    RESUME = "resume"
    RESET = "reset"
    OVERRUN = "overrun"
    SAVE = "save_state"
    LOAD = "load_state"


class Outcome(StrEnum):
    """How it ended."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    DROPPED = "dropped"
    UNHANDLED = "unhandled"


def name_of(text: object) -> str:
    """`text` as a name: at most 128 characters of `A-Z a-z 0-9 _ . : / -` and blanks, others become `_`.

    The team id that AgentChat appends to agent types is cut off. Empty or foreign input becomes `unnamed`.
    """
    if type(text) is not str:
        if not issubclass(type(text), str):
            return UNNAMED
        text = str.__str__(text)  # its characters, without its own methods
    return _cleaned(text[: _MAX_NAME * 2])


@lru_cache(maxsize=4096)
def _cleaned(text: str) -> str:
    return _NOT_IN_A_NAME.sub("_", _TEAM_ID.sub("", text))[:_MAX_NAME].strip() or UNNAMED


class Activity:
    """One activity, filled in by a hook, handed to telemetry when it begins and when it ends.

    Attributes:
        kind, tenant, name: what, for whom, and the agent type, model, tool, agent or team it is about.
        message_type, message_kind, sender: class name, `send` or `publish`, type of the sending agent (process only).
        queue_seconds: from the send to the start of the handler (process only).
        abandoned: the caller gave up waiting before the end (process only).
        agent: the agent that a model call, a tool call or a wait is for.
        transfer_target: the agent or person whom a tool call hands the conversation over to.
        conversation: an id of the team's conversation, that nothing can be found by but the same conversation.
        workflow: the run of a team that this is a part of; never exported, but the way to it for what is learnt later.
        state_size, state_digest, state_agents: of a state that was saved or loaded: bytes, a keyed digest, agents.
        stop_reason: what ended a team's run: classes of termination conditions, or a word of ours.
        budget, limit_seconds, loop_seconds: which budget a turn is over, what it allows, and how long the turn held the
            event loop (overrun only).
        outcome, error_type: how it ended; the class name of the exception.
        began_ns: `time.monotonic_ns()` at its begin.
        ended: it is over; a task that it left behind may still be in its context.
    """

    __slots__ = (
        "abandoned", "agent", "began_ns", "budget", "conversation", "ended", "error_type", "kind", "limit_seconds",
        "loop_seconds", "message_kind", "message_type", "name", "outcome", "queue_seconds", "sender", "state_agents",
        "state_digest", "state_size", "stop_reason", "tenant", "transfer_target", "workflow",
    )  # fmt: skip

    def __init__(self, kind: Kind, tenant: Tenant, name: str, began_ns: int) -> None:
        self.kind = kind
        self.tenant = tenant
        self.name = name
        self.began_ns = began_ns
        self.message_type: str | None = None
        self.message_kind: str | None = None
        self.sender: str | None = None
        self.queue_seconds: float | None = None
        self.abandoned = False
        self.conversation: str | None = None
        self.agent: str | None = None
        self.transfer_target: str | None = None
        self.workflow: Activity | None = None
        self.stop_reason: str | None = None
        self.budget: str | None = None
        self.limit_seconds: float | None = None
        self.loop_seconds: float | None = None
        self.state_size: int | None = None
        self.state_digest: str | None = None
        self.state_agents: int | None = None
        self.outcome = Outcome.OK
        self.error_type: str | None = None
        self.ended = False

    def under(self, above: Activity) -> None:
        """Learn from the activity that this one happens in."""
        self.workflow = above if above.kind is Kind.WORKFLOW else above.workflow
        self.agent = above.name if above.kind in (Kind.AGENT, Kind.PROCESS) else above.agent
        if above.conversation is not None:
            self.conversation = above.conversation

    def failed(self, kind: type[BaseException]) -> None:
        """Note the exception that ended the activity: its class name, never its message."""
        # By name, so that asyncio's, concurrent.futures' and anyio's cancellations are one outcome.
        self.outcome = Outcome.CANCELLED if kind.__name__ == "CancelledError" else Outcome.ERROR
        self.error_type = name_of(kind.__name__)


class ModelCall(Activity):
    """A call of a model client; `name` is the model that the client asks for.

    Attributes:
        provider, response_model, finish_reason: whose client it is, which model answered, why it stopped.
        input_tokens, output_tokens: as AutoGen's client counts them, `RequestUsage`.
        cache_read_tokens, cache_write_tokens, reasoning_tokens: as the provider counts them, where it does.
        first_chunk_seconds: from the begin to the first piece of a stream.
        cached: the answer came out of a cache in front of the client; it has no tokens.
        untimed: nobody saw it begin, so it has no duration; only AutoGen's event logger told of it.
        delegated: another client, which has a call of its own, did the work: this one is a span, and no figure.
        status_code: of the last answer over HTTP; resends: how often a request was sent again.
        rate_limits: how often the provider said 429, also where a resend went well.
    """

    __slots__ = (
        "cache_read_tokens", "cache_write_tokens", "cached", "delegated", "finish_reason", "first_chunk_seconds",
        "input_tokens", "output_tokens", "provider", "rate_limits", "reasoning_tokens", "resends", "response_model",
        "status_code", "untimed",
    )  # fmt: skip

    def __init__(self, tenant: Tenant, name: str, began_ns: int) -> None:
        super().__init__(Kind.CHAT, tenant, name, began_ns)
        self.provider: str | None = None
        self.response_model: str | None = None
        self.finish_reason: str | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cache_read_tokens: int | None = None
        self.cache_write_tokens: int | None = None
        self.reasoning_tokens: int | None = None
        self.first_chunk_seconds: float | None = None
        self.cached = False
        self.delegated = False
        self.untimed = False
        self.status_code: int | None = None
        self.resends = 0
        self.rate_limits = 0


class ToolCall(Activity):
    """A tool at work.

    Attributes:
        arguments_size, result_size: bytes of text, where counting them is cheap.
        mcp_method: the request of the Model Context Protocol that carried it to its server.
        untold: a workbench was asked, and no tool of it says at the moment that it is at work.
    """

    __slots__ = ("arguments_size", "mcp_method", "result_size", "untold")

    def __init__(self, tenant: Tenant, name: str, began_ns: int) -> None:
        super().__init__(Kind.TOOL, tenant, name, began_ns)
        self.arguments_size: int | None = None
        self.result_size: int | None = None
        self.mcp_method: str | None = None
        self.untold = False


class AgentTurn(Activity):
    """An agent's turn. `agent_key` is `id` of the agent, once it has said that it is at work; never exported."""

    __slots__ = ("agent_key",)

    def __init__(self, tenant: Tenant, name: str, began_ns: int) -> None:
        super().__init__(Kind.AGENT, tenant, name, began_ns)
        self.agent_key: int | None = None


class TeamRun(Activity):
    """A run of a team. Never exported: `team_key`, `id` of the team; `targets`, whom its agents may hand over to."""

    __slots__ = ("targets", "team_key")

    def __init__(
        self, tenant: Tenant, name: str, began_ns: int, team_key: int, targets: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(Kind.WORKFLOW, tenant, name, began_ns)
        self.team_key = team_key
        self.targets = targets


class MemoryUse(Activity):
    """Something that was asked of a memory; `name` is the memory's class, `hits` how many entries were found."""

    __slots__ = ("hits",)

    def __init__(self, kind: Kind, tenant: Tenant, name: str, began_ns: int) -> None:
        super().__init__(kind, tenant, name, began_ns)
        self.hits: int | None = None
