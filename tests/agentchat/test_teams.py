"""Teams: what ended a run, whom it was handed over to, whose model calls they were, a person's time, control."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent, BaseChatAgent, UserProxyAgent
from autogen_agentchat.base import Response, TerminationCondition
from autogen_agentchat.conditions import (
    ExternalTermination,
    FunctionalTermination,
    FunctionCallTermination,
    HandoffTermination,
    MaxMessageTermination,
    SourceMatchTermination,
    StopMessageTermination,
    TextMentionTermination,
    TextMessageTermination,
    TimeoutTermination,
    TokenUsageTermination,
)
from autogen_agentchat.messages import BaseChatMessage, HandoffMessage, StopMessage, TextMessage
from autogen_agentchat.teams import MagenticOneGroupChat, RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_apps import one_tree, replaying, tool_call
from autogen_core import CancellationToken
from opentelemetry.sdk.trace import ReadableSpan

from instrumentation import tenant
from instrumentation.testing import Captured


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def named(captured: Captured, name: str) -> list[ReadableSpan]:
    return [span for span in captured.spans() if span.name == name]


class Stopping(BaseChatAgent):
    """Says one thing, as a message of the class it is given."""

    def __init__(self, name: str, message: type[BaseChatMessage], text: str = "s3cr3t-word") -> None:
        super().__init__(name, "an agent")
        self._message = message
        self._text = text

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage, StopMessage)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        return Response(chat_message=self._message(content=self._text, source=self.name))  # type: ignore[call-arg]

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        return None


def set_off() -> ExternalTermination:
    condition = ExternalTermination()
    condition.set()
    return condition


CONDITIONS: list[tuple[TerminationCondition, str]] = [
    (MaxMessageTermination(2), "MaxMessageTermination"),
    (TextMentionTermination("s3cr3t-word"), "TextMentionTermination"),
    (StopMessageTermination(), "StopMessageTermination"),
    (SourceMatchTermination(["speaker"]), "SourceMatchTermination"),
    (TextMessageTermination("speaker"), "TextMessageTermination"),
    (TimeoutTermination(0.0), "TimeoutTermination"),
    (FunctionalTermination(lambda _: True), "FunctionalTermination"),
    (set_off(), "ExternalTermination"),
    (MaxMessageTermination(2) | TextMentionTermination("never"), "MaxMessageTermination"),
    (MaxMessageTermination(2) | TextMentionTermination("s3cr3t-word"), "MaxMessageTermination/TextMentionTermination"),
    (MaxMessageTermination(2) & TextMentionTermination("s3cr3t-word"), "MaxMessageTermination/TextMentionTermination"),
    (TextMentionTermination("go") & MaxMessageTermination(3), "MaxMessageTermination/TextMentionTermination"),
]


@pytest.mark.parametrize(("condition", "reason"), CONDITIONS, ids=[f"{n}-{r}" for n, (_, r) in enumerate(CONDITIONS)])
def test_what_ended_a_run(captured: Captured, condition: TerminationCondition, reason: str) -> None:
    """Classes of the conditions that were met, never the words that AutoGen has for it."""
    message = StopMessage if reason == "StopMessageTermination" else TextMessage
    team = RoundRobinGroupChat([Stopping("speaker", message)], termination_condition=condition)
    with tenant("acme"):
        result = asyncio.run(team.run(task="go"))
    assert result.stop_reason
    (run,) = named(captured, "invoke_workflow RoundRobinGroupChat")
    assert about(run)["autogen.stop_reason"] == reason
    assert "s3cr3t" not in "".join(span.to_json() for span in captured.spans())


def lookup() -> str:
    """A tool."""
    return "found"


@pytest.mark.parametrize("kind", ["tokens", "call", "handoff"])
def test_conditions_on_what_an_agent_does(captured: Captured, kind: str) -> None:
    """Tokens used, a tool called, a handoff to a person."""
    conditions: dict[str, TerminationCondition] = {
        "tokens": TokenUsageTermination(max_total_token=1),
        "call": FunctionCallTermination("lookup"),
        "handoff": HandoffTermination("user"),
    }
    called = "transfer_to_user" if kind == "handoff" else "lookup"
    agent = AssistantAgent("worker", replaying(tool_call(called, "{}")), tools=[lookup], handoffs=["user"])
    team = RoundRobinGroupChat([agent], termination_condition=conditions[kind])
    asyncio.run(team.run(task="go"))
    (run,) = named(captured, "invoke_workflow RoundRobinGroupChat")
    assert about(run)["autogen.stop_reason"] == type(conditions[kind]).__name__


def test_runs_that_no_condition_ends(captured: Captured) -> None:
    """The turns are over; a run after an external termination that nobody reset has ended before it began."""

    async def main() -> None:
        await RoundRobinGroupChat([Stopping("speaker", TextMessage)], max_turns=2).run(task="go")
        condition = StopMessageTermination()
        team = RoundRobinGroupChat([Stopping("speaker", TextMessage)], termination_condition=condition, max_turns=1)
        await condition([StopMessage(content="x", source="y")])
        await team.run(task="go")

    asyncio.run(main())
    runs = named(captured, "invoke_workflow RoundRobinGroupChat")
    assert [about(run)["autogen.stop_reason"] for run in runs] == ["max_turns", "already_terminated"]


def test_magentic_ones_reasons(captured: Captured) -> None:
    """Its rounds are over, or its model finds that all is done, in words that stay where they are."""

    def ledger(satisfied: bool) -> str:
        answers = {
            "is_request_satisfied": satisfied, "is_in_loop": False, "is_progress_being_made": True,
            "next_speaker": "worker", "instruction_or_question": "s3cr3t-question",
        }  # fmt: skip
        return json.dumps({name: {"reason": "s3cr3t-reason", "answer": answer} for name, answer in answers.items()})

    for max_turns, satisfied in ((1, False), (9, True)):
        client = replaying("facts", "plan", ledger(satisfied), ledger(satisfied), "final")
        team = MagenticOneGroupChat([Stopping("worker", TextMessage)], client, max_turns=max_turns)
        asyncio.run(team.run(task="go"))
    runs = named(captured, "invoke_workflow MagenticOneGroupChat")
    assert [about(run)["autogen.stop_reason"] for run in runs] == ["max_turns", "manager"]
    assert "s3cr3t" not in "".join(span.to_json() for span in captured.spans())


def test_a_run_that_fails_has_no_stop_reason(captured: Captured) -> None:
    """It has the type of the exception that came out."""

    class Broken(Stopping):
        async def on_messages(self, *_: Any) -> Response:
            raise LookupError("s3cr3t")

    team = RoundRobinGroupChat([Broken("speaker", TextMessage)], max_turns=1)
    with pytest.raises(RuntimeError):
        asyncio.run(team.run(task="go"))
    (run,) = named(captured, "invoke_workflow RoundRobinGroupChat")
    assert about(run)["error.type"] == "RuntimeError"
    assert "autogen.stop_reason" not in about(run)
    (turn,) = named(captured, "invoke_agent speaker")
    assert about(turn)["error.type"] == "LookupError"


def test_the_selectors_model_calls_are_its_own(captured: Captured) -> None:
    """A model call says which agent it is for: what the selection costs stands apart from what the agents cost."""
    agents = [AssistantAgent(name, replaying("one two three")) for name in ("planner", "writer")]
    team = SelectorGroupChat(agents, replaying("writer", "planner"), max_turns=2, allow_repeated_speaker=True)  # type: ignore[arg-type]
    asyncio.run(team.run(task="go"))
    calls = [
        (about(s)["gen_ai.agent.name"], about(s)["gen_ai.usage.output_tokens"]) for s in named(captured, "chat unnamed")
    ]
    assert sorted(calls) == [
        ("SelectorGroupChatManager", 1), ("SelectorGroupChatManager", 1), ("planner", 3), ("writer", 3),
    ]  # fmt: skip
    one_tree(captured.spans())


def test_handoffs_say_where_they_go(captured: Captured) -> None:
    """On the tool call that hands over: to another agent, by the default name or one's own, and to a person."""
    from autogen_agentchat.base import Handoff

    travel = AssistantAgent(
        "travel", replaying(tool_call("refund_please", "{}")), handoffs=[Handoff(target="refund", name="refund_please")]
    )
    refund = AssistantAgent(
        "refund", replaying(tool_call("lookup", "{}"), tool_call("transfer_to_user", "{}")), tools=[lookup],
        handoffs=["travel", "user"],
    )  # fmt: skip
    team = Swarm([travel, refund], termination_condition=HandoffTermination("user") | MaxMessageTermination(20))  # type: ignore[arg-type]
    result = asyncio.run(team.run(task="go"))
    assert result.stop_reason == "Handoff to user from refund detected."
    tools = {
        about(span)["gen_ai.tool.name"]: (
            about(span)["gen_ai.agent.name"],
            about(span).get("gen_ai.transfer.mode"),
            about(span).get("gen_ai.transfer.target.name"),
        )
        for span in captured.spans()
        if span.name.startswith("execute_tool")
    }
    assert tools == {
        "refund_please": ("travel", "pass_control", "refund"),
        "lookup": ("refund", None, None),
        "transfer_to_user": ("refund", "pass_control", "user"),
    }
    one_tree(captured.spans())


