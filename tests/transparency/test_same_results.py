"""The application does the same with us, without us, and with every hook of ours broken."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_apps import Ask, Asked, Note, Noted, ask_runtime, replaying, tool_call, two_agent_team
from autogen_core import (
    AgentId,
    CancellationToken,
    DefaultInterventionHandler,
    DefaultTopicId,
    DropMessage,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    default_subscription,
    message_handler,
)
from autogen_core.memory import ListMemory
from autogen_core.models import UserMessage
from autogen_ext.models.replay import ReplayChatCompletionClient
from sabotage import broken, outcome

from instrumentation import activation, tenancy, tenant
from instrumentation.hooks import (
    agents_and_tools,
    calls,
    construction,
    model_client,
    open_call,
    passport,
    run_loop,
    runtime,
    states,
    streams,
    team,
    termination,
    turns_of_agents,
    workbench,
)  # fmt: skip
from instrumentation.isolation import Isolation
from instrumentation.loop import Loops
from instrumentation.telemetry import digests, recorder, spans
from instrumentation.telemetry.accumulators import Accumulators, Series
from instrumentation.telemetry.export import Exporter
from instrumentation.testing import capture


class Silent(RoutedAgent):
    """Answers None."""

    def __init__(self) -> None:
        super().__init__("silent")

    @message_handler
    async def on_ask(self, message: Ask, ctx: MessageContext) -> None:
        return None


@default_subscription
class Failing(RoutedAgent):
    """Fails on every note."""

    def __init__(self) -> None:
        super().__init__("failing")

    @message_handler
    async def on_note(self, message: Note, ctx: MessageContext) -> None:
        raise LookupError("no")


class Changing(DefaultInterventionHandler):
    """Shouts, drops what says drop, fails on what says fail, and returns None for what says nothing."""

    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        if message.text == "drop":
            return DropMessage
        if message.text == "fail":
            raise LookupError("no")
        return None if message.text == "nothing" else Ask(message.text.upper())


def lookup(word: str = "x") -> str:
    """A tool."""
    if word == "fail":
        raise ValueError("tool")
    return word * 2


async def everything() -> list[str]:
    """One of each thing that an application does; returns what it saw."""
    seen: list[Any] = []
    with tenant("acme"), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")

        def fail(_: str) -> None:
            raise KeyError("handler")

        app = await ask_runtime(
            asked=lambda: Asked(deeper=AgentId("deeper", "k")), deeper=Asked, failing=lambda: Asked(work=fail),
            silent=Silent, noted=lambda: Noted(seen),
        )  # fmt: skip
        app.start()

        def ask(agent: str, **kwargs: Any) -> Any:
            return app.send_message(Ask("x"), AgentId(agent, "default"), **kwargs)

        cancelled = CancellationToken()
        cancelled.cancel()
        results = [
            await outcome(ask("asked")),
            await outcome(ask("failing")),
            await outcome(ask("silent")),
            await outcome(ask("nobody")),
            await outcome(ask("asked", sender=AgentId("nobody", "k"))),
            await outcome(ask("asked", cancellation_token=cancelled)),
            await outcome(app.send_message(None, AgentId("silent", "default"))),
            await outcome(app.publish_message(Note("n"), TopicId("default", "k"))),
        ]
        await app.stop_when_idle()
        results.append(str(sorted(text for text, _ in seen)))

        changing = SingleThreadedAgentRuntime(intervention_handlers=[Changing()])
        await Asked.register(changing, "asked", Asked)
        changing.start()
        results += [
            await outcome(changing.send_message(Ask(text), AgentId("asked", "default")))
            for text in ("loud", "drop", "fail", "nothing")
        ]
        await changing.stop()

        for argument in ("{}", '{"word": "fail"}', "not json"):
            result = await two_agent_team(lookup, arguments=argument).run(task="go")
            results.append(str([(type(m).__name__, getattr(m, "content", None)) for m in result.messages]))
            results.append(str(result.stop_reason))
        team = two_agent_team(lookup)
        await team.run(task="go")
        state = await team.save_state()
        results += [str(list(state["agent_states"])), await outcome(team.load_state(state))]
        results += [await outcome(team.load_state({})), await outcome(team.reset())]
        items = [type(item).__name__ async for item in two_agent_team(lookup).run_stream(task="go")]
        results.append(str(items))

        ends = MaxMessageTermination(9) | TextMentionTermination("no more")
        streaming = AssistantAgent("streaming", replaying("no more"), model_client_stream=True)
        ended = await RoundRobinGroupChat([streaming], termination_condition=ends).run(task="go")
        results.append(str(ended.stop_reason))
        handing = AssistantAgent("handing", replaying(tool_call("transfer_to_desk", "{}")), handoffs=["desk"])
        handed = await handing.run(task="go")
        results.append(str([(type(m).__name__, getattr(m, "target", None)) for m in handed.messages]))

        asked = [TextMessage(content="go", source="user")]
        told = await AssistantAgent("alone", replaying("answer")).on_messages(asked, CancellationToken())
        results.append(str(told.chat_message.content))

        strict = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
        await Failing.register(strict, "failing", Failing)
        strict.start()
        await strict.publish_message(Note("n"), DefaultTopicId())
        results.append(await outcome(strict.stop_when_idle()))
    own = [str(w.message) for w in warned if issubclass(w.category, RuntimeWarning)]
    # Answers carry the tenant only when somebody is there to carry it; everything else must be the same to the letter.
    return [line.replace("tenant='acme'", "tenant=?").replace("tenant=None", "tenant=?") for line in results + own]


@pytest.fixture(scope="module")
def bare() -> list[str]:
    return asyncio.run(everything())


def test_watched_results_are_the_bare_results(bare: list[str]) -> None:
    """Results, exceptions, streams and AutoGen's own warnings are the same to the letter."""
    with capture():
        assert asyncio.run(everything()) == bare
    assert len(bare) > 15


