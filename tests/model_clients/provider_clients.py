"""AutoGen's own clients for four providers, pointed at the server of `model_servers.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autogen_core.models import ChatCompletionClient, CreateResult, ModelFamily, UserMessage
from autogen_ext.models.anthropic import AnthropicChatCompletionClient
from autogen_ext.models.azure import AzureAIChatCompletionClient
from autogen_ext.models.ollama import OllamaChatCompletionClient
from autogen_ext.models.openai import AzureOpenAIChatCompletionClient, OpenAIChatCompletionClient
from azure.core.credentials import AzureKeyCredential

ASK = [UserMessage(content="s3cr3t-prompt", source="s3cr3t-user")]
KEY = "s3cr3t-key"
INFO: Any = {
    "vision": False, "function_calling": True, "json_output": False, "structured_output": False,
    "family": ModelFamily.UNKNOWN,
}  # fmt: skip


@dataclass(frozen=True)
class Provider:
    """A client, and what is known of it: what its spans should say."""

    name: str
    model: str
    make: Callable[[str], ChatCompletionClient]
    retries: bool
    stream_arguments: tuple[tuple[str, Any], ...] = ()


def _azure(url: str) -> ChatCompletionClient:
    return AzureAIChatCompletionClient(
        model="gpt-4o", endpoint=url, credential=AzureKeyCredential(KEY), model_info=INFO
    )


PROVIDERS = {
    "openai": Provider(
        "openai", "gpt-4o",
        lambda url: OpenAIChatCompletionClient(model="gpt-4o", api_key=KEY, base_url=f"{url}/v1", model_info=INFO),
        retries=True, stream_arguments=(("include_usage", True),),
    ),
    "azure openai": Provider(
        "azure.ai.openai", "gpt-4o",
        lambda url: AzureOpenAIChatCompletionClient(
            model="gpt-4o", azure_deployment="d", api_version="2024-06-01", azure_endpoint=url, api_key=KEY,
            model_info=INFO,
        ),
        retries=True, stream_arguments=(("include_usage", True),),
    ),
    "anthropic": Provider(
        "anthropic", "claude-sonnet-4-5",
        lambda url: AnthropicChatCompletionClient(
            model="claude-sonnet-4-5", api_key=KEY, base_url=url, model_info=INFO
        ),
        retries=True,
    ),
    "ollama": Provider(
        "ollama", "llama3.2",
        lambda url: OllamaChatCompletionClient(model="llama3.2", host=url, model_info=INFO), retries=False,
    ),
    "azure ai": Provider("azure.ai.inference", "gpt-4o", _azure, retries=False),
}  # fmt: skip


async def call(client: ChatCompletionClient, streamed: bool, **arguments: Any) -> list[Any]:
    """What one call gives: the pieces of the stream, or the one result."""
    if streamed:
        return [item async for item in client.create_stream(ASK, **arguments)]
    return [await client.create(ASK, **arguments)]


def result_of(items: list[Any]) -> CreateResult:
    result = items[-1]
    assert isinstance(result, CreateResult)
    return result
