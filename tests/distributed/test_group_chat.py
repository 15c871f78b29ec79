"""The handbook's distributed group chat: a manager that asks a model who is to speak, speakers that ask one what to
say, a page that shows it word by word. There a process each, here a worker each; they meet by publishing to topics."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from autogen_core import (
    AgentId,
    MessageContext,
    RoutedAgent,
    TopicId,
    TypeSubscription,
    message_handler,
)
from autogen_core._serialization import try_get_known_serializers_for_type
from autogen_core.models import AssistantMessage, ChatCompletionClient, LLMMessage, SystemMessage, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime
from grid import PATIENCE, hosting
from model_servers import running_model_server
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_peers import Upstream, running_upstream
from pydantic import BaseModel

import instrumentation

TENANTS = ("acme", "globex", "initech")
SPEAKERS = ("writer", "editor")
ROUNDS = 4  # contributions after the user's, each speaker in turn


class Contribution(BaseModel):
    """Somebody said something, to all."""

    author: str
    text: str


class RequestToSpeak(BaseModel):
    """The manager gives somebody the floor."""


class Shown(BaseModel):
    """A piece of text for the page."""

    author: str
    piece: str


def canary(who: str) -> str:
    return f"CANARY{who}zq"


class Speaker(RoutedAgent):
    """Keeps what was said and, when asked, says what its model says, to the page in pieces and to all as a whole."""

    def __init__(self, model: ChatCompletionClient) -> None:
        super().__init__(f"a speaker, {canary('description')}")
        self._model = model
        self._said: list[LLMMessage] = []

    @message_handler
    async def on_contribution(self, message: Contribution, ctx: MessageContext) -> None:
        self._said.append(UserMessage(content=message.text, source=message.author))

    @message_handler
    async def on_request(self, message: RequestToSpeak, ctx: MessageContext) -> None:
        key = self.id.key
        asked = [SystemMessage(content=f"You are {canary('system')}."), *self._said]
        text = ""
        async for piece in self._model.create_stream(
            asked, extra_create_args={"stream_options": {"include_usage": True}}
        ):
            if isinstance(piece, str):
                text += piece
                await self.publish_message(Shown(author=self.id.type, piece=piece), TopicId("page", key))
        self._said.append(AssistantMessage(content=text, source=self.id.type))
        await self.publish_message(Contribution(author=self.id.type, text=text), TopicId("chat", key))


class Manager(RoutedAgent):
    """Gives the floor to one speaker after another, having asked its model, until enough was said."""

    def __init__(self, model: ChatCompletionClient) -> None:
        super().__init__("the manager")
        self._model = model
        self._spoken = 0

    @message_handler
    async def on_contribution(self, message: Contribution, ctx: MessageContext) -> None:
        if self._spoken < ROUNDS:
            await self._model.create([UserMessage(content=f"Who is next after {message.text}?", source="manager")])
            self._spoken += 1
            following = SPEAKERS[self._spoken % len(SPEAKERS)]
            await self.publish_message(RequestToSpeak(), TopicId(following, self.id.key))
        else:
            await self.publish_message(Shown(author="manager", piece="done"), TopicId("page", self.id.key))


class Page(RoutedAgent):
    """Shows; says when a conversation is done, and whose it seems to be."""

    def __init__(self, shown: dict[str, list[str]], done: asyncio.Queue[tuple[str, str | None]]) -> None:
        super().__init__("the page")
        self._shown = shown
        self._done = done

    @message_handler
    async def on_shown(self, message: Shown, ctx: MessageContext) -> None:
        if message.author == "manager":
            self._done.put_nowait((self.id.key, instrumentation.current_tenant()))
        else:
            self._shown.setdefault(self.id.key, []).append(f"{message.author}: {message.piece}")


async def group_chat(url: str) -> tuple[dict[str, list[str]], set[tuple[str, str | None]]]:
    """Three tenants' conversations at once, over four workers; what the page showed of each, and whose it was there."""
    shown: dict[str, list[str]] = {}
    done: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()
    model = OpenAIChatCompletionClient(model="gpt-4o", api_key=canary("key"), base_url=f"{url}/v1")
    agents: dict[str, tuple[Any, tuple[str, ...]]] = {
        "manager": (lambda: Manager(model), ("chat",)),
        "writer": (lambda: Speaker(model), ("chat", "writer")),
        "editor": (lambda: Speaker(model), ("chat", "editor")),
        "page": (lambda: Page(shown, done), ("page",)),
    }
    async with hosting() as address, AsyncExitStack() as stack:
        for name, (factory, topics) in agents.items():
            worker = GrpcWorkerAgentRuntime(address)
            for message in (Contribution, RequestToSpeak, Shown):
                worker.add_message_serializer(try_get_known_serializers_for_type(message))
            await worker.start()
            stack.push_async_callback(worker.stop)
            await worker.register_factory(name, factory)
            for topic in topics:
                await worker.add_subscription(TypeSubscription(topic, name))
        for who in TENANTS:
            with instrumentation.tenant(who):
                opening = Contribution(
                    author=canary("author"), text=f"{canary(who)} writes to {canary('mail')}@example.com"
                )
                await worker.publish_message(
                    opening, TopicId("chat", canary(who)), sender=AgentId("page", canary("sender"))
                )
        finished = {await done.get() for _ in TENANTS}
        await model.close()
    return shown, finished