def test_handoffs_of_agents_without_a_list_say_where_they_go(captured: Captured) -> None:
    """A custom agent, and a person who was asked by one: no tool is called, so it stands on the turn; a turn that hands
    nothing over says nothing. The target may be what a model said. So it is told by name when the team knows it, as a
    participant or as whom it ends at; where the application asks the agent itself nobody does."""

    class Clerk(BaseChatAgent):
        produced_message_types = (HandoffMessage, TextMessage)

        def __init__(self, name: str, *targets: str) -> None:
            super().__init__(name, "clerk")
            self.targets = list(targets)

        async def on_messages(self, messages: Any, cancellation_token: CancellationToken) -> Response:
            if not self.targets:
                return Response(chat_message=TextMessage(content="done", source=self.name))
            target = self.targets.pop(0)
            return Response(chat_message=HandoffMessage(content="please", target=target, source=self.name))

        async def on_reset(self, cancellation_token: CancellationToken) -> None:
            pass

    clerk, user = Clerk("clerk", "user"), UserProxyAgent("user", input_func=lambda _: "s3cr3t")
    team = Swarm([clerk, user], termination_condition=MaxMessageTermination(4))
    asyncio.run(team.run(task="go"))
    ends = MaxMessageTermination(9) | HandoffTermination("boss")
    vague = Clerk("vague", "tell s3cr3t to Mrs. S", "boss")
    asyncio.run(RoundRobinGroupChat([vague], termination_condition=ends).run(task="go"))

    async def alone() -> None:
        await Clerk("by_hand", "elsewhere").on_messages([], CancellationToken())
        async for _ in Clerk("by_stream", "somewhere").on_messages_stream([], CancellationToken()):
            pass

    asyncio.run(alone())
    turns = [
        (
            about(s)["gen_ai.agent.name"],
            about(s).get("gen_ai.transfer.mode"),
            about(s).get("gen_ai.transfer.target.name"),
        )
        for s in captured.spans()
        if s.name.startswith("invoke_agent")
    ]
    assert turns == [
        ("clerk", "pass_control", "user"),
        ("user", "pass_control", "clerk"),
        ("clerk", None, None),
        ("vague", "pass_control", "unnamed"),
        ("vague", "pass_control", "boss"),
        ("by_hand", "pass_control", "unnamed"),
        ("by_stream", "pass_control", "unnamed"),
    ]
    assert "s3cr3t" not in "".join(span.to_json() for span in captured.spans())


