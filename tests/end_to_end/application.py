"""Run as a process of its own: a small AutoGen application of three tenants that does what it is told on its input.

    python application.py ENDPOINT CELLS SERVICE MODEL_URL

`block` makes the tenant `hog` hold the loop again and again until `rest`. `fail` lets the tenant `globex` go wrong: it
sends what no handler can do, calls the model at the URL, and gives up waiting for answers that come. `hand` lets the
agents of a team hand conversations over to each other. The end of the input ends it. Meanwhile `acme` sends small
messages all the time, `globex` now and then. Not a test, and imports nothing of tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from dataclasses import dataclass

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import Swarm
from autogen_core import AgentId, FunctionCall, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, rpc
from autogen_core.models import CreateResult, RequestUsage, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient
from openai import RateLimitError

import instrumentation

HELD = 0.3


@dataclass
class Order:
    """Asks a clerk to work, and to hold the loop meanwhile for so many seconds."""

    hold: float = 0.0


@dataclass
class Nonsense:
    """Asks a clerk for what it can't do."""


@dataclass
class Question:
    """Asks a clerk something that takes it a while."""


@dataclass
class Receipt:
    """What a clerk answers."""


class Clerk(RoutedAgent):
    """Works; holds the loop if its order says so, as blocking code in a tool does."""

    def __init__(self) -> None:
        super().__init__("clerk")

    @rpc
    async def on_order(self, message: Order, ctx: MessageContext) -> Receipt:
        self.render_report(message.hold)
        return Receipt()

    @rpc
    async def on_nonsense(self, message: Nonsense, ctx: MessageContext) -> Receipt:
        raise ValueError

    @rpc
    async def on_question(self, message: Question, ctx: MessageContext) -> Receipt:
        await asyncio.sleep(1.0)
        return Receipt()

    def render_report(self, seconds: float) -> None:
        """The mistake that the alert is about."""
        time.sleep(seconds)


async def orders(runtime: SingleThreadedAgentRuntime, tenant: str, pause: float, done: asyncio.Event) -> None:
    """A polite tenant."""
    with instrumentation.tenant(tenant):
        while not done.is_set():
            await runtime.send_message(Order(), AgentId("clerk", tenant))
            await asyncio.sleep(pause)


async def hog(runtime: SingleThreadedAgentRuntime, blocking: asyncio.Event, done: asyncio.Event) -> None:
    """A tenant that holds the loop while `blocking` is set, half of the time."""
    with instrumentation.tenant("hog"):
        while not done.is_set():
            await runtime.send_message(Order(HELD if blocking.is_set() else 0.0), AgentId("clerk", "hog"))
            await asyncio.sleep(HELD)


async def asker(url: str, failing: asyncio.Event, done: asyncio.Event) -> None:
    """A tenant that calls a model, in vain."""
    await failing.wait()
    if done.is_set():
        return
    with instrumentation.tenant("globex"):
        client = OpenAIChatCompletionClient(model="gpt-4o-mini", api_key="none", base_url=url, max_retries=1)
        while not done.is_set():
            with contextlib.suppress(RateLimitError):
                await client.create([UserMessage(content="Hello?", source="user")])
            await asyncio.sleep(0.1)
        await client.close()


async def leaver(runtime: SingleThreadedAgentRuntime, failing: asyncio.Event, done: asyncio.Event) -> None:
    """A tenant whose messages fail, and that does not wait for its answers."""
    await failing.wait()
    with instrumentation.tenant("globex"):
        while not done.is_set():
            with contextlib.suppress(ValueError):
                await runtime.send_message(Nonsense(), AgentId("clerk", "globex"))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(runtime.send_message(Question(), AgentId("clerk", "globex")), 0.2)


async def hander(handing: asyncio.Event, done: asyncio.Event) -> None:
    """A tenant whose first agent hands every conversation over."""
    await handing.wait()
    over = FunctionCall(id="1", name="transfer_to_refunder", arguments="{}")
    said = CreateResult(
        content=[over], finish_reason="function_calls", usage=RequestUsage(prompt_tokens=1, completion_tokens=1),
        cached=False,
    )  # fmt: skip
    model_info = {"vision": False, "function_calling": True, "json_output": False, "family": "unknown",
                  "structured_output": False}  # fmt: skip
    with instrumentation.tenant("acme"):
        while not done.is_set():
            clerk = AssistantAgent(
                "clerk", ReplayChatCompletionClient([said], model_info=model_info), handoffs=["refunder"]
            )
            refunder = AssistantAgent("refunder", ReplayChatCompletionClient(["Refunded."], model_info=model_info))
            await Swarm([clerk, refunder], termination_condition=MaxMessageTermination(3)).run(task="Refund me.")
            await asyncio.sleep(0.3)


async def main(model_url: str) -> None:
    """All tenants on one runtime, until the input ends."""
    loop = asyncio.get_running_loop()
    blocking, failing, handing, done = (asyncio.Event() for _ in range(4))
    orders_in = {"block": blocking.set, "rest": blocking.clear, "fail": failing.set, "hand": handing.set}

    def end() -> None:
        done.set()
        failing.set()  # who waits to begin must not wait for ever
        handing.set()

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(orders_in[line.strip()])
        loop.call_soon_threadsafe(end)

    runtime = SingleThreadedAgentRuntime()
    await Clerk.register(runtime, "clerk", Clerk)
    runtime.start()
    threading.Thread(target=listen, daemon=True).start()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(orders(runtime, "acme", 0.02, done))
        tasks.create_task(orders(runtime, "globex", 0.2, done))
        tasks.create_task(hog(runtime, blocking, done))
        tasks.create_task(asker(model_url, failing, done))
        tasks.create_task(leaver(runtime, failing, done))
        tasks.create_task(hander(handing, done))
    await runtime.stop_when_idle()


if __name__ == "__main__":
    endpoint, cells, service, model_url = sys.argv[1:]
    instrumentation.start(service_name=service, endpoint=endpoint, cell_dir=cells)
    asyncio.run(main(model_url))
    instrumentation.stop()
