"""Clients in front of clients, and clients that only tell the event logger: each call counts once."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest
from autogen_apps import replaying, said
from autogen_core import EVENT_LOGGER_NAME
from autogen_core.logging import LLMCallEvent, LLMStreamEndEvent, LLMStreamStartEvent
from autogen_core.models import ChatCompletionClient, CreateResult, RequestUsage
from autogen_ext.models.cache import ChatCompletionCache
from autogen_ext.models.replay import ReplayChatCompletionClient
from model_servers import INPUT, OUTPUT, ModelServer
from provider_clients import PROVIDERS, call

from instrumentation import conventions, tenant
from instrumentation.hooks.providers import SEAMS
from instrumentation.testing import Captured, capture

EVENTS = logging.getLogger(EVENT_LOGGER_NAME)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["create", "create_stream"])


def chats(captured: Captured) -> list[Mapping[str, Any]]:
    return [span.attributes or {} for span in captured.spans() if span.name.startswith("chat")]


def counted(captured: Captured, metric: str, **only: str) -> float:
    """The sum of a metric's points: values of a counter, numbers of records of a histogram."""
    return sum(
        getattr(point, "count", None) or getattr(point, "value", 0)
        for point in captured.points(metric)
        if only.items() <= {key.replace(".", "_"): value for key, value in (point.attributes or {}).items()}.items()
    )


def tokens(captured: Captured) -> dict[str, float]:
    """Tokens of all calls, by type."""
    return {
        str((point.attributes or {})["gen_ai.token.type"]): point.sum  # type: ignore[union-attr]
        for point in captured.points("gen_ai.client.token.usage")
    }


@both_ways
def test_a_cache_is_two_spans_and_one_figure(server: ModelServer, captured: Captured, streamed: bool) -> None:
    """The first call is the client's; the others are the cache's, flagged, without tokens, duration or HTTP status."""

    async def main() -> None:
        client = ChatCompletionCache(PROVIDERS["openai"].make(server.url))
        with tenant("acme"):
            for _ in range(3):
                await call(client, streamed, extra_create_args={"stream_options": {"include_usage": True}})
        await client.close()

    if not streamed:
        server.failures.append(429)
    asyncio.run(main())
    inner, outer, *hits = chats(captured)
    assert inner["gen_ai.usage.output_tokens"] == OUTPUT
    assert not {"autogen.model.cached", "error.type"} & inner.keys()
    assert not {"gen_ai.usage.output_tokens", "autogen.model.cached"} & outer.keys()
    assert [hit["autogen.model.cached"] for hit in hits] == [True, True]
    assert {(chat["gen_ai.request.model"], chat["gen_ai.provider.name"]) for chat in [inner, outer, *hits]} == {
        ("gpt-4o", "openai")
    }
    for hit in hits:
        assert not {"gen_ai.usage.input_tokens", "http.response.status_code"} & hit.keys()
    assert tokens(captured) == {"input": INPUT, "output": OUTPUT}
    assert counted(captured, "gen_ai.client.operation.duration") == 1
    assert counted(captured, "autogen.model.cache.hits", tenant_id="acme") == 2
    assert counted(captured, "autogen.model.rate_limits") == (0 if streamed else 1)


@both_ways
def test_an_error_behind_a_cache_is_one_error(server: ModelServer, captured: Captured, streamed: bool) -> None:
    """Both spans fail; the client's is counted."""

    async def main() -> None:
        client = ChatCompletionCache(PROVIDERS["openai"].make(server.url))
        with pytest.raises(Exception, match="s3cr3t"):
            await call(client, streamed)
        await client.close()

    server.failures.append(400)
    asyncio.run(main())
    assert [chat["error.type"] for chat in chats(captured)] == ["BadRequestError"] * 2
    assert counted(captured, "autogen.errors") == 1
    assert counted(captured, "gen_ai.client.operation.duration") == 1


def test_a_router_counts_where_the_work_was_done(captured: Captured) -> None:
    """One that asks a second client when the first has failed: an error and an answer, each of its own client."""

    class Router(ReplayChatCompletionClient):
        async def create(self, *args: Any, **kwargs: Any) -> CreateResult:
            for client in (replaying(), replaying("answer")):
                try:
                    return await client.create(*args, **kwargs)
                except ValueError:
                    continue
            raise AssertionError

    asyncio.run(call(Router([]), streamed=False))
    first, second, router = chats(captured)
    assert first["error.type"] == "ValueError"
    assert second["gen_ai.usage.output_tokens"] == 1
    assert not {"error.type", "gen_ai.usage.output_tokens"} & router.keys()
    assert counted(captured, "autogen.errors") == 1
    assert counted(captured, "gen_ai.client.operation.duration") == 2


