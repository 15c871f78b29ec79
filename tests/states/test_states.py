"""Saving and loading: size, agents, tenant, and whether it is the same state."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_apps import replaying
from autogen_core import AgentId, BaseAgent, MessageContext, SingleThreadedAgentRuntime
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan

from instrumentation import tenant
from instrumentation.telemetry.digests import Digests
from instrumentation.tenancy import Tenant
from instrumentation.testing import Captured, capture

ACME, GLOBEX = Tenant("acme", 2), Tenant("globex", 3)


def make_team() -> RoundRobinGroupChat:
    return RoundRobinGroupChat([AssistantAgent("writer", replaying("s3cr3t one", "s3cr3t two"))], max_turns=1)


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def states(captured: Captured) -> list[tuple[str, dict[str, Any]]]:
    return [(span.name, about(span)) for span in captured.spans() if "autogen.component" in about(span)]


def test_a_team_that_another_worker_goes_on_with(captured: Captured) -> None:
    """What is loaded is what was saved, told by the digest, after a journey through JSON too; one span each, under the
    tenant, with nothing of the conversation."""

    async def main() -> Any:
        with tenant("acme"):
            team = make_team()
            await team.run(task="s3cr3t")
            state = json.loads(json.dumps(await team.save_state(), sort_keys=True))
            other = make_team()
            await other.load_state(state)
            await other.run(task="s3cr3t again")
            return await other.save_state()

    asyncio.run(main())
    (first, saved), (second, loaded), (third, later) = states(captured)
    assert [first, second, third] == [
        "save_state RoundRobinGroupChat", "load_state RoundRobinGroupChat", "save_state RoundRobinGroupChat",
    ]  # fmt: skip
    assert saved["autogen.state.digest"] == loaded["autogen.state.digest"] != later["autogen.state.digest"]
    assert saved["autogen.state.size"] == loaded["autogen.state.size"] < later["autogen.state.size"]
    assert saved["autogen.state.agents"] == 2
    assert {found["tenant.id"] for found in (saved, loaded, later)} == {"acme"}
    assert "s3cr3t" not in "".join(span.to_json() for span in captured.spans())
    sizes = {
        ((p.attributes or {})["tenant.id"], (p.attributes or {})["autogen.activity"]): p.count  # type: ignore[union-attr]
        for p in captured.points("autogen.state.size")
    }
    assert sizes == {("acme", "save_state"): 2, ("acme", "load_state"): 1}


class Counting(BaseAgent):
    """Its state is a number."""

    def __init__(self) -> None:
        super().__init__("counting")
        self.count: object = 1

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        return None

    async def save_state(self) -> dict[str, Any]:
        return {"count": self.count}

    async def load_state(self, state: Any) -> None:
        self.count = state["count"]


def test_a_runtime_and_an_agent_of_its_own(captured: Captured) -> None:
    """A runtime's state is of all of its agents; an agent's is one, also when its runtime is asked for it."""

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime()
        await runtime.register_factory("counting", Counting)
        runtime.start()
        with tenant("acme"):
            for key in ("one", "s3cr3t"):
                await runtime.send_message("x", AgentId("counting", key))
            await runtime.load_state(await runtime.save_state())
            agent = AssistantAgent("writer", replaying("x"))
            await agent.load_state(await agent.save_state())
            one = AgentId("counting", "one")
            await runtime.agent_load_state(agent=one, state=await runtime.agent_save_state(one))
            with pytest.raises(KeyError):
                await runtime.agent_load_state(one, {})
        await runtime.stop_when_idle()

    asyncio.run(main())
    found = states(captured)
    assert [(name, attributes.get("autogen.state.agents")) for name, attributes in found] == [
        ("save_state SingleThreadedAgentRuntime", 2), ("load_state SingleThreadedAgentRuntime", 2),
        ("save_state AssistantAgent", 1), ("load_state AssistantAgent", 1),
        ("save_state counting", 1), ("load_state counting", 1), ("load_state counting", None),
    ]  # fmt: skip
    for saved, loaded in zip(found[:6:2], found[1:6:2], strict=True):
        assert saved[1]["autogen.state.digest"] == loaded[1]["autogen.state.digest"]
    assert found[6][1]["error.type"] == "KeyError"
    assert "s3cr3t" not in str(found)


def test_a_state_that_cannot_be_measured_is_saved_and_loaded(captured: Captured) -> None:
    """Without size and digest, and the application never notices; a load that fails fails as it does."""

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime()
        await runtime.register_factory("counting", Counting)
        runtime.start()
        await runtime.send_message("x", AgentId("counting", "one"))
        kept: Any = runtime._instantiated_agents[AgentId("counting", "one")]
        kept.count = object()
        state = await runtime.save_state()
        assert state["counting/one"]["count"] is kept.count
        with pytest.raises(KeyError):
            await runtime.load_state({"counting/one": {}})
        await runtime.stop_when_idle()

    asyncio.run(main())
    (_, saved), (_, loaded) = states(captured)
    assert "autogen.state.digest" not in saved
    assert loaded["error.type"] == "KeyError"


def test_digests_compare_between_processes_that_share_a_key() -> None:
    """With `TENANTSCOPE_DIGEST_KEY`; without it each process has its own."""

    def digest(**settings: object) -> str:
        async def main() -> None:
            with tenant("acme"):
                await AssistantAgent("writer", replaying()).save_state()

        with capture(**settings) as captured:
            asyncio.run(main())
            ((_, saved),) = states(captured)
            return str(saved["autogen.state.digest"])

    assert digest(digest_key="k" * 16) == digest(digest_key="k" * 16)
    assert len({digest(digest_key="k" * 17), digest(digest_key="k" * 16), digest(), digest()}) == 4


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def as_json(state: Any) -> str:
    return json.dumps(state, sort_keys=True, ensure_ascii=True)


@settings(max_examples=300, deadline=None)
@given(VALUES, VALUES)
def test_the_same_digest_means_the_same_state(one: Any, other: Any) -> None:
    """As JSON sees it: the digests of two states are equal when their JSON is, and not otherwise."""
    digests = Digests("key")
    first, second = digests.of_state(ACME, one), digests.of_state(ACME, other)
    assert first is not None
    assert second is not None
    assert (first[1] == second[1]) == (as_json(one) == as_json(other))
    assert digests.of_state(ACME, json.loads(json.dumps(one))) == first
    elsewhere = digests.of_state(GLOBEX, one)
    assert elsewhere is not None
    assert elsewhere[1] != first[1]


def endless() -> list[Any]:
    state: list[Any] = []
    state.append(state)
    return state


class Text(str):
    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        raise AssertionError("an application's own code")


@pytest.mark.parametrize(
    "state",
    [endless(), [0] * 30_000, ["x"] * 30_000, {str(n): n for n in range(30_000)}, "x" * 5_000_000, {1: 2}, {"a": {1}},
     Text("x"), {"a": Text("x")}, b"x", 10**5000, [["x" * 2_000_000] * 3]],
    ids=["endless", "long", "words", "wide", "text", "int key", "set", "subclass", "inner", "bytes", "number", "large"],
)  # fmt: skip
def test_states_that_are_left_alone(state: Any) -> None:
    """Too much of it, or what is no plain value: nothing of the application's own code runs."""
    assert Digests().of_state(ACME, state) is None


def test_odd_values_have_a_digest() -> None:
    """Numbers that JSON has no word for, and text that is no Unicode."""
    for state in (math.nan, math.inf, -0.0, "\ud800", {"\udfff": ""}, 10**400, (), {}):
        assert Digests().of_state(ACME, state) is not None
