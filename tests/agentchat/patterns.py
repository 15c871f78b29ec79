"""The handbook's patterns, each as an application would write it, with a word in every place that holds content.

A pattern takes the word, runs, and returns what the application sees: the same with and without the library.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from autogen_agentchat.agents import (
    ApprovalRequest,
    ApprovalResponse,
    AssistantAgent,
    BaseChatAgent,
    CodeExecutorAgent,
    MessageFilterAgent,
    MessageFilterConfig,
    PerSourceFilter,
    SocietyOfMindAgent,
    UserProxyAgent,
)
from autogen_agentchat.base import Response, TaskResult
from autogen_agentchat.conditions import HandoffTermination, MaxMessageTermination, TextMentionTermination
from autogen_agentchat.messages import BaseChatMessage, HandoffMessage, StructuredMessage, TextMessage
from autogen_agentchat.teams import (
    BaseGroupChat,
    DiGraphBuilder,
    GraphFlow,
    MagenticOneGroupChat,
    RoundRobinGroupChat,
    SelectorGroupChat,
    Swarm,
)
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_apps import replaying, tool_call
from autogen_core import CancellationToken
from autogen_core.memory import ListMemory, MemoryContent, MemoryMimeType
from autogen_core.models import CreateResult
from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor
from autogen_ext.models.replay import ReplayChatCompletionClient
from pydantic import BaseModel

Pattern = Callable[[str], Awaitable[list[str]]]


def seen(result: TaskResult) -> list[str]:
    """What an application reads of a result, without ids and times."""
    found = [f"{type(message).__name__} {message.source} {message.to_text()}" for message in result.messages]  # type: ignore[attr-defined]
    return [*found, f"stopped: {result.stop_reason}"]


def assistant(name: str, word: str, *answers: str | CreateResult, **about: Any) -> AssistantAgent:
    return AssistantAgent(
        name, replaying(*answers), system_message=f"system {word}", description=f"description {word}", **about
    )


class Named(BaseModel):
    """A structured answer."""

    name: str
    secret: str


async def single_agent(word: str) -> list[str]:
    return seen(await assistant("solo", word, f"answer {word}").run(task=f"task {word}"))


async def structured_output(word: str) -> list[str]:
    client = ReplayChatCompletionClient(
        [json.dumps({"name": "n", "secret": word})],
        model_info={
            "vision": False, "function_calling": True, "json_output": True, "family": "unknown",
            "structured_output": True,
        },
    )  # fmt: skip
    agent = AssistantAgent("typed", client, output_content_type=Named)
    result = await agent.run(task=f"task {word}")
    assert isinstance(result.messages[-1], StructuredMessage)
    return seen(result)


async def streaming(word: str) -> list[str]:
    agent = assistant("streamer", word, f"a b {word} c", model_client_stream=True)
    return [
        f"{type(item).__name__} {getattr(item, 'content', '')}" async for item in agent.run_stream(task=f"task {word}")
    ]


async def tools_with_reflection(word: str) -> list[str]:
    async def look_up(what: str) -> str:
        """Looks something up."""
        return f"result {what}"

    call = tool_call("look_up", json.dumps({"what": word}))
    agent = assistant("tooled", word, call, f"reflected {word}", tools=[look_up], reflect_on_tool_use=True)
    return seen(await agent.run(task=f"task {word}"))


async def failing_tool(word: str) -> list[str]:
    def refuse() -> str:
        """Fails."""
        raise PermissionError(f"error {word}")

    agent = assistant("refused", word, tool_call("refuse", "{}"), tools=[refuse])
    return seen(await agent.run(task=f"task {word}"))


async def agent_as_tool(word: str) -> list[str]:
    writer = assistant("writer", word, f"poem {word}")
    call = tool_call("writer", json.dumps({"task": f"write {word}"}))
    agent = assistant("boss", word, call, f"done {word}", tools=[AgentTool(writer)], max_tool_iterations=2)
    return seen(await agent.run(task=f"task {word}"))


async def team_as_tool(word: str) -> list[str]:
    team = RoundRobinGroupChat([assistant("writer", word, f"poem {word}")], max_turns=1)
    tool = TeamTool(team=team, name="writing_team", description=f"writes {word}")
    call = tool_call("writing_team", json.dumps({"task": f"write {word}"}))
    agent = assistant("boss", word, call, f"done {word}", tools=[tool], max_tool_iterations=2)
    return seen(await agent.run(task=f"task {word}"))


def approve(request: ApprovalRequest) -> ApprovalResponse:
    return ApprovalResponse(approved=True, reason="a test")


async def code_execution(word: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        executor = LocalCommandLineCodeExecutor(work_dir=folder)
        team = RoundRobinGroupChat(
            [
                assistant("coder", word, f"```sh\necho {word}\n```"),
                CodeExecutorAgent("runner", executor, approval_func=approve),
            ],
            max_turns=2,
        )
        return seen(await team.run(task=f"task {word}"))


async def round_robin(word: str) -> list[str]:
    agents: list[Any] = [assistant("primary", word, f"draft {word}"), assistant("critic", word, "APPROVE")]
    team = RoundRobinGroupChat(agents, termination_condition=TextMentionTermination("APPROVE"))
    return seen(await team.run(task=f"task {word}"))


async def selector(word: str) -> list[str]:
    agents: list[Any] = [assistant(name, word, f"{name} {word}") for name in ("planner", "searcher", "analyst")]

    def after(messages: Sequence[Any]) -> str | None:
        return "planner" if messages[-1].source == "user" else None

    team = SelectorGroupChat(agents, replaying("searcher"), selector_func=after, max_turns=2)
    return seen(await team.run(task=f"task {word}"))


async def selector_of_candidates(word: str) -> list[str]:
    agents: list[Any] = [assistant(name, word, f"{name} {word}") for name in ("planner", "searcher", "analyst")]
    team = SelectorGroupChat(
        agents, replaying("analyst", "searcher"), candidate_func=lambda _: ["searcher", "analyst"], max_turns=2,
        allow_repeated_speaker=True,
    )  # fmt: skip
    return seen(await team.run(task=f"task {word}"))


async def swarm_refund(word: str) -> list[str]:
    """Hands over to another agent, then to a person, who answers; then it goes on."""

    def refund_flight(flight_id: str) -> str:
        """Refunds a flight."""
        return f"Flight {flight_id} refunded"

    travel = assistant("travel_agent", word, tool_call("transfer_to_refunder", "{}"), "TERMINATE",
                       handoffs=["refunder", "user"])  # fmt: skip
    refunder = assistant(
        "refunder", word, tool_call("transfer_to_user", "{}"),
        tool_call("refund_flight", json.dumps({"flight_id": word})), tool_call("transfer_to_travel_agent", "{}"),
        tools=[refund_flight], handoffs=["travel_agent", "user"], reflect_on_tool_use=False,
    )  # fmt: skip
    ends = HandoffTermination("user") | TextMentionTermination("TERMINATE")
    team = Swarm([travel, refunder], termination_condition=ends)
    first = await team.run(task=f"refund {word}")
    answer = HandoffMessage(source="user", target="refunder", content=f"flight {word}")
    return seen(first) + seen(await team.run(task=answer))


async def memory_fed(word: str) -> list[str]:
    memory = ListMemory()
    await memory.add(MemoryContent(content=f"prefers {word}", mime_type=MemoryMimeType.TEXT))
    return seen(await assistant("remembering", word, f"as you prefer {word}", memory=[memory]).run(task=f"task {word}"))


async def save_and_restore(word: str) -> list[str]:
    def make() -> RoundRobinGroupChat:
        return RoundRobinGroupChat([assistant("poet", word, f"poem {word}", f"again {word}")], max_turns=1)

    team = make()
    first = await team.run(task=f"task {word}")
    state = json.loads(json.dumps(await team.save_state()))
    other = make()
    await other.load_state(state)
    return seen(first) + seen(await other.run(task=f"more {word}"))


async def user_proxy(word: str) -> list[str]:
    async def type_in(prompt: str, token: CancellationToken | None) -> str:
        await asyncio.sleep(0)
        return f"APPROVE {word}"

    agents: list[Any] = [assistant("helper", word, f"draft {word}"), UserProxyAgent("user_proxy", input_func=type_in)]
    team = RoundRobinGroupChat(agents, termination_condition=TextMentionTermination("APPROVE"))
    return [line for line in seen(await team.run(task=f"task {word}")) if not line.startswith("UserInputRequested")]


async def handoff_to_user(word: str) -> list[str]:
    agent = assistant("lazy", word, tool_call("transfer_to_user", "{}"), f"done TERMINATE {word}", handoffs=["user"])
    team = RoundRobinGroupChat(
        [agent], termination_condition=HandoffTermination("user") | TextMentionTermination("TERMINATE")
    )
    return seen(await team.run(task=f"task {word}")) + seen(await team.run(task=f"answer {word}"))


async def component_round_trip(word: str) -> list[str]:
    """A team that came out of JSON, as Studio keeps them."""
    team = RoundRobinGroupChat(
        [assistant("loaded", word, f"answer {word}")], termination_condition=MaxMessageTermination(2)
    )
    config = json.loads(team.dump_component().model_dump_json())
    assert word in json.dumps(config)
    return seen(await BaseGroupChat.load_component(config).run(task=f"task {word}"))


async def society_of_mind(word: str) -> list[str]:
    inner = RoundRobinGroupChat([assistant("one", word, f"inner {word}")], max_turns=1)
    society = SocietyOfMindAgent("society", team=inner, model_client=replaying(f"outer {word}"))
    return seen(await RoundRobinGroupChat([society], max_turns=1).run(task=f"task {word}"))


async def message_filter(word: str) -> list[str]:
    filtered = MessageFilterAgent(
        "filtered", assistant("wrapped", word, f"filtered {word}"),
        MessageFilterConfig(per_source=[PerSourceFilter(source="user", position="first", count=1)]),
    )  # fmt: skip
    return seen(await RoundRobinGroupChat([filtered], max_turns=1).run(task=f"task {word}"))


class Countdown(BaseChatAgent):
    """An agent of the application's own, that streams."""

    def __init__(self, word: str) -> None:
        super().__init__("countdown", f"description {word}")
        self._word = word

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage,)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        async for item in self.on_messages_stream(messages, cancellation_token):
            if isinstance(item, Response):
                return item
        raise AssertionError

    async def on_messages_stream(self, messages: Any, cancellation_token: Any) -> Any:
        inner = []
        for n in (3, 2, 1):
            inner.append(TextMessage(content=f"{n} {self._word}", source=self.name))
            yield inner[-1]
        yield Response(chat_message=TextMessage(content=f"done {self._word}", source=self.name), inner_messages=inner)

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        return None


