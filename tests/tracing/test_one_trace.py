"""A conversation is one trace and one tree, with the right names and nothing of its content."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections import Counter
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_apps import Ask, Asked, Noted, ask_runtime, replaying, two_agent_team
from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import NonRecordingSpan

from instrumentation import conventions, tenant
from instrumentation.testing import Captured


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def tree(spans: list[ReadableSpan]) -> Counter[tuple[str | None, str]]:
    """(name of the parent, name) of every span; a parent that was not exported fails."""
    by_id = {span.context.span_id: span for span in spans}
    return Counter((by_id[span.parent.span_id].name if span.parent is not None else None, span.name) for span in spans)


def lookup() -> str:
    """A tool."""
    return "found"


@pytest.mark.parametrize("shared", [False, True], ids=["own runtime", "shared runtime"])
def test_a_team_run_is_one_tree(captured: Captured, shared: bool) -> None:
    """Every span of a run has one trace id and hangs under `invoke_workflow`, on the team's own runtime or a shared one
    that was started elsewhere."""

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime() if shared else None
        if runtime is not None:
            with tenant("starter"):
                runtime.start()
        with tenant("acme"):
            await two_agent_team(lookup, runtime=runtime).run(task="go")
        if runtime is not None:
            await runtime.stop_when_idle()

    asyncio.run(main())
    spans = captured.spans()
    assert len({span.context.trace_id for span in spans}) == 1
    assert {attributes(span)["tenant.id"] for span in spans} == {"acme"}
    edges = tree(spans)
    assert [edge for edge in edges if edge[0] is None] == [(None, "invoke_workflow RoundRobinGroupChat")]
    assert edges["process planner", "invoke_agent planner"] == 1
    assert edges["process writer", "invoke_agent writer"] == 1
    assert edges["invoke_agent planner", "execute_tool lookup"] == 1
    assert edges["invoke_agent planner", "chat unnamed"] == 1
    assert edges["invoke_agent writer", "chat unnamed"] == 1


def test_two_runs_are_two_traces_of_one_conversation(captured: Captured) -> None:
    """A team that is run again starts a new trace; `gen_ai.conversation.id` ties the two together."""

    async def main() -> None:
        team = RoundRobinGroupChat([AssistantAgent("writer", replaying("one", "two"))], max_turns=1)
        await team.run(task="go")
        await team.run()

    asyncio.run(main())
    roots = [span for span in captured.spans() if span.parent is None]
    assert [span.name for span in roots] == ["invoke_workflow RoundRobinGroupChat"] * 2
    assert len({span.context.trace_id for span in roots}) == 2
    assert len({attributes(span)["gen_ai.conversation.id"] for span in roots}) == 1


def test_what_a_process_span_says(captured: Captured) -> None:
    """Tenant, agent type, message type and kind, sender, queue time, outcome; one span a message, nothing else."""
    seen: list[tuple[str, str | None]] = []

    async def main() -> None:
        runtime = await ask_runtime(
            first=lambda: Asked(deeper=AgentId("second", "k")), second=Asked, noted=lambda: Noted(seen)
        )
        runtime.start()
        with tenant("acme"):
            await runtime.send_message(Ask("hello"), AgentId("first", "someone@example.com"))
        await runtime.stop_when_idle()

    asyncio.run(main())
    spans = captured.spans()
    assert tree(spans) == {
        (None, "create_agent first"): 1,
        ("process first", "create_agent second"): 1,
        ("process first", "create_agent noted"): 1,
        ("process second", "create_agent noted"): 1,
        (None, "process first"): 1,
        ("process first", "process second"): 1,
        ("process first", "process noted"): 1,
        ("process second", "process noted"): 1,
    }
    second = next(span for span in spans if span.name == "process second")
    about = attributes(second)
    assert about.pop("autogen.message.queue.duration") >= 0
    assert about == {
        "tenant.id": "acme",
        "autogen.agent.type": "second",
        "autogen.message.type": "Ask",
        "autogen.message.kind": "send",
        "autogen.message.sender": "first",
        "autogen.message.outcome": "ok",
    }
    assert second.kind is trace.SpanKind.CONSUMER
    assert not second.events
    assert not second.links


def test_spans_of_the_application_join_the_trace(captured: Captured) -> None:
    """Our spans hang under the application's current span, and its spans inside handlers under ours."""
    own = TracerProvider(shutdown_on_exit=False).get_tracer("application")
    inner: list[trace.SpanContext | None] = []

    def work(_: str) -> None:
        with own.start_as_current_span("inner") as span:
            inner.append(span.parent)  # type: ignore[attr-defined]

    async def main() -> int:
        runtime = await ask_runtime(asked=lambda: Asked(work=work))
        runtime.start()
        with own.start_as_current_span("outer") as span:
            await runtime.send_message(Ask("x"), AgentId("asked", "default"))
            assert trace.get_current_span() is span
        await runtime.stop_when_idle()
        return span.get_span_context().span_id

    outer = asyncio.run(main())
    made, ours = captured.spans()
    assert made.parent == ours.parent
    assert ours.parent is not None
    assert ours.parent.span_id == outer
    assert inner[0] is not None
    assert inner[0].span_id == ours.context.span_id


