"""What a team's run costs: AgentChat bare against AgentChat watched by tenantscope, interleaved in one process.

    python -m benchmarks.team_cost [--rounds 15] [--runs 100]

A round robin of two agents, one of whom calls a tool, with a model client that answers at once: everything that is
measured is AutoGen's or ours. Each round times `runs` runs of a new team each bare, then as many watched. What the
figures are: `benchmarks/both_ways.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

from benchmarks import both_ways

_USAGE = RequestUsage(prompt_tokens=10, completion_tokens=5)


async def look_up(what: str) -> str:
    """Looks something up."""
    return what * 10


def _client(*contents: str | list[FunctionCall]) -> ReplayChatCompletionClient:
    return ReplayChatCompletionClient(
        [
            CreateResult(
                finish_reason="stop" if isinstance(content, str) else "function_calls",
                content=content,
                usage=_USAGE,
                cached=False,
            )
            for content in contents
        ],
        model_info={
            "vision": False,
            "function_calling": True,
            "json_output": False,
            "family": "unknown",
            "structured_output": False,
        },
    )


async def _run() -> None:
    call = [FunctionCall(id="1", name="look_up", arguments='{"what": "x"}')]
    planner = AssistantAgent("planner", _client(call), tools=[look_up])
    writer = AssistantAgent("writer", _client("written " * 50))
    await RoundRobinGroupChat([planner, writer], max_turns=2).run(task="a question " * 20)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=100, help="runs of a team in each half of a round")
    chosen = parser.parse_args()

    async def runs() -> None:
        for _ in range(chosen.runs):
            await _run()

    print(f"Python {sys.version.split()[0]}, {chosen.rounds} rounds of {chosen.runs} runs each way, CPU per run")
    print(both_ways.header("agents"))
    with both_ways.sidecar() as endpoint:
        figures = asyncio.run(both_ways.compare("team", runs, chosen.rounds, both_ways.settings(endpoint)))
    for line in both_ways.lines("2", figures, chosen.runs):
        print(line)


if __name__ == "__main__":
    main()
