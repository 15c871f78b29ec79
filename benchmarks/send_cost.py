"""What a direct send costs: bare AutoGen against AutoGen watched by tenantscope, interleaved in one process.

    python -m benchmarks.send_cost [--rounds 15] [--sends 2000] [--sizes 100 10000]

Each round times `sends` awaited calls bare, then as many watched. What the figures are: `benchmarks/both_ways.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass

from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler

from benchmarks import both_ways
from instrumentation.settings import Settings


@dataclass
class Ask:
    text: str


@dataclass
class Answer:
    text: str


class Echo(RoutedAgent):
    """Answers at once: everything that is measured is AutoGen's or ours."""

    def __init__(self) -> None:
        super().__init__("echo")
        self._answer = Answer("ok")

    @message_handler
    async def on_ask(self, message: Ask, ctx: MessageContext) -> Answer:
        return self._answer


async def _compare(size: int, rounds: int, sends: int, settings: Settings) -> list[both_ways.Figures]:
    runtime = SingleThreadedAgentRuntime()
    await Echo.register(runtime, "echo", Echo)
    runtime.start()
    recipient, message = AgentId("echo", "default"), Ask("x" * size)

    async def send() -> None:
        for _ in range(sends):
            await runtime.send_message(message, recipient)

    figures = await both_ways.compare(f"{size} B", send, rounds, settings)
    await runtime.stop()
    return figures


def main() -> None:
    """Entry point of `make bench`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m benchmarks.send_cost",
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sends", type=int, default=2000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 10_000])
    chosen = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {chosen.rounds} rounds of {chosen.sends} sends each way, CPU per send")
    print(both_ways.header("payload"))
    with both_ways.sidecar() as endpoint:
        settings = both_ways.settings(endpoint)
        for size in chosen.sizes:
            figures = asyncio.run(_compare(size, chosen.rounds, chosen.sends, settings))
            for line in both_ways.lines(f"{size} B", figures, chosen.sends):
                print(line)


if __name__ == "__main__":
    main()