SECRETS = (
    "s3cr3t-prompt",
    "s3cr3t-answer",
    "s3cr3t-argument",
    "s3cr3t-result",
    "s3cr3t-error",
    "s3cr3t@example.com",
)


def test_no_content_in_anything_exported(captured: Captured) -> None:
    """Prompts, answers, tool arguments and results, exception texts and agent keys appear in no span and no metric."""

    def look(argument: str) -> str:
        """A tool with a s3cr3t-prompt in its description."""
        return "s3cr3t-result"

    def fail() -> str:
        """A tool."""
        raise ValueError("s3cr3t-error")

    async def explode(_: str) -> None:
        raise KeyError("s3cr3t-error")

    async def main() -> None:
        with tenant("acme"):
            await two_agent_team(look, arguments='{"argument": "s3cr3t-argument"}').run(task="s3cr3t-prompt")
            await two_agent_team(fail).run(task="s3cr3t-prompt")
            runtime = await ask_runtime(asked=lambda: Asked(work=explode))
            runtime.start()
            with pytest.raises(KeyError):
                await runtime.send_message(Ask("s3cr3t-prompt"), AgentId("asked", "s3cr3t@example.com"))
            await runtime.stop_when_idle()

    asyncio.run(main())
    spans = captured.spans()
    everything = "".join(span.to_json() for span in spans)
    everything += "".join(str(captured.points(metric.name)) for metric in conventions.METRICS)
    assert not [secret for secret in SECRETS if secret in everything]
    assert not any(span.events for span in spans)
    failed = [span for span in spans if "error.type" in attributes(span)]
    assert {(span.name, attributes(span)["error.type"]) for span in failed} == {
        ("execute_tool fail", "ValueError"),
        ("process asked", "KeyError"),
    }
    assert all(span.status.description is None for span in spans)
    assert {(p.attributes or {})["error.type"] for p in captured.points("autogen.errors")} == {
        "ValueError",
        "KeyError",
    }


def test_a_stream_leaves_its_reader_alone(captured: Captured) -> None:
    """Between the items of `run_stream` the reader's own span is current; so it is after an abandoned stream."""
    own = TracerProvider(shutdown_on_exit=False).get_tracer("application")

    async def main() -> None:
        with own.start_as_current_span("reader") as reader:
            agent = AssistantAgent("writer", replaying("one", "two", "three"))
            async for _ in agent.run_stream(task="go"):
                assert trace.get_current_span() is reader
            team = RoundRobinGroupChat([agent], max_turns=2)
            async for _ in team.run_stream(task="go"):
                assert trace.get_current_span() is reader
            before = otel.get_current()
            async for _ in agent.run_stream(task="go"):
                break
            assert otel.get_current() is before

    asyncio.run(main())
    names = Counter(span.name for span in captured.spans())
    assert names["invoke_agent writer"] == 4
    assert names["invoke_workflow RoundRobinGroupChat"] == 1


def test_a_stream_closed_by_another_task(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    """No «Failed to detach context», and the activity still ends once, without an error."""

    async def main() -> None:
        stream = AssistantAgent("writer", replaying("one")).run_stream(task="go")
        await asyncio.create_task(anext(stream))  # type: ignore[arg-type]
        await asyncio.create_task(stream.aclose())  # type: ignore[arg-type]

    asyncio.run(main())
    assert "detach" not in caplog.text
    ended = [span for span in captured.spans() if span.name == "invoke_agent writer"]
    assert len(ended) == 1
    assert "error.type" not in attributes(ended[0])


def test_a_copy_of_the_span_is_a_plain_span(captured: Captured) -> None:
    """An application that copies or pickles what is current gets the ids, in a class of OpenTelemetry's, and nothing
    of whom the work is for."""
    kept: list[Any] = []

    class Keeps(RoutedAgent):
        @message_handler
        async def keep(self, message: Ask, ctx: MessageContext) -> Ask:
            span = trace.get_current_span()
            kept.extend((span, copy.copy(span), copy.deepcopy(span), pickle.dumps(span)))
            return message

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime()
        await Keeps.register(runtime, "keeps", lambda: Keeps("keeps"))
        runtime.start()
        with tenant("acme"):
            await runtime.send_message(Ask("x"), AgentId("keeps", "k"))
        await runtime.stop_when_idle()

    asyncio.run(main())
    span, *copies, pickled = kept
    assert b"acme" not in pickled
    for copied in (*copies, pickle.loads(pickled)):
        assert type(copied) is NonRecordingSpan
        assert copied.get_span_context() == span.get_span_context()