@pytest.mark.parametrize("blocking", [False, True], ids=["coroutine", "function"])
def test_a_persons_time_is_apart(captured: Captured, blocking: bool) -> None:
    """`await_input`, as long as the person takes, inside the agent's turn; what was typed is nowhere."""
    if blocking:
        user = UserProxyAgent("user", input_func=lambda _: "s3cr3t")
    else:

        async def type_in(prompt: str, token: CancellationToken | None) -> str:
            await asyncio.sleep(0)
            return "s3cr3t"

        user = UserProxyAgent("user", input_func=type_in)
    team = RoundRobinGroupChat([user], max_turns=1)
    with tenant("acme"):
        asyncio.run(team.run(task="go"))
    (wait,) = named(captured, "await_input user")
    (turn,) = named(captured, "invoke_agent user")
    assert wait.parent is not None
    assert wait.parent.span_id == turn.context.span_id
    assert about(wait)["autogen.activity"] == "await_input"
    assert "gen_ai.operation.name" not in about(wait)
    assert "s3cr3t" not in "".join(span.to_json() for span in captured.spans())
    (point,) = captured.points("autogen.input.duration")
    assert dict(point.attributes or {}) == {"tenant.id": "acme", "gen_ai.agent.name": "user"}


def test_a_person_who_does_not_answer(captured: Captured) -> None:
    """The wait ends with the run that is cancelled."""
    asked = asyncio.Event()

    async def never(prompt: str, token: CancellationToken | None) -> str:
        asked.set()
        typed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        assert token is not None
        token.link_future(typed)
        return await typed

    async def main() -> None:
        token = CancellationToken()
        team = RoundRobinGroupChat([UserProxyAgent("user", input_func=never)], max_turns=1)
        running = asyncio.ensure_future(team.run(task="go", cancellation_token=token))
        await asked.wait()
        token.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    (wait,) = named(captured, "await_input user")
    assert about(wait)["error.type"] == "CancelledError"


