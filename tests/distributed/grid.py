"""A host and workers of AutoGen's distributed runtime, over real sockets of the loopback address, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc.aio
from autogen_apps import Answer, Ask, Note
from autogen_core import AgentId, MessageContext, RoutedAgent, TopicId, TypeSubscription, message_handler
from autogen_core._serialization import try_get_known_serializers_for_type
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime, GrpcWorkerAgentRuntimeHost

import instrumentation

PATIENCE = 20.0  # seconds after which a test gives a wait up; no test measures time
TOPIC = TopicId("notes", "k")


@asynccontextmanager
async def hosting(address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """A host; yields where it listens."""
    host = GrpcWorkerAgentRuntimeHost("127.0.0.1:0")
    address = f"127.0.0.1:{host._server.add_insecure_port(address)}"
    host.start()
    async with grpc.aio.insecure_channel(address) as channel:
        await asyncio.wait_for(channel.channel_ready(), PATIENCE)
    try:
        yield address
    finally:
        await host.stop(grace=0)


@asynccontextmanager
async def working(address: str, *, started_as: str | None = None, **agents: Callable[[], RoutedAgent]) -> Any:
    """A worker with these agents under their names, each a subscriber of `TOPIC`."""
    worker = GrpcWorkerAgentRuntime(address)
    for message in (Ask, Answer, Note):
        worker.add_message_serializer(try_get_known_serializers_for_type(message))
    if started_as is None:
        await worker.start()
    else:
        with instrumentation.tenant(started_as):
            await worker.start()
    for name, factory in agents.items():
        await worker.register_factory(name, factory)
        await worker.add_subscription(TypeSubscription(TOPIC.type, name))
    try:
        yield worker
    finally:
        with suppress(grpc.aio.AioRpcError):  # what the connection to a host that has gone ended with
            await worker.stop()


async def eventually(condition: Callable[[], Any]) -> Any:
    """What `condition` says, as soon as that is true."""

    async def wait() -> Any:
        while not (found := condition()):
            await asyncio.sleep(0.005)
        return found

    return await asyncio.wait_for(wait(), PATIENCE)


class Desk(RoutedAgent):
    """Answers with the tenant that it sees, after `work`; asks `deeper` first, and publishes what says `tell`."""

    def __init__(
        self,
        deeper: AgentId | None = None,
        work: Callable[[str], Awaitable[Any]] | None = None,
        heard: list[tuple[str, str | None]] | None = None,
    ) -> None:
        super().__init__("desk")
        self._deeper = deeper
        self._work = work
        self._heard = [] if heard is None else heard

    @message_handler
    async def on_ask(self, message: Ask, ctx: MessageContext) -> Answer:
        if self._work is not None:
            await self._work(message.text)
        if self._deeper is not None:
            await self.send_message(message, self._deeper)
        if "tell" in message.text:
            await self.publish_message(Note(message.text), TOPIC)
        return Answer(message.text, instrumentation.current_tenant())

    @message_handler
    async def on_note(self, message: Note, ctx: MessageContext) -> None:
        self._heard.append((message.text, instrumentation.current_tenant()))
        if self._work is not None:
            await self._work(message.text)
