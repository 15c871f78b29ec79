"""Model clients: one `chat` span a call, with tokens and without words, also for clients that are defined later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import pytest
from autogen_apps import replaying
from autogen_core.models import ChatCompletionClient, CreateResult, RequestUsage, UserMessage
from autogen_ext.models.cache import ChatCompletionCache

from instrumentation import tenant
from instrumentation.testing import Captured

ASK = [UserMessage(content="s3cr3t", source="user")]


def define_client() -> type[ChatCompletionClient]:
    class Base(ChatCompletionClient):
        component_type = "model"
        model = "base-1"

        async def create(self, messages: Sequence[Any], **_: Any) -> CreateResult:  # type: ignore[override]
            if messages is not ASK:
                raise PermissionError("s3cr3t")
            return CreateResult(finish_reason="stop", content="s3cr3t", usage=RequestUsage(5, 2**60), cached=False)

        async def create_stream(self, messages: Sequence[Any], **_: Any) -> AsyncGenerator[Any, None]:  # type: ignore[override]
            yield "s3"
            yield "cr3t"
            yield await Base.create(self, messages)

        async def close(self) -> None: ...
        def actual_usage(self) -> RequestUsage:
            return RequestUsage(0, 0)

        total_usage = actual_usage

        def count_tokens(self, messages: Sequence[Any], **_: Any) -> int:  # type: ignore[override]
            return 0

        remaining_tokens = count_tokens

        @property
        def capabilities(self) -> Any:
            return {}

        @property
        def model_info(self) -> Any:
            return {}

    class Derived(Base):
        async def create(self, messages: Sequence[Any], **kwargs: Any) -> CreateResult:  # type: ignore[override]
            return await super().create(messages, **kwargs)

    return Derived


def chats(captured: Captured) -> list[Mapping[str, Any]]:
    return [span.attributes or {} for span in captured.spans() if span.name.startswith("chat")]


def test_a_client_defined_after_start_is_seen_once(captured: Captured) -> None:
    """A subclass that calls its base class makes one call, not two; an absurd token count is left out."""
    client = define_client()()

    async def main() -> None:
        with tenant("acme"):
            assert (await client.create(ASK)).content == "s3cr3t"

    asyncio.run(main())
    assert chats(captured) == [
        {
            "tenant.id": "acme",
            "gen_ai.request.model": "base-1",
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "custom",
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.response.finish_reasons": ("stop",),
        }
    ]


def test_a_stream_gives_the_same_items_and_one_span(captured: Captured) -> None:
    """Streaming counts tokens too; the inner call of the same client is part of it."""
    client = define_client()()

    async def main() -> list[Any]:
        return [item async for item in client.create_stream(ASK)]

    items = asyncio.run(main())
    assert items[:2] == ["s3", "cr3t"]
    assert isinstance(items[2], CreateResult)
    assert [chat["gen_ai.usage.input_tokens"] for chat in chats(captured)] == [5]


def test_a_failing_call_fails_the_same_way(captured: Captured) -> None:
    """The exception arrives as it was raised; its type is noted, its text is not."""
    client = define_client()()

    async def main() -> None:
        with pytest.raises(PermissionError, match="s3cr3t"):
            await client.create([])
        with pytest.raises(PermissionError, match="s3cr3t"):
            async for _ in client.create_stream([]):
                pass

    asyncio.run(main())
    assert [chat["error.type"] for chat in chats(captured)] == ["PermissionError"] * 2
    assert "s3cr3t" not in str(chats(captured))


def test_streams_accept_what_generators_accept(captured: Captured) -> None:
    """asend and athrow reach the inside of a stream."""
    client = define_client()()

    async def main() -> None:
        stream = client.create_stream(ASK)
        assert await anext(stream) == "s3"
        assert await stream.asend(None) == "cr3t"
        with pytest.raises(ZeroDivisionError):
            await stream.athrow(ZeroDivisionError())
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(main())
    assert [chat["error.type"] for chat in chats(captured)] == ["ZeroDivisionError"]


def test_tokens_by_tenant(captured: Captured) -> None:
    """`gen_ai.client.token.usage` sums what each tenant's calls used."""

    async def main() -> None:
        client = replaying("one two three", "four")
        for who in ("acme", "globex"):
            with tenant(who):
                await client.create(ASK)

    asyncio.run(main())
    points = captured.points("gen_ai.client.token.usage")
    assert {(p.attributes or {})["tenant.id"] for p in points} == {"acme", "globex"}
    assert {(p.attributes or {})["gen_ai.provider.name"] for p in points} == {"replay"}
    assert all(p.count == 1 for p in points)  # type: ignore[union-attr]


def test_tokens_are_counted_where_they_are_spent(captured: Captured) -> None:
    """A cache in front of a client: its own call has no tokens, and a cached answer costs none."""

    async def main() -> None:
        client = ChatCompletionCache(replaying("one two three"))
        for _ in range(3):
            result = await client.create(ASK)
        assert result.cached

    asyncio.run(main())
    spent = [chat.get("gen_ai.usage.output_tokens") for chat in chats(captured)]
    assert sorted(spent, key=str) == [3, None, None, None]
    outputs = [
        p for p in captured.points("gen_ai.client.token.usage") if (p.attributes or {})["gen_ai.token.type"] == "output"
    ]
    assert [(p.count, p.sum) for p in outputs] == [(1, 3)]  # type: ignore[union-attr]