@pytest.mark.filterwarnings("ignore:Resolved model mismatch")
def test_a_model_that_is_asked_for_by_the_call(server: ModelServer, captured: Captured) -> None:
    """`extra_create_args` may name another model than the client's own."""

    async def main() -> None:
        client = PROVIDERS["openai"].make(server.url)
        await call(client, streamed=False, extra_create_args={"model": "gpt-4o-mini"})
        await client.close()

    asyncio.run(main())
    assert [chat["gen_ai.request.model"] for chat in chats(captured)] == ["gpt-4o-mini"]


def usage_event(kind: type[Any], **extra: Any) -> Any:
    response = {
        "model": "model-9",
        "choices": "s3cr3t-answer",
        "usage": {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 3}},
    }
    return kind(response=response, prompt_tokens=INPUT, completion_tokens=OUTPUT, **extra)


def test_a_client_that_only_logs_is_a_chat_span(captured: Captured) -> None:
    """One that is no `ChatCompletionClient`: tenant, model, tokens and place in the tree come from its event. It has no
    duration, for nobody saw it begin."""

    class Duck:
        async def create(self) -> str:
            EVENTS.info(usage_event(LLMCallEvent, messages=[{"content": "s3cr3t-prompt"}]))
            return "s3cr3t-answer"

    async def main() -> None:
        with tenant("acme"):
            await Duck().create()

    asyncio.run(main())
    assert chats(captured) == [
        {
            "tenant.id": "acme",
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "custom",
            "gen_ai.request.model": "model-9",
            "gen_ai.response.model": "model-9",
            "gen_ai.usage.input_tokens": INPUT,
            "gen_ai.usage.output_tokens": OUTPUT,
            "gen_ai.usage.cache_read.input_tokens": 4,
            "gen_ai.usage.reasoning.output_tokens": 3,
        }
    ]
    assert tokens(captured) == {"input": INPUT, "output": OUTPUT}
    assert captured.points("gen_ai.client.operation.duration") == []
    assert "s3cr3t" not in "".join(span.to_json() for span in captured.spans())


def test_a_stream_that_is_only_logged_has_a_duration(captured: Captured) -> None:
    """From the event of its start to that of its end; one whose start was not told has none."""

    async def stream() -> AsyncGenerator[str, None]:
        EVENTS.info(LLMStreamStartEvent(messages=[]))
        yield "s3cr3t"
        EVENTS.info(usage_event(LLMStreamEndEvent))

    async def main() -> None:
        async for _ in stream():
            pass
        EVENTS.info(usage_event(LLMStreamEndEvent))

    asyncio.run(main())
    first, second = captured.spans()
    assert (first.end_time or 0) > (first.start_time or 0)
    assert second.name == "chat model-9"
    assert counted(captured, "gen_ai.client.operation.duration") == 1
    assert tokens(captured) == {"input": 2 * INPUT, "output": 2 * OUTPUT}


def test_events_of_observed_calls_count_nothing_twice(server: ModelServer) -> None:
    """Whether the application reads the event logger or not: as many spans and tokens as calls."""
    for level in (logging.WARNING, logging.INFO):
        EVENTS.setLevel(level)
        try:
            with capture() as captured:

                async def main() -> None:
                    for provider in PROVIDERS.values():
                        client = provider.make(server.url)
                        await call(client, streamed=False)
                        await client.close()

                asyncio.run(main())
                assert len(chats(captured)) == len(PROVIDERS)
                assert tokens(captured)["input"] <= len(PROVIDERS) * INPUT
                assert sum(p.sum for p in captured.points("gen_ai.client.token.usage")) == len(PROVIDERS) * (  # type: ignore[union-attr,misc]
                    INPUT + OUTPUT
                )
        finally:
            EVENTS.setLevel(logging.NOTSET)


