"""Every name that the library puts on the wire: span attributes, resource attributes, metrics, buckets.

The tables here are the only source: spans, metrics, documents, dashboards and the sidecar's default policy are checked
against them. Names follow OpenTelemetry's semantic conventions where one exists (GenAI; for the event loop those of
Node.js, the only runtime that has any); `tenant.id` is what multi-tenant systems use, no convention defines one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SCOPE: Final = "tenantscope"

# Attributes ---------------------------------------------------------------------------------------------------------
TENANT_ID: Final = "tenant.id"
AGENT_TYPE: Final = "autogen.agent.type"
MESSAGE_TYPE: Final = "autogen.message.type"
MESSAGE_KIND: Final = "autogen.message.kind"
MESSAGE_SENDER: Final = "autogen.message.sender"
MESSAGE_OUTCOME: Final = "autogen.message.outcome"
MESSAGE_QUEUE_DURATION: Final = "autogen.message.queue.duration"
MESSAGE_ABANDONED: Final = "autogen.message.abandoned"
TURN_BUDGET: Final = "autogen.turn.budget"
TURN_BUDGET_LIMIT: Final = "autogen.turn.budget.limit"
TURN_LOOP_TIME: Final = "autogen.turn.loop.time"
ACTIVITY: Final = "autogen.activity"
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
MODEL_CACHED: Final = "autogen.model.cached"
STATUS_CODE: Final = "http.response.status_code"
RESEND_COUNT: Final = "http.request.resend_count"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  # a kind of token, not a credential
TOOL_ARGUMENTS_SIZE: Final = "autogen.tool.arguments.size"
TOOL_RESULT_SIZE: Final = "autogen.tool.result.size"
MCP_METHOD: Final = "mcp.method.name"
MEMORY_TYPE: Final = "autogen.memory.type"
MEMORY_HITS: Final = "autogen.memory.hits"
AGENT_NAME: Final = "gen_ai.agent.name"
TOOL_NAME: Final = "gen_ai.tool.name"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
TRANSFER_MODE: Final = "gen_ai.transfer.mode"
TRANSFER_TARGET: Final = "gen_ai.transfer.target.name"
STOP_REASON: Final = "autogen.stop_reason"
COMPONENT: Final = "autogen.component"
STATE_SIZE: Final = "autogen.state.size"
STATE_DIGEST: Final = "autogen.state.digest"
STATE_AGENTS: Final = "autogen.state.agents"
ERROR_TYPE: Final = "error.type"
LOOP_STATE: Final = "asyncio.eventloop.state"
REASON: Final = "tenantscope.reason"
RULE: Final = "tenantscope.rule"
VICTIM: Final = "tenantscope.victim"

#: Value of `error.type` where an error is known to have been and its type is not.
OTHER_ERROR: Final = "_OTHER"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: its wire name, its OTLP type, what it says, and whether it stands on spans, metrics or both."""

    name: str
    type: Literal["string", "int", "double", "bool", "string[]"]
    description: str


ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    Attribute(TENANT_ID, "string", "whose work this is; `unknown` without a tenant, `other` without a slot"),
    Attribute(AGENT_TYPE, "string", "type of the agent that handles the message, without AgentChat's team id"),
    Attribute(MESSAGE_TYPE, "string", "class name of the message"),
    Attribute(MESSAGE_KIND, "string", "`send` (the caller waits for the response) or `publish`"),
    Attribute(MESSAGE_SENDER, "string", "type of the sending agent; absent when the application itself sent"),
    Attribute(
        MESSAGE_OUTCOME,
        "string",
        "`ok`, `error`, `cancelled`, `dropped` (by a handler, or by `stop`), `unhandled` (no subscriber)",
    ),
    Attribute(MESSAGE_QUEUE_DURATION, "double", "seconds from the send to the start of the handler"),
    Attribute(MESSAGE_ABANDONED, "bool", "the caller gave up waiting before the handler ended; absent otherwise"),
    Attribute(
        TURN_BUDGET, "string", "which budget a turn is over: `turn` (wall time) or `loop` (time on the event loop)"
    ),
    Attribute(TURN_BUDGET_LIMIT, "double", "seconds that this budget allows"),
    Attribute(TURN_LOOP_TIME, "double", "seconds for which the turn held the event loop"),
    Attribute(
        ACTIVITY,
        "string",
        "what an error counts for: process, chat, execute_tool ...; `intercept` (an intervention handler of the "
        "application's failed), `run_loop` (a background exception ended the runtime's loop); of the distributed "
        "runtime `send` (a caller gave up waiting), `deliver` (the worker went away), `respond` (an answer could not "
        "be written, or nobody waited for it), `connection` (the host went away)",
    ),
    Attribute(OPERATION_NAME, "string", "GenAI operation: chat, execute_tool, create_agent, invoke_agent ..."),
    Attribute(PROVIDER_NAME, "string", "GenAI provider of the model client"),
    Attribute(REQUEST_MODEL, "string", "model that the client asks for"),
    Attribute(RESPONSE_MODEL, "string", "model that answered, as the provider calls it"),
    Attribute(FIRST_CHUNK, "double", "seconds from the begin of a streamed call to its first piece"),
    Attribute(FINISH_REASONS, "string[]", "why the model stopped"),
    Attribute(INPUT_TOKENS, "int", "tokens of the prompt"),
    Attribute(OUTPUT_TOKENS, "int", "tokens of the completion"),
    Attribute(CACHE_READ_TOKENS, "int", "tokens of the prompt that the provider had in its cache"),
    Attribute(CACHE_WRITE_TOKENS, "int", "tokens of the prompt that the provider put into its cache"),
    Attribute(REASONING_TOKENS, "int", "tokens of the completion that the model thought with"),
    Attribute(MODEL_CACHED, "bool", "true: the answer came out of a cache in the application; absent otherwise"),
    Attribute(STATUS_CODE, "int", "status of the provider's last answer over HTTP"),
    Attribute(RESEND_COUNT, "int", "how often the client sent a request of the call again; absent when it did not"),
    Attribute(TOKEN_TYPE, "string", "`input` or `output`"),
    Attribute(AGENT_NAME, "string", "name of the AgentChat agent; of a model or tool call, the agent that makes it"),
    Attribute(TOOL_NAME, "string", "name of the tool"),
    Attribute(
        TOOL_ARGUMENTS_SIZE, "int", "bytes of text in the arguments' names and values; 8 a number; absent if large"
    ),
    Attribute(TOOL_RESULT_SIZE, "int", "bytes of text in the tool's result; absent if it has no text, or large"),
    Attribute(MCP_METHOD, "string", "request of the Model Context Protocol"),
    Attribute(MEMORY_TYPE, "string", "class name of the memory"),
    Attribute(MEMORY_HITS, "int", "entries that a memory found"),
    Attribute(WORKFLOW_NAME, "string", "class name of the AgentChat team"),
    Attribute(CONVERSATION_ID, "string", "a team's conversation, over all its runs; a keyed digest of the team's id"),
    Attribute(TRANSFER_MODE, "string", "`pass_control`: this tool call hands the conversation over"),
    Attribute(TRANSFER_TARGET, "string", "name of the agent or person whom it goes to"),
    Attribute(
        STOP_REASON,
        "string",
        "what ended the team's run: classes of termination conditions, `max_turns`, `graph_complete`, "
        "`already_terminated`, or `manager` (its own decision)",
    ),
    Attribute(
        COMPONENT,
        "string",
        "class of the team, agent or runtime whose state it is; of an agent that a runtime was asked for, its type",
    ),
    Attribute(STATE_SIZE, "int", "bytes of a state's keys and values, in UTF-8 without punctuation"),
    Attribute(STATE_DIGEST, "string", "keyed digest of a state: two that are the same have the same, of one tenant"),
    Attribute(STATE_AGENTS, "int", "agents that a state is of"),
    Attribute(ERROR_TYPE, "string", "class name of the exception; its message is never taken"),
    Attribute(LOOP_STATE, "string", "`active` (in a callback), `framework` (the loop's own work) or `idle`"),
    Attribute(REASON, "string", "why something was dropped, or which observer failed"),
    Attribute(RULE, "string", "isolation rule that was seen broken"),
    Attribute(VICTIM, "string", "tenant whose work waited, where `tenant.id` is the one that it waited for"),
)

