"""What a team's run costs: AgentChat bare against AgentChat watched by tenantscope, interleaved in one process.

    python -m benchmarks.team_cost [--rounds 15] [--runs 40]

A round robin of two agents, one of whom calls a tool, with a model client that answers at once: everything that is
measured is AutoGen's or ours. Each round times `runs` runs of a new team each bare, then as many watched. The figure is
CPU of the thread that runs the application, from the OS (`time.thread_time`); spans are kept in memory. What encoding
and sending them costs, in another thread, shows `benchmarks.send_cost`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

import instrumentation
from instrumentation.testing import capture

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


async def _round(runs: int) -> float:
    """CPU seconds of this thread for `runs` runs."""
    gc.collect()
    began = time.thread_time()
    with instrumentation.tenant("acme"):
        for _ in range(runs):
            await _run()
    return time.thread_time() - began


async def _compare(rounds: int, runs: int) -> list[tuple[float, float]]:
    figures = []
    for index in range(rounds + 1):
        bare = await _round(runs)
        with capture():
            watched = await _round(runs)
        if index:  # the first is for warming up
            figures.append((bare, watched))
    return figures


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--runs", type=int, default=40, help="runs of a team in each half of a round")
    chosen = parser.parse_args()
    figures = asyncio.run(_compare(chosen.rounds, chosen.runs))
    bare, watched = (statistics.median(of) / chosen.runs * 1e3 for of in zip(*figures, strict=True))
    ratios = sorted(after / before for before, after in figures)
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    print(f"Python {sys.version.split()[0]}, {chosen.rounds} rounds of {chosen.runs} runs each way, CPU per run")
    print("    bare     watched    ratio   half of the rounds")
    print(f"{bare:>5.2f} ms  {watched:>7.2f} ms  {watched / bare:>6.2f}x   {low:.2f}-{high:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
