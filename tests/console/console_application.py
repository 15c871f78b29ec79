"""Run as a process of its own: three tenants on one loop; `hold` makes one hold it until a line `let go`.

    python console_application.py ENDPOINT CELLS

Not a test, and imports nothing of tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from dataclasses import dataclass

from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, rpc

import instrumentation

EVIL = "<img src=x onerror=alert(1)>"  # a tenant's id that would like to be markup


@dataclass
class Order:
    """Asks a clerk to work, and perhaps to hold the loop until told otherwise."""

    hold: bool = False


@dataclass
class Receipt:
    """What a clerk answers."""


class Clerk(RoutedAgent):
    """Works, and passes on."""

    go = threading.Event()

    def __init__(self) -> None:
        super().__init__("clerk")

    @rpc
    async def on_order(self, message: Order, ctx: MessageContext) -> Receipt:
        if message.hold:
            self.render_report()
        elif self.id.key != "second":
            await self.send_message(Order(), AgentId("clerk", "second"))
        return Receipt()

    def render_report(self) -> None:
        """The mistake: waiting on the loop."""
        self.go.wait(60)


async def orders(runtime: SingleThreadedAgentRuntime, tenant: str, hold: asyncio.Event, done: asyncio.Event) -> None:
    """A tenant's day."""
    with instrumentation.tenant(tenant):
        while not done.is_set():
            holds = tenant == "hog" and hold.is_set()
            if holds:
                hold.clear()  # before the message goes: a word that comes meanwhile is for the next one
            await runtime.send_message(Order(holds), AgentId("clerk", tenant))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), 0.05)


async def main() -> None:
    """All of them, until the input ends."""
    loop = asyncio.get_running_loop()
    hold, done = asyncio.Event(), asyncio.Event()

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == "hold":
                Clerk.go.clear()
                loop.call_soon_threadsafe(hold.set)
            else:
                Clerk.go.set()
        Clerk.go.set()
        loop.call_soon_threadsafe(done.set)

    runtime = SingleThreadedAgentRuntime()
    await Clerk.register(runtime, "clerk", Clerk)
    runtime.start()
    threading.Thread(target=listen, daemon=True).start()
    await asyncio.gather(*(orders(runtime, tenant, hold, done) for tenant in ("hog", "acme", EVIL)))
    await runtime.stop_when_idle()


if __name__ == "__main__":
    instrumentation.start(service_name="billing-agents", endpoint=sys.argv[1], cell_dir=sys.argv[2])
    asyncio.run(main())
    instrumentation.stop()