class Chiding(ReplayChatCompletionClient):
    """As AutoGen's clients do: a warning that is about the caller."""

    async def create(self, *args: Any, **kwargs: Any) -> Any:
        warnings.warn("about a call", stacklevel=2)
        return await super().create(*args, **kwargs)

    async def create_stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:  # type: ignore[override]
        warnings.warn("about a stream", stacklevel=2)
        async for item in super().create_stream(*args, **kwargs):
            yield item
            warnings.warn("about a piece", stacklevel=2)


class Forgetful(ListMemory):
    async def clear(self) -> None:
        warnings.warn("about a memory", stacklevel=2)


async def warned_about() -> list[tuple[str, str, int]]:
    """The text and place of every warning."""
    ask = [UserMessage(content="x", source="u")]
    client = Chiding(["one", "two"])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        await client.create(ask)
        async for _ in client.create_stream(ask):
            pass
        await Forgetful().clear()
    return [(str(warning.message), warning.filename, warning.lineno) for warning in warned]


def test_warnings_are_about_whom_they_were_about() -> None:
    """AutoGen warns about the caller of a method: file and line decide what is printed, and which filter holds."""
    bare = asyncio.run(warned_about())
    with capture():
        assert asyncio.run(warned_about()) == bare
    assert {file for _, file, _ in bare} == {__file__}
    assert len({text for text, _, _ in bare}) == 4


BREAKABLE: list[tuple[Any, str]] = [
    (runtime, "name_of"), (runtime.TraceTap, "process"), (runtime, "_Sending"),
    (passport.Passport, "__init__"), (passport.Passport, "give_up"), (runtime._Publishing, "_nobody_had_it"),
    (runtime, "_Delivering"),
    (runtime.TraceTap, "create"), (construction, "name_of"), (run_loop, "_tenant"),
    (recorder.Recorder, "responded"), (digests.Digests, "_begin"), (calls, "open_activity"),
    (termination, "_names"),
    (turns_of_agents, "mark"), (turns_of_agents, "open_activity"), (turns_of_agents, "AgentTurn"),
    (states, "_take"), (recorder.Recorder, "abandoned"),
    (model_client, "_model_of"), (model_client, "_provider_of"), (model_client, "_innermost"),
    (open_call, "_tokens"), (open_call.OpenCall, "took"), (open_call.OpenCall, "first_chunk"),
    (workbench, "_name"), (workbench, "size_of"), (agents_and_tools, "_Told"),
    (agents_and_tools, "name_of"), (team, "name_of"), (streams.otel, "attach"), (Isolation, "handled"),
    (team, "handoffs_that_end"),
    (spans.SpanFactory, "open"), (spans.ActivitySpan, "__init__"), (recorder.Recorder, "account"), (Exporter, "emit"),
    (recorder.Recorder, "scope"), (recorder.Recorder, "lost_message"), (recorder, "Context"),
    (Accumulators, "of"), (Series, "add"), (Series, "record"),
    (Exporter, "start"),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), BREAKABLE, ids=lambda value: getattr(value, "__name__", value))
def test_a_broken_hook_changes_nothing(bare: list[str], owner: Any, name: str) -> None:
    """Each piece of ours made to raise, one at a time: the application's results stay the same."""
    with broken(owner, name), capture():
        found = asyncio.run(everything())
    assert found == bare


def test_a_tenant_table_that_is_broken_changes_nothing(bare: list[str]) -> None:
    """Who has come before is known, and who has not is `unknown`."""
    tenancy.TABLE.intern("acme")
    with broken(tenancy.TenantTable, "_come"), capture(), tenant("never-seen-before"):
        assert asyncio.run(everything()) == bare


@pytest.mark.parametrize("name", ["_attach_runtime", "_attach_trace_spans", "_attach_components", "_attach_logger"])
def test_a_seam_that_is_missing_is_skipped(bare: list[str], name: str) -> None:
    """An AutoGen that lacks a seam is watched through the others."""
    with broken(activation.Activation, name), capture():
        assert asyncio.run(everything()) == bare


def test_loops_that_cannot_start_are_no_obstacle(bare: list[str]) -> None:
    """Without loop accounting the rest goes on, or nothing does; the application never notices."""
    with broken(Loops, "start"), capture():
        assert asyncio.run(everything()) == bare
