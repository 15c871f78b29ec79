"""What an activity's attributes are: its labels, which other activities have too, and its figures, which are its own.

The labels follow from a tuple of fields alone. So whoever makes something of them, the encoder for one, may keep it by
that tuple: the spans of an application differ in times, sizes and conversations, and seldom in anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, Final

from opentelemetry.util.types import AttributeValue

from instrumentation import conventions as names
from instrumentation.activity import Activity, Kind, ModelCall, ToolCall

#: Which attribute an activity's name is.
NAME_ATTRIBUTES: Final = {
    Kind.PROCESS: names.AGENT_TYPE,
    Kind.CREATE: names.AGENT_TYPE,
    Kind.CHAT: names.REQUEST_MODEL,
    Kind.TOOL: names.TOOL_NAME,
    Kind.MCP: names.MCP_METHOD,
    Kind.ADD_MEMORY: names.MEMORY_TYPE,
    Kind.SEARCH_MEMORY: names.MEMORY_TYPE,
    Kind.UPDATE_CONTEXT: names.MEMORY_TYPE,
    Kind.CLEAR_MEMORY: names.MEMORY_TYPE,
    Kind.AGENT: names.AGENT_NAME,
    Kind.WORKFLOW: names.WORKFLOW_NAME,
    Kind.WAIT: names.AGENT_NAME,
    Kind.PAUSE: names.WORKFLOW_NAME,
    Kind.RESUME: names.WORKFLOW_NAME,
    Kind.RESET: names.WORKFLOW_NAME,
    Kind.OVERRUN: names.AGENT_TYPE,
    Kind.SAVE: names.COMPONENT,
    Kind.LOAD: names.COMPONENT,
}
#: What the GenAI conventions have a name for.
_OPERATIONS: Final = frozenset(
    {
        Kind.CHAT,
        Kind.TOOL,
        Kind.CREATE,
        Kind.AGENT,
        Kind.WORKFLOW,
        Kind.ADD_MEMORY,
        Kind.SEARCH_MEMORY,
        Kind.CLEAR_MEMORY,
    }
)
#: A tool call that hands over does not come back to its agent.
_PASS_CONTROL: Final = "pass_control"  # noqa: S105  # control, not a credential

Labels = tuple[Any, ...]
_LABELS: Final = (
    "kind", "tenant.id", "name", "outcome", "error_type", "agent", "transfer_target", "stop_reason", "budget",
    "abandoned", "message_type", "message_kind", "sender",
)  # fmt: skip
_LABELS_OF_ALL: Final[Callable[[Activity], Labels]] = attrgetter(*_LABELS)
_LABELS_OF: Final[dict[type, Callable[[Activity], Labels]]] = {
    ToolCall: attrgetter(*_LABELS, "mcp_method"),
    ModelCall: attrgetter(*_LABELS, "provider", "response_model", "finish_reason", "cached", "status_code", "resends"),
}
_MEMORY_FIGURES: Final = ((names.MEMORY_HITS, "hits"),)
_STATE_FIGURES: Final = (
    (names.STATE_SIZE, "state_size"),
    (names.STATE_DIGEST, "state_digest"),
    (names.STATE_AGENTS, "state_agents"),
)
_TOOL_FIGURES: Final = ((names.TOOL_ARGUMENTS_SIZE, "arguments_size"), (names.TOOL_RESULT_SIZE, "result_size"))
#: Attributes and the fields that they are; a kind that is not named here has none.
_FIGURES: Final[dict[Kind, tuple[tuple[str, str], ...]]] = {
    Kind.PROCESS: ((names.MESSAGE_QUEUE_DURATION, "queue_seconds"),),
    Kind.CHAT: (
        (names.INPUT_TOKENS, "input_tokens"),
        (names.OUTPUT_TOKENS, "output_tokens"),
        (names.CACHE_READ_TOKENS, "cache_read_tokens"),
        (names.CACHE_WRITE_TOKENS, "cache_write_tokens"),
        (names.REASONING_TOKENS, "reasoning_tokens"),
        (names.FIRST_CHUNK, "first_chunk_seconds"),
    ),
    Kind.TOOL: _TOOL_FIGURES,
    Kind.MCP: _TOOL_FIGURES,
    Kind.ADD_MEMORY: _MEMORY_FIGURES,
    Kind.SEARCH_MEMORY: _MEMORY_FIGURES,
    Kind.UPDATE_CONTEXT: _MEMORY_FIGURES,
    Kind.CLEAR_MEMORY: _MEMORY_FIGURES,
    Kind.OVERRUN: ((names.TURN_BUDGET_LIMIT, "limit_seconds"), (names.TURN_LOOP_TIME, "loop_seconds")),
    Kind.SAVE: _STATE_FIGURES,
    Kind.LOAD: _STATE_FIGURES,
}


def attributes_of(activity: Activity) -> dict[str, AttributeValue]:
    """An activity's attributes, as far as they are known by now."""
    return {**attributes_of_labels(labels_of(activity)), **dict(figures_of(activity))}


def labels_of(activity: Activity) -> Labels:
    """The fields that `attributes_of_labels` wants: kind, tenant, name, outcome, and what is nobody else's business."""
    return _LABELS_OF.get(type(activity), _LABELS_OF_ALL)(activity)


def attributes_of_labels(labels: Labels) -> dict[str, AttributeValue]:
    """The attributes that follow from these alone."""
    kind, tenant, name, outcome, error_type, agent, transfer_target, stop_reason, budget = labels[:9]
    abandoned, message_type, message_kind, sender, *more = labels[9:]
    found: dict[str, AttributeValue | None] = {names.TENANT_ID: tenant, NAME_ATTRIBUTES[kind]: name}
    if kind is Kind.PROCESS:
        found[names.MESSAGE_TYPE] = message_type
        found[names.MESSAGE_KIND] = message_kind
        found[names.MESSAGE_SENDER] = sender
        found[names.MESSAGE_OUTCOME] = outcome.value
        found[names.MESSAGE_ABANDONED] = abandoned or None
    elif kind is Kind.OVERRUN:
        found[names.TURN_BUDGET] = budget
        found[names.MESSAGE_OUTCOME] = outcome.value
    elif kind in _OPERATIONS:
        found[names.OPERATION_NAME] = kind.value
        if transfer_target is not None:
            found[names.TRANSFER_MODE] = _PASS_CONTROL
            found[names.TRANSFER_TARGET] = transfer_target
        found[names.STOP_REASON] = stop_reason
    else:
        found[names.ACTIVITY] = kind.value
    if kind in (Kind.CHAT, Kind.TOOL):
        found[names.AGENT_NAME] = agent
    if len(more) == 1:
        found[names.MCP_METHOD] = more[0]
    elif more:
        provider, response_model, finish_reason, cached, status_code, resends = more
        found[names.PROVIDER_NAME] = provider
        found[names.RESPONSE_MODEL] = response_model
        found[names.FINISH_REASONS] = None if finish_reason is None else (finish_reason,)
        found[names.MODEL_CACHED] = cached or None
        found[names.STATUS_CODE] = status_code
        found[names.RESEND_COUNT] = resends or None
    found[names.ERROR_TYPE] = error_type
    return {name: value for name, value in found.items() if value is not None}


def figures_of(activity: Activity) -> Iterator[tuple[str, AttributeValue]]:
    """Names and values of the other attributes."""
    if activity.conversation is not None:
        yield names.CONVERSATION_ID, activity.conversation
    for name, field in _FIGURES.get(activity.kind, ()):
        value = getattr(activity, field, None)
        if value is not None:
            yield name, value
