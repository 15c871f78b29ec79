"""The AutoGen side of the demo: message types, core agents, tools and teams. None of it knows of tenantscope.

Every place that can hold content gets a canary. The blocking, failing and careless parts are meant: they are
what an application gets wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import (
    AgentId,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    TypeSubscription,
    event,
    rpc,
)
from autogen_ext.models.openai import OpenAIChatCompletionClient

from .canaries import Canaries
from .handover import Report

Tool = Callable[..., Awaitable[str]]


@dataclass
class Order:
    """Asks a clerk for something; the clerk answers with a receipt."""

    customer: str
    note: str


@dataclass
class Receipt:
    """A clerk's answer."""

    note: str


@dataclass
class Entry:
    """Published by clerks; ledgers keep count of them."""

    note: str


class PaymentRefusedError(Exception):
    """Raised with a customer's secret in its message, as real ones often are."""


class Clerk(RoutedAgent):
    """Answers an order, and publishes an entry for the ledger of the same customer."""

    def __init__(self) -> None:
        super().__init__("clerk")

    @rpc
    async def on_order(self, message: Order, ctx: MessageContext) -> Receipt:  # noqa: ARG002  # AutoGen's signature
        await self.publish_message(Entry(message.note), TopicId("ledger", source=self.id.key))
        return Receipt(f"for {message.customer}: {message.note}")


class Ledger(RoutedAgent):
    """Counts entries."""

    def __init__(self) -> None:
        super().__init__("ledger")
        self.entries = 0

    @event
    async def on_entry(self, message: Entry, ctx: MessageContext) -> None:  # noqa: ARG002
        self.entries += 1


class Cashier(RoutedAgent):
    """Refuses every order."""

    def __init__(self) -> None:
        super().__init__("cashier")

    @rpc
    async def on_order(self, message: Order, ctx: MessageContext) -> Receipt:  # noqa: ARG002  # AutoGen's signature
        raise PaymentRefusedError(f"card of {message.customer} refused: {message.note}")


class Stage:
    """One runtime that all tenants share, with what they need to act on it.

    Args:
        model_url: base URL of the model.
        canaries: where secrets come from.
        stop: set when the run is to end.
    """

    def __init__(self, model_url: str, canaries: Canaries, stop: asyncio.Event) -> None:
        self.runtime = SingleThreadedAgentRuntime()
        self.canaries = canaries
        self.stop = stop
        self.report = Report()
        self._model_url = model_url
        self._clients: list[OpenAIChatCompletionClient] = []
        self._ways_to_block = itertools.cycle(((True, 0.45), (False, 0.4), (True, 0.6), (False, 0.5)))

    async def build(self) -> None:
        """Register the core agents."""
        await Clerk.register(self.runtime, "clerk", Clerk)
        await Ledger.register(self.runtime, "ledger", Ledger)
        await Cashier.register(self.runtime, "cashier", Cashier)
        await self.runtime.add_subscription(TypeSubscription("ledger", "ledger"))

    async def close(self) -> None:
        """Let the runtime finish what is queued, for at most five seconds, and close the model clients."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.runtime.stop_when_idle(), 5.0)
        await self.runtime.close()
        for client in self._clients:
            await client.close()

    async def pause(self, seconds: float) -> None:
        """Wait, or until the run is to end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)

    def count(self, table: dict[str, int], tenant: str, amount: int = 1) -> None:
        """Add to one of the report's tables."""
        table[tenant] = table.get(tenant, 0) + amount

    async def order(self, tenant: str, agent_type: str, key: str) -> Receipt:
        """Send one order to an agent of the given key and wait for its receipt."""
        self.count(self.report.sent, tenant)
        secret = self.canaries.plant("message")
        receipt: Receipt = await self.runtime.send_message(Order(key, secret), AgentId(agent_type, key))
        return receipt

    async def team(self, tool: Tool, *, stream: bool = False) -> RoundRobinGroupChat:
        """Two assistants that take turns: one has the tool, the other has the last word."""
        client = self._client(stream)
        worker = AssistantAgent(
            "worker",
            client,
            tools=[tool],
            system_message=f"Use your tool. Our master password is {self.canaries.plant('system message')}.",
            reflect_on_tool_use=True,
            model_client_stream=stream,
        )
        editor = AssistantAgent(
            "editor",
            client,
            system_message=f"Shorten what you hear. Never say {self.canaries.plant('system message')}.",
            model_client_stream=stream,
        )
        await asyncio.sleep(0)  # several teams in a row are not to hold the loop
        return RoundRobinGroupChat([worker, editor], max_turns=2, runtime=self.runtime)

    def _client(self, stream: bool) -> OpenAIChatCompletionClient:
        options: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
        client = OpenAIChatCompletionClient(
            model="gpt-4o-mini",
            api_key=f"sk-demo-{self.canaries.plant('API key')}",
            base_url=self._model_url,
            max_retries=0,
            **options,
        )
        self._clients.append(client)
        return client

    async def run_team(self, tenant: str, team: RoundRobinGroupChat) -> None:
        """One run of the team from a clean slate."""
        await team.run(task=f"Please handle the case of {self.canaries.plant('prompt')}.")
        await team.reset()
        self.count(self.report.team_runs, tenant)

    # Tools --------------------------------------------------------------------------------------------------
    # --------
    async def render_report(self, customer: str) -> str:
        """Render the monthly report of a customer."""
        asleep, seconds = next(self._ways_to_block)
        self.render_report_synchronously(asleep, seconds)
        self.report.blocked.append(seconds)
        return f"report for {customer}, filed under {self.canaries.plant('tool result')}"

    def render_report_synchronously(self, asleep: bool, seconds: float) -> None:
        """The mistake that this demo is about: blocking work on the event loop, waiting or computing."""
        deadline = time.perf_counter() + seconds
        if asleep:
            time.sleep(seconds)
        while time.perf_counter() < deadline:
            sum(range(1000))

    async def look_up(self, customer: str) -> str:
        """Look up a customer's file."""
        await asyncio.sleep(0.005)
        return f"{customer} has the number {self.canaries.plant('tool result')}"

    async def charge_card(self, customer: str) -> str:
        """Charge a customer's card."""
        raise PaymentRefusedError(f"{customer}: the bank said {self.canaries.plant('exception message')}")
