"""Run as a process of its own: a small AutoGen application of three tenants that does what it is told on its input.

    python application.py ENDPOINT CELLS SERVICE

`block` makes the tenant `hog` hold the loop again and again until `rest`; the end of the input ends it. The tenant
`acme` sends small messages all the time, `globex` now and then. Not a test, and imports nothing of tests.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from dataclasses import dataclass

from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, rpc

import instrumentation

HELD = 0.3


@dataclass
class Order:
    """Asks a clerk to work, and to hold the loop meanwhile for so many seconds."""

    hold: float = 0.0


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


async def main() -> None:
    """All tenants on one runtime, until the input ends."""
    loop = asyncio.get_running_loop()
    blocking, done = asyncio.Event(), asyncio.Event()
    orders_in = {"block": blocking.set, "rest": blocking.clear}

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(orders_in[line.strip()])
        loop.call_soon_threadsafe(done.set)

    runtime = SingleThreadedAgentRuntime()
    await Clerk.register(runtime, "clerk", Clerk)
    runtime.start()
    threading.Thread(target=listen, daemon=True).start()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(orders(runtime, "acme", 0.02, done))
        tasks.create_task(orders(runtime, "globex", 0.2, done))
        tasks.create_task(hog(runtime, blocking, done))
    await runtime.stop_when_idle()


if __name__ == "__main__":
    endpoint, cells, service = sys.argv[1:]
    instrumentation.start(service_name=service, endpoint=endpoint, cell_dir=cells)
    asyncio.run(main())
    instrumentation.stop()
