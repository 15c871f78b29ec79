"""Work that ends in an unusual way: thrown away, closed by somebody else, cancelled at any step.

The application sees what it would see without us, and nobody's tenant or span is changed by the end of another's work.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_apps import Ask, Asked, ask_runtime, replaying, tool_call, two_agent_team
from autogen_core import AgentId
from autogen_core.models import UserMessage
from autogen_ext.models.replay import ReplayChatCompletionClient
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from instrumentation import current_tenant, lifecycle, tenant
from instrumentation.testing import Captured, capture

ASK = [UserMessage(content="x", source="user")]


class Endless(ReplayChatCompletionClient):
    """Never answers."""

    async def create(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.Future()

    async def create_stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        yield "first"
        await asyncio.Future()


def elsewhere(end: Callable[[], object]) -> tuple[str | None, bool]:
    """Run `end` in the middle of somebody's work: his tenant afterwards, and whether his span is still current."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("application")

    def work() -> tuple[str | None, bool]:
        with tenant("somebody"), tracer.start_as_current_span("his") as span:
            end()
            return current_tenant(), trace.get_current_span() is span

    return contextvars.Context().run(work)


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_call_that_is_thrown_away(captured: Captured, stream: bool) -> None:
    """Closed in another context, in the middle of its wait: no error, and nothing of that context is changed."""
    client = Endless([])

    async def main() -> list[Any]:
        step: Any
        if not stream:
            step = client.create(ASK)
        else:
            items = client.create_stream(ASK)
            assert await anext(items) == "first"
            step = items.__anext__()
        with tenant("acme"):
            step.send(None)
        return [step]

    steps = asyncio.run(main())
    assert elsewhere(lambda: steps.pop().close()) == ("somebody", True)


def test_a_send_that_is_thrown_away() -> None:
    """Also when a resolver named its tenant."""
    with capture(resolver=lambda _: "resolved"):

        async def main() -> list[Any]:
            runtime = await ask_runtime(asked=Asked)
            sending: Any = runtime.send_message(Ask("x"), AgentId("asked", "k"))
            sending.send(None)
            return [sending]

        sends = asyncio.run(main())
        assert elsewhere(lambda: sends.pop().close()) == ("somebody", True)


def test_a_run_loop_that_is_thrown_away(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is closed with a runtime on it: the end of its tasks, whenever that is, unbinds nobody."""

    async def forever(_: str) -> None:
        await asyncio.Future()

    async def main() -> None:
        runtime = await ask_runtime(asked=lambda: Asked(work=forever))
        runtime.start()
        with tenant("acme"):
            sending = asyncio.create_task(runtime.send_message(Ask("x"), AgentId("asked", "k")))  # type: ignore[arg-type]
            for _ in range(10):
                await asyncio.sleep(0)
        assert not sending.done()

    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)  # AutoGen's queue wants its loop even then
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # «Task was destroyed but it is pending!» is what is wanted
    loop.run_until_complete(main())
    loop.close()
    del loop
    assert elsewhere(gc.collect) == ("somebody", True)


def streams() -> dict[str, Callable[[], AsyncGenerator[Any, None]]]:
    return {
        "team": lambda: two_agent_team(lookup).run_stream(task="go"),
        "agent": lambda: AssistantAgent("writer", replaying("one")).run_stream(task="go"),
        "model": lambda: replaying("one two three").create_stream(ASK),
    }


def lookup() -> str:
    """A tool."""
    return "found"


async def break_off(make: Callable[[], AsyncGenerator[Any, None]], how: str) -> list[str]:
    """Take an item and end the stream: what the loop's exception handler and the caller were told."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, about: told.append(f"{about['message']} {type(about.get('exception'))}")
    )
    stream = make()
    before = otel.get_current()
    await anext(stream)
    try:
        if how == "thrown into":
            await stream.athrow(LookupError("mine"))
        elif how == "closed":
            await stream.aclose()
        elif how == "closed by another task":
            await asyncio.create_task(stream.aclose())  # type: ignore[arg-type]
        elif how == "garbage":
            del stream
            gc.collect()
            for _ in range(50):
                await asyncio.sleep(0)
        elif how == "step cancelled":
            step = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            step.cancel()
            await step
            await stream.aclose()
    except BaseException as error:
        told.append(f"raised {type(error).__name__}: {error}")
    if lifecycle.running() is not None:  # AutoGen's own spans leak here
        assert otel.get_current() == before
    if how == "left to the end of the loop":
        kept.append(stream)
    return told


kept: list[Any] = []
ENDS = (
    "thrown into", "closed", "closed by another task", "garbage", "left to the end of the loop", "step cancelled",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:coroutine method 'aclose'")
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("which", streams())
def test_a_stream_that_is_broken_off(which: str, how: str) -> None:
    """The caller and the loop are told the same with us and without us."""
    make = streams()[which]

    def run() -> list[str]:
        kept.clear()
        told: list[str] = []

        async def main() -> None:
            told.extend(await break_off(make, how))
            asyncio.get_running_loop().set_exception_handler(
                lambda _, about: told.append(f"{about['message'][:60]} {type(about.get('exception'))}")
            )

        asyncio.run(main())
        return told

    bare = run()
    with capture():
        assert run() == bare


async def run_until(step: int) -> tuple[str, list[str]]:
    """A team run with a tool and two agents, cancelled at the loop's n-th step: how it ended, the loop's word."""
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, about: told.append(f"{about['message']} {about.get('exception')!r}"))
    planner = AssistantAgent("planner", replaying(tool_call("lookup", "{}"), "done"), tools=[lookup])
    team = RoundRobinGroupChat([planner, AssistantAgent("writer", replaying("written"))], max_turns=2)
    running = asyncio.create_task(team.run(task="go"))
    for _ in range(step):
        await asyncio.sleep(0)
        if running.done():
            break
    running.cancel()
    try:
        result = await running
        ended = str([type(message).__name__ for message in result.messages])
    except BaseException as error:
        ended = f"{type(error).__name__}: {error}"
    # And the team is as usable, or as broken, as without us.
    try:
        async with asyncio.timeout(5):
            await team.reset()
        ended += " reset"
    except BaseException as error:
        ended += f" {type(error).__name__}: {error}"
    return ended, told


def test_cancelled_at_every_step() -> None:
    """Wherever the cancellation hits, the run ends as it does without us; what was bound still is."""
    ends = set()
    for step in range(0, 140, 3):
        bare = asyncio.run(run_until(step))
        with capture(), tenant("acme"):
            watched = asyncio.run(run_until(step))
            assert current_tenant() == "acme"
        assert watched == bare, step
        ends.add(bare[0])
    assert len(ends) > 1, "some were cancelled, some were not"