def spans_of(upstream: Upstream) -> list[Any]:
    return [
        span
        for signal, request in upstream.taken
        if signal == "traces"
        for group in ExportTraceServiceRequest.FromString(request).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def about(span: Any) -> dict[str, str]:
    return {attribute.key: attribute.value.string_value for attribute in span.attributes}


def test_a_distributed_group_chat_under_three_tenants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every span of a conversation has its tenant, through four workers and as many models' calls. Canaries in what is
    said, in keys, topics, descriptions and credentials are on AutoGen's wire and in nothing that we emit: spans,
    metrics, the file of events, the log. What the page shows is what it shows without us."""
    log = tmp_path / "events.jsonl"
    monkeypatch.setenv("TENANTSCOPE_EVENT_LOG", str(log))
    with running_model_server() as server, running_upstream() as upstream:
        bare, _ = asyncio.run(asyncio.wait_for(group_chat(server.url), PATIENCE))
        instrumentation.start(service_name="chat", endpoint=upstream.url)
        shown, finished = asyncio.run(asyncio.wait_for(group_chat(server.url), PATIENCE))
        instrumentation.stop(10)
    assert shown == bare
    assert finished == {(canary(who), who) for who in TENANTS}
    spans = spans_of(upstream)
    counted = Counter(
        (about(span)["tenant.id"], span.name) for span in spans if not span.name.startswith("create_agent")
    )
    for who in TENANTS:
        assert counted[who, "process manager"] == ROUNDS + 1
        assert counted[who, "chat gpt-4o"] == 2 * ROUNDS
        assert counted[who, "process page"] == 2 * ROUNDS + 1
        # All that was said but by itself, and twice the floor.
        assert counted[who, "process writer"] == counted[who, "process editor"] == ROUNDS // 2 + 1 + ROUNDS // 2
    assert {tenant for tenant, _ in counted} == set(TENANTS)
    traces = {(span.trace_id, about(span)["tenant.id"]) for span in spans}
    assert len({trace for trace, _ in traces}) == len(traces)  # none has spans of two tenants
    emitted = b"".join(request for _, request in upstream.requests) + log.read_bytes()
    emitted += "".join(capsys.readouterr()).encode()
    assert b"process manager" in emitted
    for secret in (b"CANARY", b"s3cr3t", b"example.com"):
        assert secret not in emitted
    assert canary("acme") in str(server.requests)