class Pausing(Stopping):
    """Is at work until it has been paused and resumed."""

    def __init__(self, name: str) -> None:
        super().__init__(name, TextMessage)
        self.at_work, self.resumed = asyncio.Event(), asyncio.Event()
        self.calls: list[str] = []

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        self.at_work.set()
        await self.resumed.wait()
        return await super().on_messages(messages, cancellation_token)

    async def on_pause(self, cancellation_token: CancellationToken) -> None:
        self.calls.append("pause")

    async def on_resume(self, cancellation_token: CancellationToken) -> None:
        self.calls.append("resume")
        self.resumed.set()


def test_pause_resume_and_reset_are_one_tree_each(captured: Captured) -> None:
    """Each with the messages that it sends to every participant and to the manager, nested teams too."""

    async def main() -> None:
        speaker = Pausing("speaker")
        team = RoundRobinGroupChat([speaker], max_turns=1)
        inner = RoundRobinGroupChat([Stopping("deep", TextMessage)], max_turns=1, name="inner")
        outer = RoundRobinGroupChat([inner], max_turns=1)
        with tenant("acme"):
            running = asyncio.ensure_future(team.run(task="go"))
            await speaker.at_work.wait()
            await team.pause()
            await team.resume()
            await running
            assert speaker.calls == ["pause", "resume"]
            await outer.run(task="go")
            await outer.reset()

    asyncio.run(main())
    spans = captured.spans()
    assert {about(span)["tenant.id"] for span in spans} == {"acme"}
    traces: dict[str, list[str]] = {}
    for root in (span for span in spans if span.parent is None):
        whole = [span for span in spans if span.context.trace_id == root.context.trace_id]
        assert one_tree(whole) is root
        traces.setdefault(root.name.split()[0], []).extend(sorted(span.name for span in whole))
    assert traces["pause"] == [
        "pause RoundRobinGroupChat", "process RoundRobinGroupChatManager", "process speaker",
    ]  # fmt: skip
    assert traces["resume"] == [
        "process RoundRobinGroupChatManager", "process speaker", "resume RoundRobinGroupChat",
    ]  # fmt: skip
    assert traces["reset"] == [
        "process RoundRobinGroupChatManager", "process RoundRobinGroupChatManager", "process deep", "process inner",
        "reset RoundRobinGroupChat", "reset RoundRobinGroupChat",
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["abandoned", "closed in another task", "cancelled"])
def test_streams_that_are_not_read_to_their_end(captured: Captured, caplog: pytest.LogCaptureFixture, how: str) -> None:
    """No context is left behind anywhere, nobody logs that one could not be detached, and the run's span ends."""

    async def main() -> None:
        from opentelemetry import trace

        team = RoundRobinGroupChat([Stopping("speaker", TextMessage)], max_turns=5)
        stream: AsyncGenerator[Any, None] = team.run_stream(task="go")  # type: ignore[assignment]
        await anext(stream)
        assert not trace.get_current_span().get_span_context().is_valid
        if how == "abandoned":
            del stream
            gc.collect()
        elif how == "cancelled":

            async def read() -> None:
                async for _ in stream:
                    await asyncio.Event().wait()

            reading = asyncio.ensure_future(read())
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await stream.aclose()
        else:
            await asyncio.create_task(stream.aclose())  # type: ignore[arg-type]
        for _ in range(50):
            await asyncio.sleep(0)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "detach" not in caplog.text
    (run,) = named(captured, "invoke_workflow RoundRobinGroupChat")
    # Whoever cancels the reader may cancel what the stream itself waits for.
    assert about(run).get("error.type") in ((None, "CancelledError") if how == "cancelled" else (None,))


def test_nested_teams_are_one_conversation(captured: Captured) -> None:
    """The inner team's run hangs under its turn in the outer one, and belongs to the outer one's conversation."""
    inner = RoundRobinGroupChat([AssistantAgent("deep", replaying("one"))], max_turns=1, name="inner")
    outer = RoundRobinGroupChat([AssistantAgent("flat", replaying("two")), inner], max_turns=2)
    with tenant("acme"):
        asyncio.run(outer.run(task="go"))
    spans = captured.spans()
    one_tree(spans)
    runs = [span for span in spans if span.name == "invoke_workflow RoundRobinGroupChat"]
    assert len(runs) == 2
    assert len({about(span)["gen_ai.conversation.id"] for span in spans}) == 1


