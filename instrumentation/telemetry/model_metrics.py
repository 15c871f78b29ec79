"""What an ended model call adds to the metrics, by the deployed names of the GenAI conventions or by the latest.

A call whose work another client did adds nothing: that client's call has. An answer out of a cache is counted as such,
and has no duration, for a tenth of a millisecond says nothing about a model.
"""

from __future__ import annotations

from instrumentation import conventions as names
from instrumentation.activity import Kind, ModelCall
from instrumentation.telemetry.accumulators import Accumulators

_CHAT = Kind.CHAT.value


def by_deployed_names(into: Accumulators, call: ModelCall, seconds: float) -> None:
    """`gen_ai.client.operation.duration`, `gen_ai.client.token.usage`; the caller holds the lock."""
    if _is_counted(into, call):
        who = (call.tenant.id, _CHAT, call.provider, call.name)
        if not call.untimed:
            into.of(names.OPERATION_DURATION).record((*who, call.error_type), seconds)
        if call.first_chunk_seconds is not None:
            into.of(names.FIRST_CHUNK_DURATION).record(who, call.first_chunk_seconds)
        if call.input_tokens is not None:
            into.of(names.TOKEN_USAGE).record((*who, "input"), call.input_tokens)
        if call.output_tokens is not None:
            into.of(names.TOKEN_USAGE).record((*who, "output"), call.output_tokens)


def by_latest_names(into: Accumulators, call: ModelCall, seconds: float) -> None:
    """`gen_ai.client.inference.*`; the caller holds the lock."""
    if _is_counted(into, call):
        who = (call.tenant.id, _CHAT, call.provider, call.name)
        if not call.untimed:
            into.of(names.INFERENCE_DURATION).record((*who, call.error_type), seconds)
        if call.first_chunk_seconds is not None:
            into.of(names.INFERENCE_FIRST_CHUNK).record(who, call.first_chunk_seconds)
        if call.input_tokens is not None:
            into.of(names.INPUT_USAGE).add(who, call.input_tokens)
            into.of(names.INPUT_TOKENS_OF_CALL).record(who, call.input_tokens)
        if call.output_tokens is not None:
            into.of(names.OUTPUT_USAGE).add(who, call.output_tokens)
            into.of(names.OUTPUT_TOKENS_OF_CALL).record(who, call.output_tokens)


def _is_counted(into: Accumulators, call: ModelCall) -> bool:
    """Whether the call has a duration and tokens of its own; adds what is named the same in both conventions."""
    if call.delegated:
        return False
    tenant = call.tenant.id
    if call.cached:
        into.of(names.CACHE_HITS).add((tenant,), 1)
        return False
    client = (tenant, call.provider, call.name)
    if call.rate_limits:
        into.of(names.RATE_LIMITS).add(client, call.rate_limits)
    if call.resends:
        into.of(names.RESENDS).add(client, call.resends)
    for metric, tokens in (
        (names.CACHE_READ_USAGE, call.cache_read_tokens),
        (names.CACHE_WRITE_USAGE, call.cache_write_tokens),
        (names.REASONING_USAGE, call.reasoning_tokens),
    ):
        if tokens is not None:
            into.of(metric).add((tenant, _CHAT, call.provider, call.name), tokens)
    return True
