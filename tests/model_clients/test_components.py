"""Teams out of JSON, as AutoGen Studio keeps them: with a key, a prompt and source code in their config."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent, SocietyOfMindAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.conditions import FunctionCallTermination, MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import (
    BaseGroupChat,
    DiGraphBuilder,
    GraphFlow,
    RoundRobinGroupChat,
    SelectorGroupChat,
    Swarm,
)
from autogen_apps import one_tree, replaying, tool_call
from autogen_core.memory import ListMemory, MemoryContent
from autogen_core.model_context import BufferedChatCompletionContext
from autogen_core.tools import FunctionTool, StaticWorkbench
from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor
from autogen_ext.tools.code_execution import PythonCodeExecutionTool
from model_servers import ModelServer
from provider_clients import KEY, PROVIDERS

from instrumentation import conventions, tenant
from instrumentation.testing import Captured, capture

TENANTS = ("acme", "globex", "initech")


def component(provider: str, kind: str, version: int = 1, **config: Any) -> dict[str, Any]:
    """As Studio writes one: with a version, and a label and a description for people."""
    return {
        "provider": provider, "component_type": kind, "version": version, "component_version": version,
        "config": config, "description": "s3cr3t-description", "label": "s3cr3t-label",
    }  # fmt: skip


def exported(url: str) -> str:
    """A team of one assistant with a tool, whose model client has its key in the config."""
    client = component(
        "autogen_ext.models.openai.OpenAIChatCompletionClient", "model",
        model="gpt-4o", api_key="s3cr3t-key", organization="s3cr3t-organisation", base_url=f"{url}/v1",
    )  # fmt: skip
    tool = component(
        "autogen_core.tools.FunctionTool", "tool",
        source_code="def add(a: int, b: int) -> int:\n    return a + b  # s3cr3t-source\n", name="add",
        description="s3cr3t-adds", global_imports=[], has_cancellation_support=False,
    )  # fmt: skip
    assistant = component(
        "autogen_agentchat.agents.AssistantAgent", "agent", version=2,
        name="assistant", model_client=client, description="s3cr3t-agent", system_message="s3cr3t-system",
        model_client_stream=False, reflect_on_tool_use=False, tool_call_summary_format="{result}",
        workbench=[component("autogen_core.tools.StaticWorkbench", "workbench", tools=[tool])],
        model_context=component(
            "autogen_core.model_context.UnboundedChatCompletionContext", "chat_completion_context"
        ),
    )  # fmt: skip
    end = component("autogen_agentchat.conditions.MaxMessageTermination", "termination", max_messages=2)
    team = component(
        "autogen_agentchat.teams.RoundRobinGroupChat", "team", participants=[assistant], termination_condition=end
    )
    return json.dumps(team)


async def run(url: str, who: str) -> list[str]:
    """Load, run; what came of it."""
    with tenant(who):
        result = await BaseGroupChat.load_component(json.loads(exported(url))).run(task=f"s3cr3t-task {who}")
    assert isinstance(result, TaskResult)
    return [str(getattr(message, "content", "")) for message in result.messages]


@pytest.mark.filterwarnings("ignore:\\s*⚠️  SECURITY WARNING")  # AutoGen's, of a tool that comes as source code
def test_a_team_out_of_json_and_its_key(server: ModelServer) -> None:
    """Three tenants at once: a tree each, with the client's real calls; the key reaches the provider and, like all the
    rest of the config, nothing of ours; results are those of a team that nobody watched."""

    async def three() -> list[list[str]]:
        return list(await asyncio.gather(*(run(server.url, who) for who in TENANTS)))

    bare = asyncio.run(three())
    with capture() as captured:
        assert asyncio.run(three()) == bare
        spans = captured.spans()
        emitted = "".join(span.to_json() for span in spans)
        emitted += "".join(str(captured.points(metric.name)) for metric in conventions.METRICS)
    assert "s3cr3t" not in emitted
    keys = {
        value for _, headers, _ in server.requests for name, value in headers.items() if name.lower() == "authorization"
    }
    assert keys == {"Bearer s3cr3t-key"}
    for who in TENANTS:
        of_tenant = [span for span in spans if (span.attributes or {})["tenant.id"] == who]
        one_tree(of_tenant)
        assert {"invoke_workflow RoundRobinGroupChat", "invoke_agent assistant", "chat gpt-4o"} <= {
            span.name for span in of_tenant
        }


def test_a_config_that_does_not_fit(server: ModelServer, captured: Captured) -> None:
    """AutoGen's error quotes the config; it goes to the application as it is, and to nobody else."""
    config = json.loads(exported(server.url))
    config["config"]["participants"][0]["config"]["model_client"]["config"]["model"] = {"s3cr3t": "no name"}
    with pytest.raises(ValueError, match="s3cr3t"), tenant("acme"):
        BaseGroupChat.load_component(config)
    assert "s3cr3t" not in "".join(span.to_json() for span in captured.spans())