RESOURCE_ATTRIBUTES: Final[tuple[str, ...]] = (
    "service.name",
    "service.version",
    "service.namespace",
    "service.instance.id",
    "deployment.environment.name",
    "host.name",
    "process.pid",
    "process.runtime.name",
    "process.runtime.version",
    "telemetry.sdk.name",
    "telemetry.sdk.language",
    "telemetry.sdk.version",
)

# Buckets ------------------------------------------------------------------------------------------------------------
# GenAI conventions: client and tool durations double from 10 ms, tokens go in powers of four.
DURATION_BUCKETS: Final = tuple(0.01 * 2**i for i in range(14))
TOKEN_BUCKETS: Final = tuple(float(4**i) for i in range(14))
# Those of the conventions for the Model Context Protocol.
MCP_BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
STATE_BUCKETS: Final = tuple(float(4**i) for i in range(3, 14))
AGENT_BUCKETS: Final = tuple(0.1 * 2**i for i in range(13))
WORKFLOW_BUCKETS: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
# A message or a wait can be far shorter than a model call: 100 us to 25 s, 2.5 steps a decade.
LOOP_BUCKETS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0,
)  # fmt: skip


# Metrics ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: kind, UCUM unit, meaning, attribute names; `buckets` are upper bounds in the metric's unit."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


