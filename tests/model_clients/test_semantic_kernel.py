"""Semantic Kernel's own OpenAI connector behind AutoGen's adapter, against a server that speaks OpenAI's protocol."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own, of what it imports
    for module in ("semantic_kernel.connectors.ai.open_ai", "semantic_kernel.memory.null_memory"):
        pytest.importorskip(module, reason="large, so `make test-heavy` alone has it")
    import autogen_ext.models.semantic_kernel  # noqa: F401

from autogen_core.models import UserMessage
from autogen_ext.models.semantic_kernel import SKChatCompletionAdapter
from model_servers import CACHE_READ, INPUT, OUTPUT, REASONING, ModelServer
from openai import AsyncOpenAI
from semantic_kernel import Kernel
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.memory.null_memory import NullMemory

from instrumentation import tenant
from instrumentation.testing import Captured, capture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Semantic Kernel's, of itself


async def call(server: ModelServer, streamed: bool) -> list[str]:
    """One call; what came of it."""
    api = AsyncOpenAI(api_key="s3cr3t-key", base_url=f"{server.url}/v1")
    client = SKChatCompletionAdapter(
        OpenAIChatCompletion("gpt-4o", async_client=api),
        kernel=Kernel(memory=NullMemory()),
        prompt_settings=OpenAIChatPromptExecutionSettings(),
    )
    ask = [UserMessage(content="s3cr3t-prompt", source="u")]
    with tenant("acme"):
        if streamed:
            items: list[Any] = [item async for item in client.create_stream(ask)]
        else:
            items = [await client.create(ask)]
    await api.close()
    return [repr(item) for item in items]


@pytest.mark.parametrize("streamed", [False, True], ids=["create", "create_stream"])
def test_what_a_call_says(server: ModelServer, captured: Captured, streamed: bool) -> None:
    """Model, provider, tokens, retries; of a stream also the tokens that Semantic Kernel does not pass on."""
    server.failures.append(429)
    asyncio.run(call(server, streamed))
    (span,) = captured.spans()
    about = dict(span.attributes or {})
    assert (about["gen_ai.request.model"], about["gen_ai.provider.name"]) == ("gpt-4o", "semantic_kernel")
    assert (about["http.response.status_code"], about["http.request.resend_count"]) == (200, 1)
    assert about["gen_ai.usage.input_tokens"] == INPUT
    assert about["gen_ai.usage.output_tokens"] == OUTPUT
    assert about.get("gen_ai.usage.cache_read.input_tokens") == (CACHE_READ if streamed else None)
    assert about.get("gen_ai.usage.reasoning.output_tokens") == (REASONING if streamed else None)
    assert ("gen_ai.response.time_to_first_chunk" in about) == streamed
    assert "s3cr3t" not in span.to_json()


@pytest.mark.parametrize("streamed", [False, True], ids=["create", "create_stream"])
def test_a_watched_adapter_does_what_a_bare_one_does(server: ModelServer, streamed: bool) -> None:
    """Result, or pieces."""
    bare = asyncio.run(call(server, streamed))
    with capture():
        assert asyncio.run(call(server, streamed)) == bare