def nested(url: str, kind: str, folder: Path) -> BaseGroupChat:
    """Teams of each kind, of agents with tools, memories and clients of two providers; a secret wherever one fits."""
    replayed = replaying(tool_call("add", '{"a": "s3cr3t"}'), tool_call("transfer_to_sage", "{}"))
    memory = ListMemory(
        "s3cr3t", [MemoryContent(content="s3cr3t", mime_type="text/plain", metadata={"s3cr3t": "s3cr3t"})]
    )
    tools = [FunctionTool(add, "s3cr3t"), PythonCodeExecutionTool(LocalCommandLineCodeExecutor(work_dir=folder))]
    clerk = AssistantAgent(
        "clerk", replayed, workbench=StaticWorkbench(tools), memory=[memory], handoffs=["sage"],
        system_message="s3cr3t", description="s3cr3t", metadata={"s3cr3t": "s3cr3t"},
    )  # fmt: skip
    sage = AssistantAgent("sage", PROVIDERS["openai"].make(url), model_context=BufferedChatCompletionContext(5))
    poet = AssistantAgent("poet", PROVIDERS["anthropic"].make(url), model_client_stream=True, description="s3cr3t")
    ends: Any = (
        MaxMessageTermination(9) | TextMentionTermination("s3cr3t-end") | FunctionCallTermination("s3cr3t-function")
    )
    match kind:
        case "selector":
            chooses = replaying("sage", "poet", "clerk")
            return SelectorGroupChat([clerk, sage, poet], chooses, selector_prompt="s3cr3t {roles}", max_turns=3)
        case "swarm":
            return Swarm([clerk, sage], termination_condition=ends, max_turns=3)
        case "graph":
            graph = DiGraphBuilder().add_node(sage).add_node(poet).add_edge(sage, poet).build()
            return GraphFlow([sage, poet], graph, termination_condition=ends)
        case _:
            society = SocietyOfMindAgent("society", RoundRobinGroupChat([sage, poet], max_turns=2), replaying("s3cr3t"))
            inner = RoundRobinGroupChat([clerk], name="inner", max_turns=1)
            return RoundRobinGroupChat([society, inner], termination_condition=ends, max_turns=2)


async def add(a: str) -> str:
    """s3cr3t"""
    raise LookupError("s3cr3t")


@pytest.mark.filterwarnings("ignore:\\s*⚠️  SECURITY WARNING", "ignore:Using LocalCommandLineCodeExecutor")
@pytest.mark.parametrize("kind", ["selector", "swarm", "graph", "teams in a team"])
def test_a_team_of_each_kind_out_of_its_own_dump(server: ModelServer, tmp_path: Path, kind: str) -> None:
    """`dump_component()`, with the keys that it hides put in again: one tree each, the providers get their keys, and
    neither spans nor metrics nor the file of events have anything of the config."""
    dumped = nested(server.url, kind, tmp_path).dump_component().model_dump_json()
    config = json.loads(dumped.replace("**********", KEY))

    async def one(who: str) -> None:
        with tenant(who):
            team = BaseGroupChat.load_component(config)
            await team.run(task="s3cr3t-task")
            await team.load_state(await team.save_state())

    async def three() -> None:
        await asyncio.gather(*(one(who) for who in TENANTS))

    with capture(event_log=tmp_path / "events") as captured:
        asyncio.run(three())
        spans = captured.spans()
        emitted = "".join(span.to_json() for span in spans)
        emitted += "".join(str(captured.points(metric.name)) for metric in conventions.METRICS)
        emitted += (tmp_path / "events").read_text()
    assert "s3cr3t" in dumped
    assert "s3cr3t" not in emitted
    for who in TENANTS:
        run = [s for s in spans if (s.attributes or {})["tenant.id"] == who and "state" not in s.name]
        one_tree(run)
    asked = [name.lower() for _, headers, _ in server.requests for name, value in headers.items() if KEY in value]
    assert set(asked) == ({"authorization"} if kind == "swarm" else {"authorization", "x-api-key"})
