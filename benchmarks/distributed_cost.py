"""What a call over AutoGen's distributed runtime costs: bare against watched by tenantscope, in one process.

    python -m benchmarks.distributed_cost [--rounds 9] [--sends 400] [--size 1000]

Host, caller and worker share the process and its loop, so that all that a call costs on either side is in one figure:
CPU of the thread that runs them, from the OS (`time.thread_time`). Bare and watched take turns. Spans are kept in
memory; keys are shared, so that a call is sealed once and looked at by host and worker, and its answer likewise.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time

import grpc.aio
from autogen_core import AgentId
from autogen_core._serialization import try_get_known_serializers_for_type
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime, GrpcWorkerAgentRuntimeHost

import instrumentation
from benchmarks.send_cost import Answer, Ask, Echo
from instrumentation.peers import Key, Peers
from instrumentation.testing import capture


async def _round(caller: GrpcWorkerAgentRuntime, message: Ask, sends: int) -> float:
    """CPU seconds of this thread for so many calls."""
    gc.collect()
    began = time.thread_time()
    with instrumentation.tenant("acme"):
        for _ in range(sends):
            await caller.send_message(message, AgentId("echo", "k"))
    return time.thread_time() - began


async def _compare(rounds: int, sends: int, size: int) -> list[tuple[float, float]]:
    host = GrpcWorkerAgentRuntimeHost("127.0.0.1:0")
    address = f"127.0.0.1:{host._server.add_insecure_port('127.0.0.1:0')}"
    host.start()
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
    caller, worker = GrpcWorkerAgentRuntime(address), GrpcWorkerAgentRuntime(address)
    for runtime in (caller, worker):
        for message in (Ask, Answer):
            runtime.add_message_serializer(try_get_known_serializers_for_type(message))
        await runtime.start()
    await Echo.register(worker, "echo", Echo)
    peers = Peers((Key(b"k" * 32),))
    figures = []
    for index in range(rounds + 1):
        bare = await _round(caller, Ask("x" * size), sends)
        with capture(peers=peers):
            watched = await _round(caller, Ask("x" * size), sends)
        if index:  # the first is for warming up
            figures.append((bare, watched))
    for runtime in (caller, worker):
        await runtime.stop()
    await host.stop(grace=0)
    return figures


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sends", type=int, default=400, help="calls in each half of a round")
    parser.add_argument("--size", type=int, default=1000, help="bytes of a message")
    chosen = parser.parse_args()
    figures = asyncio.run(_compare(chosen.rounds, chosen.sends, chosen.size))
    bare, watched = (statistics.median(of) / chosen.sends * 1e6 for of in zip(*figures, strict=True))
    ratios = sorted(after / before for before, after in figures)
    low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
    print(f"Python {sys.version.split()[0]}, {chosen.rounds} rounds of {chosen.sends} calls each way, CPU per call")
    print("     bare     watched    ratio   half of the rounds")
    print(f"{bare:>6.0f} us  {watched:>7.0f} us  {watched / bare:>6.2f}x   {low:.2f}-{high:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