LOOP_DELAY: Final = Metric(
    "asyncio.eventloop.delay",
    "histogram",
    "s",
    "how late the loop ran a timer that was due",
    (),
    LOOP_BUCKETS,
)
LOOP_UTILIZATION: Final = Metric(
    "asyncio.eventloop.utilization",
    "gauge",
    "1",
    "share of the last interval in which the loop was not idle",
)
LOOP_TIME: Final = Metric(
    "asyncio.eventloop.time", "counter", "s",
    "time the loop spent in callbacks, by tenant, in its own work (CPU time), or idle; together wall time",
    (LOOP_STATE, TENANT_ID),
)  # fmt: skip
LOOP_CPU_DELAY: Final = Metric(
    "asyncio.eventloop.cpu.delay", "counter", "s",
    "time for which the loops' threads were ready to run and the host had no CPU for them",
)  # fmt: skip
ACTIVE_TENANTS: Final = Metric(
    "autogen.tenants.active", "gauge", "{tenant}",
    "tenants that had an event loop in the last interval; all without a slot count as one",
)  # fmt: skip
TENANTS_BEYOND: Final = Metric(
    "autogen.tenants.beyond", "gauge", "{tenant}",
    "tenants seen of late that have no slot, and so no figures of their own: they are in `other`. Of many, those that "
    "come often, 1024 at most",
)  # fmt: skip
TENANTS_FREED: Final = Metric(
    "autogen.tenants.freed", "counter", "{tenant}", "tenants that were idle and gave their slot back"
)
TENANTS_DISPLACED: Final = Metric(
    "autogen.tenants.displaced", "counter", "{tenant}",
    "tenants that had to give up their slot to one that is much busier, and are in `other` since",
)  # fmt: skip
TENANT_LOOP_TIME: Final = Metric(
    "autogen.tenant.loop.time", "counter", "s", "event-loop time that the tenant had", (TENANT_ID,)
)
TENANT_LOOP_CPU_TIME: Final = Metric(
    "autogen.tenant.loop.cpu.time", "counter", "s",
    "CPU time of the event-loop time that the tenant had; the rest are blocking calls, and waits for the interpreter "
    "or for a CPU",
    (TENANT_ID,),
)  # fmt: skip
TENANT_LOOP_DELAY: Final = Metric(
    "autogen.tenant.loop.delay", "histogram", "s",
    "time that a piece of the tenant's ready work waited for another tenant's slice; an upper bound",
    (TENANT_ID,), LOOP_BUCKETS,
)  # fmt: skip
TENANT_LOOP_DELAY_CAUSED: Final = Metric(
    "autogen.tenant.loop.delay.caused", "counter", "s",
    "time that other tenants' ready work waited for this tenant's slices, summed over all who waited", (TENANT_ID,),
)  # fmt: skip
TENANT_LOOP_DELAY_PAIR: Final = Metric(
    "autogen.tenant.loop.delay.pair", "counter", "s",
    "time that a victim's ready work waited for this tenant's slices; the 32 largest pairs, the rest as `other` and "
    "`other`; an upper bound", (TENANT_ID, VICTIM),
)  # fmt: skip
MESSAGES: Final = Metric(
    "autogen.messages", "counter", "{message}", "messages whose handling ended", (TENANT_ID, MESSAGE_OUTCOME)
)
QUEUE_DURATION: Final = Metric(
    MESSAGE_QUEUE_DURATION, "histogram", "s", "time from the send to the start of the handler",
    (TENANT_ID,), LOOP_BUCKETS,
)  # fmt: skip
QUEUE_SIZE: Final = Metric(
    "autogen.message.queue.size", "gauge", "{message}",
    "messages and responses that wait in the runtimes' queues", (TENANT_ID,),
)  # fmt: skip
AWAITED: Final = Metric(
    "autogen.calls.awaited", "gauge", "{call}",
    "calls through AutoGen's distributed runtime that wait for their answer; for ever, if the agent's process has gone",
    (TENANT_ID,),
)  # fmt: skip
RESPONSE_DURATION: Final = Metric(
    "autogen.message.response.duration", "histogram", "s",
    "time that a response waited in the queue before its caller got it", (TENANT_ID,), LOOP_BUCKETS,
)  # fmt: skip
ABANDONED: Final = Metric(
    "autogen.handlers.abandoned", "gauge", "{handler}",
    "handlers that run on though their caller has given up waiting", (TENANT_ID,),
)  # fmt: skip
AGENTS: Final = Metric(
    "autogen.agents", "gauge", "{agent}",
    "agents that the runtimes keep, by the tenant whose message each handled first; AutoGen never frees one",
    (TENANT_ID, AGENT_TYPE),
)  # fmt: skip
PROCESS_DURATION: Final = Metric(
    "autogen.message.process.duration", "histogram", "s", "time that the handler took, awaits included",
    (TENANT_ID, AGENT_TYPE), LOOP_BUCKETS,
)  # fmt: skip
OPERATION_DURATION: Final = Metric(
    "gen_ai.client.operation.duration", "histogram", "s", "time that a model call took",
    (TENANT_ID, OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL, ERROR_TYPE), DURATION_BUCKETS,
)  # fmt: skip
TOKEN_USAGE: Final = Metric(
    "gen_ai.client.token.usage", "histogram", "{token}", "tokens of a model call",
    (TENANT_ID, OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL, TOKEN_TYPE), TOKEN_BUCKETS,
)  # fmt: skip
AGENT_DURATION: Final = Metric(
    "gen_ai.invoke_agent.duration", "histogram", "s", "time that an AgentChat agent took for its turn",
    (TENANT_ID, AGENT_NAME, ERROR_TYPE), AGENT_BUCKETS,
)  # fmt: skip
WORKFLOW_DURATION: Final = Metric(
    "gen_ai.workflow.duration", "histogram", "s", "time that a run of a team took",
    (TENANT_ID, WORKFLOW_NAME, ERROR_TYPE), WORKFLOW_BUCKETS,
)  # fmt: skip
INPUT_DURATION: Final = Metric(
    "autogen.input.duration", "histogram", "s",
    "time that a UserProxyAgent waited for a person, which is part of the durations of agent and team",
    (TENANT_ID, AGENT_NAME, ERROR_TYPE), WORKFLOW_BUCKETS,
)  # fmt: skip
FIRST_CHUNK_DURATION: Final = Metric(
    "gen_ai.client.operation.time_to_first_chunk", "histogram", "s",
    "time from the begin of a streamed model call to its first piece",
    (TENANT_ID, OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL), DURATION_BUCKETS,
)  # fmt: skip
RATE_LIMITS: Final = Metric(
    "autogen.model.rate_limits", "counter", "{response}",
    "answers with HTTP status 429, also where sending again went well", (TENANT_ID, PROVIDER_NAME, REQUEST_MODEL),
)  # fmt: skip
RESENDS: Final = Metric(
    "autogen.model.resends", "counter", "{request}", "requests of model calls that the client sent again",
    (TENANT_ID, PROVIDER_NAME, REQUEST_MODEL),
)  # fmt: skip
CACHE_HITS: Final = Metric(
    "autogen.model.cache.hits", "counter", "{call}",
    "model calls that a cache in the application answered; they have neither duration nor tokens", (TENANT_ID,),
)  # fmt: skip
# Subsets of a call's tokens. The conventions have had a name for them only since they renamed the rest.
_USAGE: Final = (TENANT_ID, OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL)
CACHE_READ_USAGE: Final = Metric(
    "gen_ai.client.inference.usage.cache_read.input_tokens", "counter", "{token}",
    "tokens of prompts that the provider had in its cache", _USAGE,
)  # fmt: skip
CACHE_WRITE_USAGE: Final = Metric(
    "gen_ai.client.inference.usage.cache_write.input_tokens", "counter", "{token}",
    "tokens of prompts that the provider put into its cache", _USAGE,
)  # fmt: skip
REASONING_USAGE: Final = Metric(
    "gen_ai.client.inference.usage.reasoning.output_tokens", "counter", "{token}",
    "tokens of completions that models thought with", _USAGE,
)  # fmt: skip

