"""AutoGen's real clients against a server that speaks their protocols: what spans and metrics say, and what not."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from autogen_core import CancellationToken
from autogen_ext.models.anthropic import AnthropicBedrockChatCompletionClient
from model_servers import CACHE_READ, CACHE_WRITE, INPUT, OUTPUT, REASONING, ModelServer, running_model_server
from provider_clients import ASK, INFO, KEY, PROVIDERS, Provider, call, result_of

from instrumentation import conventions, diagnostics, tenant
from instrumentation.testing import Captured, capture

every_client = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["create", "create_stream"])


def run(server: ModelServer, provider: Provider, streamed: bool, who: str = "acme", **arguments: Any) -> list[Any]:
    """One call for a tenant, with a client of its own."""

    async def main() -> list[Any]:
        client = provider.make(server.url)
        with tenant(who):
            try:
                return await call(client, streamed, **dict(provider.stream_arguments if streamed else ()), **arguments)
            finally:
                await client.close()

    return asyncio.run(main())


def chat(captured: Captured) -> dict[str, Any]:
    (span,) = captured.spans()
    assert span.name.startswith("chat ")
    assert not span.events
    assert span.status.description is None
    return dict(span.attributes or {})


def our_faults() -> dict[str, int]:
    """How often observers of ours have failed in this process."""
    return {reason: n for reason, n in diagnostics.counts().items() if reason.startswith("fault.")}


def everything(captured: Captured) -> str:
    """All that would have been exported, as text."""
    spans = "".join(span.to_json() for span in captured.spans())
    return spans + "".join(str(captured.points(metric.name)) for metric in conventions.METRICS)


@every_client
@both_ways
def test_what_a_call_says(server: ModelServer, captured: Captured, provider: Provider, streamed: bool) -> None:
    """Tenant, model, provider, finish reason, HTTP status, tokens as the client counts them, and those it hides."""
    faults = our_faults()
    usage = result_of(run(server, provider, streamed)).usage
    about = chat(captured)
    assert about.pop("gen_ai.response.time_to_first_chunk", None) is None or streamed
    expected: dict[str, Any] = {
        "tenant.id": "acme",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider.name,
        "gen_ai.request.model": provider.model,
        "gen_ai.response.finish_reasons": ("stop",),
        "http.response.status_code": 200,
    }
    if usage.prompt_tokens or usage.completion_tokens:
        assert (usage.prompt_tokens, usage.completion_tokens) == (INPUT, OUTPUT)
        expected |= {"gen_ai.usage.input_tokens": INPUT, "gen_ai.usage.output_tokens": OUTPUT}
    if "openai" in provider.name or (provider.name == "azure.ai.inference" and not streamed):
        expected |= {
            "gen_ai.usage.cache_read.input_tokens": CACHE_READ,
            "gen_ai.usage.reasoning.output_tokens": REASONING,
        }
    if provider.name == "anthropic":
        expected |= {
            "gen_ai.usage.cache_read.input_tokens": CACHE_READ,
            "gen_ai.usage.cache_creation.input_tokens": CACHE_WRITE,
        }
    answered_by = about.pop("gen_ai.response.model", None)
    assert answered_by in (None, provider.model, f"{provider.model}-2024-08-06")
    assert about == expected
    assert our_faults() == faults


@every_client
def test_a_stream_tells_when_its_first_piece_came(server: ModelServer, captured: Captured, provider: Provider) -> None:
    """On the span, and as a metric; not for a call that is not streamed."""
    run(server, provider, streamed=False)
    assert captured.points("gen_ai.client.operation.time_to_first_chunk") == []
    run(server, provider, streamed=True)
    first, second = ((span.attributes or {}).get("gen_ai.response.time_to_first_chunk") for span in captured.spans())
    assert first is None
    assert isinstance(second, float)
    (point,) = captured.points("gen_ai.client.operation.time_to_first_chunk")
    assert point.count == 1  # type: ignore[union-attr]


@every_client
@both_ways
def test_no_content_leaves(server: ModelServer, captured: Captured, provider: Provider, streamed: bool) -> None:
    """Prompts, answers, keys, ids and the text of errors are on the wire to the provider, and in nothing of ours."""
    run(server, provider, streamed)
    server.failures.extend([400])
    with pytest.raises(Exception, match="s3cr3t"):
        run(server, provider, streamed)
    found = everything(captured)
    assert "s3cr3t" in str(server.requests)
    assert "s3cr3t" not in found
    assert "127.0.0.1" not in found


@every_client
@both_ways
def test_a_refusal_is_told_by_status_and_type(
    server: ModelServer, captured: Captured, provider: Provider, streamed: bool
) -> None:
    """The status code, the class of the exception, one error; no tokens."""
    server.failures.append(400)
    with pytest.raises(Exception) as caught:  # noqa: PT011  # each SDK has its own
        run(server, provider, streamed)
    about = chat(captured)
    assert about["http.response.status_code"] == 400
    assert about["error.type"] == type(caught.value).__name__
    assert "gen_ai.usage.input_tokens" not in about
    (errors,) = captured.points("autogen.errors")
    assert errors.value == 1  # type: ignore[union-attr]


@every_client
@both_ways
def test_rate_limits_are_counted_also_where_a_retry_went_well(
    server: ModelServer, captured: Captured, provider: Provider, streamed: bool
) -> None:
    """429 for each tenant and client, and how often a request was sent again; the span covers all attempts."""
    for who in ("acme", "globex"):
        server.failures.extend([429, 429] if provider.retries else [429])
        if provider.retries:
            run(server, provider, streamed, who)
        else:
            with pytest.raises(Exception, match="s3cr3t"):
                run(server, provider, streamed, who)
    spans = captured.spans()
    assert len(spans) == 2
    counted = {(p.attributes or {})["tenant.id"]: p for p in captured.points("autogen.model.rate_limits")}
    limited = 2 if provider.retries else 1
    assert {who: point.value for who, point in counted.items()} == {"acme": limited, "globex": limited}  # type: ignore[union-attr]
    assert {(p.attributes or {})["gen_ai.provider.name"] for p in counted.values()} == {provider.name}
    for span in spans:
        about = span.attributes or {}
        assert about["http.response.status_code"] == (200 if provider.retries else 429)
        assert about.get("http.request.resend_count") == (2 if provider.retries else None)
    resent = captured.points("autogen.model.resends")
    assert sum(p.value for p in resent) == (4 if provider.retries else 0)  # type: ignore[union-attr,misc]


@every_client
@both_ways
def test_a_cancelled_call_is_no_error(
    server: ModelServer, captured: Captured, provider: Provider, streamed: bool
) -> None:
    """A token that is cancelled, or a task, while the provider thinks: `cancelled`, without tokens, counted once."""
    server.gate.clear()

    async def main() -> None:
        client, token = provider.make(server.url), CancellationToken()
        by_token = asyncio.create_task(call(client, streamed, cancellation_token=token))
        by_task = asyncio.create_task(call(client, streamed))
        while len(server.requests) < 2:
            await asyncio.sleep(0.005)
        token.cancel()
        by_task.cancel()
        ended = await asyncio.gather(by_token, by_task, return_exceptions=True)
        assert [type(error) for error in ended] == [asyncio.CancelledError] * 2
        await client.close()

    asyncio.run(main())
    spans = captured.spans()
    assert [(span.attributes or {})["error.type"] for span in spans] == ["CancelledError"] * 2
    assert captured.points("autogen.errors") == []
    assert captured.points("gen_ai.client.token.usage") == []


@pytest.mark.parametrize("way", ["left", "cancelled"])
def test_a_stream_that_is_not_read_to_its_end_costs_what_was_told(
    server: ModelServer, captured: Captured, way: str
) -> None:
    """Anthropic says at the beginning what the prompt took: it is paid for, whoever reads on."""

    async def main() -> None:
        client = PROVIDERS["anthropic"].make(server.url)
        stream = client.create_stream(ASK)
        with tenant("acme"):
            await anext(stream)
            if way == "left":
                await stream.aclose()
            else:
                with pytest.raises(asyncio.CancelledError):
                    await stream.athrow(asyncio.CancelledError())
        await client.close()

    asyncio.run(main())
    about = chat(captured)
    assert (about["gen_ai.usage.input_tokens"], about["gen_ai.usage.output_tokens"]) == (INPUT, 1)
    assert about.get("error.type") == (None if way == "left" else "CancelledError")
    assert "gen_ai.response.finish_reasons" not in about
    used = {(p.attributes or {})["gen_ai.token.type"]: p.sum for p in captured.points("gen_ai.client.token.usage")}  # type: ignore[union-attr]
    assert used == {"input": INPUT, "output": 1}


def test_nobody_at_home(captured: Captured) -> None:
    """A provider that cannot be reached has no status, and an error type."""
    with running_model_server() as gone:
        pass
    with pytest.raises(ConnectionError) as caught:
        run(gone, PROVIDERS["ollama"], streamed=False)
    about = chat(captured)
    assert about["error.type"] == type(caught.value).__name__
    assert "http.response.status_code" not in about


async def outcomes(server: ModelServer) -> list[str]:
    """What an application sees of every client: results, pieces, exceptions, the requests that went out."""
    seen: list[str] = []
    for provider in PROVIDERS.values():
        client = provider.make(server.url)
        for streamed in (False, True):
            for failures in ([], [429], [400], [503, 503, 503]):
                server.failures.clear()
                server.failures.extend(failures)
                try:
                    seen.append(repr(await call(client, streamed)))
                except Exception as error:
                    seen.append(f"{type(error).__name__}: {error}")
        seen.append(repr((client.actual_usage(), client.total_usage())))
        await client.close()
    seen.extend(f"{path} {body}" for path, _, body in server.requests)
    server.requests.clear()
    return seen


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_watched_stream_has_no_more_generators(server: ModelServer, name: str) -> None:
    """The loop closes all that it knows of when it ends, at once, and complains of each that is busy then."""
    provider = PROVIDERS[name]

    def generators() -> int:
        known: list[object] = []

        async def main() -> None:
            hooks = sys.get_asyncgen_hooks()
            sys.set_asyncgen_hooks(known.append, hooks.finalizer)
            try:
                client = provider.make(server.url)
                await call(client, streamed=True)
                await client.close()
            finally:
                sys.set_asyncgen_hooks(*hooks)

        asyncio.run(main())
        return len(known)

    bare = generators()
    with capture():
        assert generators() == bare


def test_watched_clients_do_what_bare_ones_do(server: ModelServer) -> None:
    """Results, pieces of streams, exceptions to the letter, usage, and every request that reached the provider."""
    bare = asyncio.run(outcomes(server))
    with capture() as captured:
        watched = asyncio.run(outcomes(server))
        assert len(captured.spans()) == 8 * len(PROVIDERS)
    assert watched == bare


def test_a_model_behind_bedrock_is_amazons(captured: Captured) -> None:
    """`AnthropicBedrockChatCompletionClient`, also an application's class that is made of it."""

    class Own(AnthropicBedrockChatCompletionClient):
        pass

    access = {"aws_access_key": KEY, "aws_secret_key": KEY, "aws_session_token": KEY, "aws_region": "s3cr3t-region"}
    for kind in (AnthropicBedrockChatCompletionClient, Own):
        client = kind(model="claude-sonnet-4-5", model_info=INFO, bedrock_info=access)
        with pytest.raises(Exception):  # noqa: B017, PT011  # Amazon's library for signing is not here
            asyncio.run(client.create(ASK))
    assert [(span.attributes or {})["gen_ai.provider.name"] for span in captured.spans()] == ["aws.bedrock"] * 2
    assert "s3cr3t" not in "".join(span.to_json() for span in captured.spans())
