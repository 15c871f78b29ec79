"""A team of AgentChat for each tenant, several at a time, on one event loop. Needs no model key: answers are recorded.

    python examples/teams.py

Every run is a trace of its own, from `invoke_workflow` down to the tool and the model calls, and all of it is the
tenant's. A turn, the handling of one message by one agent, may take 30 seconds here: beyond that it is cancelled where
it awaits.
Needs `autogen-agentchat` and `autogen-ext`.
"""

import asyncio

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.models import ChatCompletionClient, CreateResult, ModelFamily, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

import instrumentation


async def open_invoices(year: int) -> str:
    """Invoices of a year that are not paid: a tool, which asks a database, say. It knows for whom."""
    await asyncio.sleep(0.01)
    return f"{instrumentation.current_tenant()} has 3 open invoices of {year}"


def model() -> ChatCompletionClient:
    """A model that calls the tool and then sums up; put your own in its place."""
    call = FunctionCall(id="1", name="open_invoices", arguments='{"year": 2025}')
    usage = RequestUsage(prompt_tokens=120, completion_tokens=12)
    return ReplayChatCompletionClient(
        [
            CreateResult(finish_reason="function_calls", content=[call], usage=usage, cached=False),
            "Three invoices are open. DONE",
        ],
        model_info={
            "vision": False,
            "function_calling": True,
            "json_output": False,
            "family": ModelFamily.UNKNOWN,
            "structured_output": False,
        },
    )


async def ask(tenant: str, task: str) -> str:
    """Run a team for a tenant; returns what was said last."""
    # A team for each run: its agents remember, and nobody else is to read what.
    clerk = AssistantAgent("clerk", model(), tools=[open_invoices], reflect_on_tool_use=True)
    team = RoundRobinGroupChat([clerk], termination_condition=TextMentionTermination("DONE"))
    with instrumentation.tenant(tenant), instrumentation.budget(turn=30.0, cancel=True):
        result = await team.run(task=task)
    return str(getattr(result.messages[-1], "content", ""))


async def main() -> None:
    """Three tenants at once."""
    tenants = ("acme", "globex", "initech")
    for tenant, answer in zip(
        tenants, await asyncio.gather(*(ask(each, "What is open?") for each in tenants)), strict=True
    ):
        print(f"{tenant}: {answer}")


if __name__ == "__main__":
    instrumentation.start(service_name="teams")
    asyncio.run(main())
    instrumentation.stop()
