"""The rule `agent_shared`: one agent instance works for several tenants, so its memory is theirs in common."""

from __future__ import annotations

import asyncio

from autogen_apps import Ask, Asked, ask_runtime
from autogen_core import (
    AgentId,
    AgentInstantiationContext,
    AgentMetadata,
    AgentRuntime,
    MessageContext,
    SingleThreadedAgentRuntime,
)

from instrumentation import tenant
from instrumentation.isolation import Isolation
from instrumentation.tenancy import TenantTable
from instrumentation.testing import Captured


def findings(captured: Captured) -> dict[tuple[str, str], float]:
    return {
        (about["tenant.id"], about["tenantscope.rule"]): point.value  # type: ignore[union-attr,misc,index]
        for point in captured.points("autogen.isolation.findings")
        for about in (point.attributes,)
    }


def ask_as(captured: Captured, *asks: tuple[str | None, str]) -> dict[tuple[str, str], float]:
    """Each (tenant, agent key) sends one message, in this order."""

    async def main() -> None:
        runtime = await ask_runtime(asked=Asked)
        runtime.start()
        for who, key in asks:
            if who is None:
                await runtime.send_message(Ask("x"), AgentId("asked", key))
            else:
                with tenant(who):
                    await runtime.send_message(Ask("x"), AgentId("asked", key))
        await runtime.stop_when_idle()

    asyncio.run(main())
    return findings(captured)


def test_an_agent_that_serves_two_tenants_is_found_once(captured: Captured) -> None:
    """Reported for the tenant who came second, once an agent, however many messages and tenants follow."""
    asks = [("acme", "k"), ("acme", "k"), ("globex", "k"), ("globex", "k"), ("initech", "k"), ("acme", "k")]
    assert ask_as(captured, *asks) == {("globex", "agent_shared"): 1}


def test_an_agent_for_each_tenant_is_no_finding(captured: Captured) -> None:
    """The ordinary case: the key tells tenants apart."""
    assert ask_as(captured, ("acme", "a"), ("globex", "g"), ("acme", "a")) == {}


def test_work_for_nobody_is_no_finding(captured: Captured) -> None:
    """Without a tenant there is nobody to be isolated from."""
    assert ask_as(captured, (None, "k"), ("acme", "k"), (None, "k")) == {}


def test_an_agent_that_cannot_be_remembered_is_watched_all_the_same(captured: Captured) -> None:
    """An instance of a class with slots has no weak references: nothing is found of it, and its messages have spans."""

    class Slotted:
        __slots__ = ("id", "metadata")

        def __init__(self) -> None:
            self.id = AgentInstantiationContext.current_agent_id()
            self.metadata = AgentMetadata(type=self.id.type, key=self.id.key, description="")

        async def on_message(self, message: Ask, ctx: MessageContext) -> Ask:
            return message

        async def bind_id_and_runtime(self, id: AgentId, runtime: AgentRuntime) -> None:  # noqa: A002
            pass

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime()
        await runtime.register_factory("slotted", Slotted)  # type: ignore[arg-type]  # all that AutoGen asks of it
        runtime.start()
        for who in ("acme", "globex"):
            with tenant(who):
                await runtime.send_message(Ask("x"), AgentId("slotted", "k"))
        await runtime.stop_when_idle()

    asyncio.run(main())
    about = [span.attributes or {} for span in captured.spans() if span.name == "process slotted"]
    assert [attributes["tenant.id"] for attributes in about] == ["acme", "globex"]
    assert findings(captured) == {}


def test_what_is_remembered_is_bounded() -> None:
    """A million agents later the table has not grown beyond its bound, and what it knew it still knows."""

    class Recorder:
        def __init__(self) -> None:
            self.found: list[tuple[str, str]] = []

        def finding(self, tenant_id: str, rule: str) -> None:
            self.found.append((tenant_id, rule))

    recorder, table = Recorder(), TenantTable()
    acme, globex = table.intern("acme"), table.intern("globex")
    isolation = Isolation(recorder)  # type: ignore[arg-type]
    first = AgentId("asked", "first")
    isolation.handled(first, acme)
    others = [AgentId("asked", str(n)) for n in range(20_000)]
    for other in others:
        isolation.handled(other, acme)
    assert len(isolation._first) == 10_000
    isolation.handled(first, globex)
    assert recorder.found == [("globex", "agent_shared")]


def test_a_runtime_for_each_tenant_is_no_finding(captured: Captured) -> None:
    """The same id in two runtimes, even the same `AgentId` object, is two agents."""
    shared_id = AgentId("asked", "k")

    async def main() -> None:
        for who in ("acme", "globex"):
            runtime = await ask_runtime(asked=Asked)
            runtime.start()
            with tenant(who):
                await runtime.send_message(Ask("x"), shared_id)
            await runtime.stop_when_idle()

    asyncio.run(main())
    assert findings(captured) == {}