class Counting(RoundRobinGroupChat):
    """A team of the application's own, that does something of its own around a run."""

    runs = 0

    async def run_stream(self, **arguments: Any) -> AsyncGenerator[Any, None]:  # type: ignore[override]
        self.runs += 1
        async for item in super().run_stream(**arguments):
            yield item


def test_a_team_that_calls_its_base_class_runs_once(captured: Captured) -> None:
    """One span and one figure; the next run is another."""
    team = Counting([AssistantAgent("a", replaying("one", "two"))], max_turns=1)
    with tenant("acme"):
        asyncio.run(team.run(task="go"))
        asyncio.run(team.run(task="go"))
    assert team.runs == 2
    runs = named(captured, "invoke_workflow Counting")
    assert [(run.parent, about(run)["autogen.stop_reason"]) for run in runs] == [(None, "max_turns")] * 2
    (point,) = captured.points("gen_ai.workflow.duration")
    assert point.count == 2  # type: ignore[union-attr]


def test_a_conversation_goes_on_in_a_later_run(captured: Captured) -> None:
    """Handoff to a person, who answers later: two traces, one conversation, whose id is not the team's own."""
    assistant = AssistantAgent("helper", replaying(tool_call("transfer_to_user", "{}"), "done"), handoffs=["user"])
    team = RoundRobinGroupChat(
        [assistant], termination_condition=HandoffTermination("user") | TextMentionTermination("done")
    )

    async def main() -> None:
        with tenant("acme"):
            await team.run(task="go")
            await team.run(task="the answer")

    asyncio.run(main())
    spans = captured.spans()
    assert len({span.context.trace_id for span in spans}) == 2
    assert [about(s)["autogen.stop_reason"] for s in spans if s.parent is None] == [
        "HandoffTermination", "TextMentionTermination",
    ]  # fmt: skip
    (conversation,) = {about(span)["gen_ai.conversation.id"] for span in spans}
    assert team._team_id not in "".join(span.to_json() for span in spans)
    assert len(conversation) == 36


def test_durations_of_agents_and_teams(captured: Captured) -> None:
    """By tenant and name, without the team's id."""
    with tenant("acme"):
        asyncio.run(RoundRobinGroupChat([Stopping("speaker", TextMessage)], max_turns=3).run(task="go"))
    (agent,) = captured.points("gen_ai.invoke_agent.duration")
    (team,) = captured.points("gen_ai.workflow.duration")
    assert dict(agent.attributes or {}) == {"tenant.id": "acme", "gen_ai.agent.name": "speaker"}
    assert dict(team.attributes or {}) == {"tenant.id": "acme", "gen_ai.workflow.name": "RoundRobinGroupChat"}
    assert (agent.count, team.count) == (3, 1)  # type: ignore[union-attr]


def test_an_agent_that_the_application_asks_itself(captured: Captured) -> None:
    """`on_messages` and `on_messages_stream`, without a team or `run`, as handlers of core applications do: one turn
    each, with its model call and its tool inside, also of a class that calls its base class or has no stream."""

    class Careful(AssistantAgent):
        async def on_messages_stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            async for item in super().on_messages_stream(*args, **kwargs):
                yield item

    async def main() -> None:
        ask = [TextMessage(content="go", source="user")]
        with tenant("acme"):
            plain = AssistantAgent("plain", replaying(tool_call("lookup", "{}")), tools=[lookup])
            await plain.on_messages(ask, CancellationToken())
            await Stopping("simple", TextMessage).on_messages(ask, CancellationToken())
            careful = Careful("careful", replaying("done"))
            async for _ in careful.on_messages_stream(ask, CancellationToken()):
                pass

    asyncio.run(main())
    for agent, inside in (
        ("plain", ["chat unnamed", "execute_tool lookup"]), ("careful", ["chat unnamed"]), ("simple", []),
    ):  # fmt: skip
        (turn,) = named(captured, f"invoke_agent {agent}")
        assert turn.parent is None
        assert about(turn)["tenant.id"] == "acme"
        children = [
            span.name for span in captured.spans() if span.parent and span.parent.span_id == turn.context.span_id
        ]
        assert children == inside
    points = {dict(p.attributes or {})["gen_ai.agent.name"] for p in captured.points("gen_ai.invoke_agent.duration")}
    assert points == {"plain", "careful", "simple"}
