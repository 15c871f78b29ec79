"""Two tenants on one AutoGen runtime, told apart. Needs no model, no network and no sidecar:

    python examples/minimal.py

Start `tenantscope sidecar` first to see what is exported; without one, the example runs the same.
"""

import asyncio
from dataclasses import dataclass

from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, rpc

import instrumentation


@dataclass
class Question:
    text: str


class Clerk(RoutedAgent):
    @rpc
    async def on_question(self, message: Question, ctx: MessageContext) -> str:  # noqa: ARG002
        # The handler runs in a task of the runtime, far from the sender; the tenant came along.
        return f"answered for {instrumentation.current_tenant()}"


async def main() -> None:
    instrumentation.start(service_name="minimal")

    runtime = SingleThreadedAgentRuntime()
    await Clerk.register(runtime, "clerk", lambda: Clerk("a clerk"))
    runtime.start()

    async def serve(tenant: str) -> None:
        with instrumentation.tenant(tenant):
            # An agent for each tenant: one that works for several remembers for several, which is a finding.
            print(await runtime.send_message(Question("how much?"), AgentId("clerk", tenant)))

    await asyncio.gather(serve("acme"), serve("globex"))
    await runtime.stop_when_idle()
    instrumentation.stop()


if __name__ == "__main__":
    asyncio.run(main())