async def custom_agent(word: str) -> list[str]:
    return seen(await RoundRobinGroupChat([Countdown(word)], max_turns=1).run(task=f"task {word}"))


async def graph_flow(word: str) -> list[str]:
    agents: list[Any] = [assistant(name, word, f"{name} {word}") for name in ("writer", "grammar", "style", "final")]
    writer, grammar, style, final = agents
    graph = DiGraphBuilder()
    for agent in agents:
        graph.add_node(agent)
    for source, target in ((writer, grammar), (writer, style), (grammar, final), (style, final)):
        graph.add_edge(source, target)
    return sorted(seen(await GraphFlow(participants=graph.get_participants(), graph=graph.build()).run(task=word)))


async def magentic_one(word: str) -> list[str]:
    def ledger(satisfied: bool) -> str:
        entry = {
            name: {"reason": word, "answer": answer}
            for name, answer in (
                ("is_request_satisfied", satisfied), ("is_in_loop", False), ("is_progress_being_made", True),
                ("next_speaker", "worker"), ("instruction_or_question", f"do {word}"),
            )
        }  # fmt: skip
        return json.dumps(entry)

    client = replaying(f"facts {word}", f"plan {word}", ledger(False), ledger(True), f"final {word}")
    team = MagenticOneGroupChat([assistant("worker", word, f"worked {word}")], model_client=client)
    return seen(await team.run(task=f"task {word}"))


#: Each pattern, and how many traces it makes: a run, a save, a load and a memory that is added are one each.
PATTERNS: dict[Pattern, int] = {
    single_agent: 1, structured_output: 1, streaming: 1, tools_with_reflection: 1, failing_tool: 1, agent_as_tool: 1,
    team_as_tool: 1, code_execution: 1, round_robin: 1, selector: 1, selector_of_candidates: 1, swarm_refund: 2,
    memory_fed: 2, save_and_restore: 4, user_proxy: 1, handoff_to_user: 2, component_round_trip: 1,
    society_of_mind: 1, message_filter: 1, custom_agent: 1, graph_flow: 1, magentic_one: 1,
}  # fmt: skip