# With OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental these take the place of the three above that begin with
# `gen_ai.client.operation` and `gen_ai.client.token`.
INFERENCE_DURATION: Final = Metric(
    "gen_ai.client.inference.duration", "histogram", "s", "latest conventions: time that a model call took",
    (TENANT_ID, OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL, ERROR_TYPE), DURATION_BUCKETS,
)  # fmt: skip
INFERENCE_FIRST_CHUNK: Final = Metric(
    "gen_ai.client.inference.time_to_first_chunk", "histogram", "s",
    "latest conventions: time from the begin of a streamed model call to its first piece",
    (TENANT_ID, OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL), DURATION_BUCKETS,
)  # fmt: skip
INPUT_USAGE: Final = Metric(
    "gen_ai.client.inference.usage.input_tokens", "counter", "{token}", "latest conventions: tokens of prompts", _USAGE
)
OUTPUT_USAGE: Final = Metric(
    "gen_ai.client.inference.usage.output_tokens", "counter", "{token}", "latest conventions: tokens of completions",
    _USAGE,
)  # fmt: skip
INPUT_TOKENS_OF_CALL: Final = Metric(
    "gen_ai.client.inference.operation.input_tokens", "histogram", "{token}",
    "latest conventions: tokens of one call's prompt", (TENANT_ID, OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL),
    TOKEN_BUCKETS,
)  # fmt: skip
OUTPUT_TOKENS_OF_CALL: Final = Metric(
    "gen_ai.client.inference.operation.output_tokens", "histogram", "{token}",
    "latest conventions: tokens of one call's completion", (TENANT_ID, OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL),
    TOKEN_BUCKETS,
)  # fmt: skip
STATE: Final = Metric(
    STATE_SIZE, "histogram", "By", "size of a state that was saved or loaded", (TENANT_ID, ACTIVITY), STATE_BUCKETS
)
ERRORS: Final = Metric(
    "autogen.errors", "counter", "{error}", "activities that ended with an exception",
    (TENANT_ID, ACTIVITY, ERROR_TYPE),
)  # fmt: skip
FINDINGS: Final = Metric(
    "autogen.isolation.findings",
    "counter",
    "{finding}",
    "broken rules of tenant isolation",
    (TENANT_ID, RULE),
)
TURN_OVERRUNS: Final = Metric(
    "autogen.turn.overruns", "counter", "{turn}", "turns that were over their budget", (TENANT_ID, TURN_BUDGET)
)
FAULTS: Final = Metric(
    "tenantscope.faults", "counter", "{event}", "what the library dropped or caught, by reason", (REASON,)
)