def test_tokens_of_an_answer_that_was_refused(captured: Captured) -> None:
    """The provider has answered and will be paid, the client raises: the event's tokens stand."""

    class Picky(ReplayChatCompletionClient):
        async def create(self, *args: Any, **kwargs: Any) -> CreateResult:
            EVENTS.info(usage_event(LLMCallEvent, messages=[]))
            raise ValueError("s3cr3t-error")

    with pytest.raises(ValueError, match="s3cr3t"):
        asyncio.run(call(Picky([]), streamed=False))
    (chat,) = chats(captured)
    assert chat["gen_ai.usage.input_tokens"] == INPUT
    assert chat["error.type"] == "ValueError"


@pytest.mark.parametrize(
    "response",
    [
        None, "s3cr3t", [1], {"usage": None}, {"usage": "s3cr3t"}, {"usage": {"prompt_tokens_details": [1]}},
        {"usage": {"cache_read_input_tokens": "s3cr3t"}, "model": b"s3cr3t"},
        {"usage": {"cache_read_input_tokens": True}},
        {"usage": {"cache_read_input_tokens": -1}, "model": ["s3cr3t"]}, {"usage": {"cache_read_input_tokens": 2**70}},
    ],
    ids=str,
)  # fmt: skip
def test_reports_that_make_no_sense(captured: Captured, response: Any) -> None:
    """What is no number is not believed, what is no name not read; the call is still seen."""
    EVENTS.info(LLMCallEvent(messages=[], response=response, prompt_tokens=3, completion_tokens="s3cr3t"))  # type: ignore[arg-type]
    (chat,) = chats(captured)
    assert chat["gen_ai.usage.input_tokens"] == 3
    assert not {"gen_ai.usage.output_tokens", "gen_ai.usage.cache_read.input_tokens"} & chat.keys()
    assert "s3cr3t" not in str(chat)


def test_zero_tokens_are_no_report(captured: Captured) -> None:
    """AutoGen writes 0 and 0 where a provider said nothing, as in streams that were not asked for usage."""
    silent = said("x").model_copy(update={"usage": RequestUsage(0, 0)})
    asyncio.run(call(replaying(silent), streamed=False))
    assert not [name for name in chats(captured)[0] if name.startswith("gen_ai.usage")]
    assert captured.points("gen_ai.client.token.usage") == []


def test_the_latest_names(server: ModelServer) -> None:
    """With the opt-in, tokens are counters of their own and durations have the new name; the old ones are not sent."""
    with capture(latest_conventions=True) as captured:

        async def main() -> None:
            client = PROVIDERS["openai"].make(server.url)
            with tenant("acme"):
                await call(client, streamed=False)
                await call(client, streamed=True, include_usage=True)
            await client.close()

        asyncio.run(main())
        assert counted(captured, "gen_ai.client.inference.duration", tenant_id="acme") == 2
        assert counted(captured, "gen_ai.client.inference.time_to_first_chunk") == 1
        assert counted(captured, "gen_ai.client.inference.usage.input_tokens", tenant_id="acme") == 2 * INPUT
        assert counted(captured, "gen_ai.client.inference.usage.output_tokens") == 2 * OUTPUT
        assert counted(captured, "gen_ai.client.inference.operation.input_tokens") == 2
        assert not [metric.name for metric in conventions.DEPLOYED_METRICS if captured.points(metric.name)]


def test_the_seams_of_other_libraries_come_and_go(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are attached at once, or with the first call after their library was imported, and taken off again without a
    trace."""

    def state() -> list[object]:
        return [vars(getattr(sys.modules[module], cls))[name] for module, cls, name, _ in SEAMS]

    before = state()
    streaming = sys.modules["anthropic._streaming"]
    monkeypatch.delitem(sys.modules, "anthropic._streaming")
    with capture():
        monkeypatch.setitem(sys.modules, "anthropic._streaming", streaming)
        attached = [ours is not theirs for ours, theirs in zip(state(), before, strict=True)]
        assert attached == [module != "anthropic._streaming" for module, *_ in SEAMS]
        asyncio.run(_close_after(call, PROVIDERS["openai"].make(server.url)))
        assert not [ours for ours, theirs in zip(state(), before, strict=True) if ours is theirs]
    assert all(ours is theirs for ours, theirs in zip(state(), before, strict=True))


async def _close_after(work: Any, client: ChatCompletionClient) -> None:
    await work(client, False)
    await client.close()
