"""Small AutoGen applications that several tests run: real runtimes, real agents, no network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import (
    AgentId,
    DefaultTopicId,
    FunctionCall,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    default_subscription,
    message_handler,
)
from autogen_core.models import CreateResult, ModelFamily, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient
from opentelemetry.sdk.trace import ReadableSpan

import instrumentation


@dataclass
class Ask:
    text: str


@dataclass
class Note:
    text: str


@dataclass
class Answer:
    text: str
    tenant: str | None


class Asked(RoutedAgent):
    """Answers with the tenant it sees; publishes a note on the way, and asks `deeper` agents first."""

    def __init__(self, deeper: AgentId | None = None, work: Callable[[str], Any] | None = None) -> None:
        super().__init__("asked")
        self._deeper = deeper
        self._work = work

    @message_handler
    async def on_ask(self, message: Ask, ctx: MessageContext) -> Answer:
        if self._work is not None:
            result = self._work(message.text)
            if asyncio.iscoroutine(result):
                await result
        if self._deeper is not None:
            await self.send_message(Ask(message.text), self._deeper)
        await self.publish_message(Note(message.text), DefaultTopicId())
        return Answer(message.text, instrumentation.current_tenant())


@default_subscription
class Noted(RoutedAgent):
    """Keeps (text, tenant seen) of every note in the list that it is given."""

    def __init__(self, seen: list[tuple[str, str | None]]) -> None:
        super().__init__("noted")
        self._seen = seen

    @message_handler
    async def on_note(self, message: Note, ctx: MessageContext) -> None:
        self._seen.append((message.text, instrumentation.current_tenant()))


async def ask_runtime(**agents: Callable[[], RoutedAgent]) -> SingleThreadedAgentRuntime:
    """A runtime, not started, with these agents registered under their names."""
    runtime = SingleThreadedAgentRuntime()
    for name, factory in agents.items():
        await type(factory()).register(runtime, name, factory)
    return runtime


def tool_call(name: str, arguments: str) -> CreateResult:
    """A model's answer that calls a tool."""
    return CreateResult(
        finish_reason="function_calls",
        content=[FunctionCall(id="call-1", name=name, arguments=arguments)],
        usage=RequestUsage(prompt_tokens=11, completion_tokens=7),
        cached=False,
    )


def said(text: str) -> CreateResult:
    """A model's answer in words; a token a word. The replay client would call its own answers cached."""
    usage = RequestUsage(prompt_tokens=5, completion_tokens=len(text.split()))
    return CreateResult(finish_reason="stop", content=text, usage=usage, cached=False)


def replaying(*answers: str | CreateResult) -> ReplayChatCompletionClient:
    """AutoGen's own replay client, with tools."""
    return ReplayChatCompletionClient(
        [said(answer) if isinstance(answer, str) else answer for answer in answers],
        model_info={
            "vision": False,
            "function_calling": True,
            "json_output": False,
            "family": ModelFamily.UNKNOWN,
            "structured_output": False,
        },
    )


def two_agent_team(
    tool: Callable[..., Any], *, arguments: str = "{}", runtime: SingleThreadedAgentRuntime | None = None
) -> RoundRobinGroupChat:
    """A round robin of `planner`, who calls the tool, and `writer`; two turns."""
    planner = AssistantAgent("planner", replaying(tool_call(tool.__name__, arguments), "done"), tools=[tool])
    writer = AssistantAgent("writer", replaying("written"))
    return RoundRobinGroupChat([planner, writer], max_turns=2, runtime=runtime)


def one_tree(spans: Sequence[ReadableSpan]) -> ReadableSpan:
    """The root of the one trace that all spans make up; fails when there are several, or a parent is missing."""
    assert len({span.context.trace_id for span in spans}) == 1
    ids = {span.context.span_id for span in spans}
    assert all(span.parent is None or span.parent.span_id in ids for span in spans)
    (root,) = [span for span in spans if span.parent is None]
    return root