TOOL_DURATION: Final = Metric(
    "gen_ai.execute_tool.duration", "histogram", "s", "time that a tool took", (TENANT_ID, TOOL_NAME, ERROR_TYPE),
    DURATION_BUCKETS,
)  # fmt: skip
MCP_DURATION: Final = Metric(
    "mcp.client.operation.duration", "histogram", "s", "time that a server of the Model Context Protocol took",
    (TENANT_ID, MCP_METHOD, ERROR_TYPE), MCP_BUCKETS,
)  # fmt: skip
MEMORY_DURATION: Final = Metric(
    "autogen.memory.duration", "histogram", "s", "time that a memory took",
    (TENANT_ID, ACTIVITY, MEMORY_TYPE, ERROR_TYPE), DURATION_BUCKETS,
)  # fmt: skip
MEMORY_ENTRIES: Final = Metric(
    "autogen.memory.entries", "counter", "{entry}", "entries that queries found", (TENANT_ID, MEMORY_TYPE)
)

#: Of model calls: by the deployed names, by the latest, and what both have in common.
DEPLOYED_METRICS: Final[tuple[Metric, ...]] = (OPERATION_DURATION, TOKEN_USAGE, FIRST_CHUNK_DURATION)
LATEST_METRICS: Final[tuple[Metric, ...]] = (
    INFERENCE_DURATION, INFERENCE_FIRST_CHUNK, INPUT_USAGE, OUTPUT_USAGE, INPUT_TOKENS_OF_CALL, OUTPUT_TOKENS_OF_CALL,
)  # fmt: skip
MODEL_METRICS: Final[tuple[Metric, ...]] = (
    *DEPLOYED_METRICS, *LATEST_METRICS, RATE_LIMITS, RESENDS, CACHE_HITS, CACHE_READ_USAGE, CACHE_WRITE_USAGE,
    REASONING_USAGE,
)  # fmt: skip

METRICS: Final[tuple[Metric, ...]] = (
    LOOP_DELAY, LOOP_UTILIZATION, LOOP_TIME, LOOP_CPU_DELAY, ACTIVE_TENANTS, TENANTS_BEYOND, TENANTS_FREED,
    TENANTS_DISPLACED, TENANT_LOOP_TIME, TENANT_LOOP_CPU_TIME, TENANT_LOOP_DELAY, TENANT_LOOP_DELAY_CAUSED,
    TENANT_LOOP_DELAY_PAIR,
    MESSAGES, QUEUE_DURATION, QUEUE_SIZE, AWAITED, RESPONSE_DURATION, PROCESS_DURATION, ABANDONED, AGENTS,
    *MODEL_METRICS, TOOL_DURATION, MCP_DURATION, MEMORY_DURATION, MEMORY_ENTRIES,
    AGENT_DURATION, WORKFLOW_DURATION, INPUT_DURATION, STATE, ERRORS, FINDINGS,
    TURN_OVERRUNS, FAULTS,
)  # fmt: skip
