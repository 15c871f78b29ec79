"""What a direct send costs: bare AutoGen against AutoGen watched by tenantscope, interleaved in one process.

    python -m benchmarks.send_cost [--rounds 15] [--sends 2000] [--sizes 100 10000]

Each round times `sends` awaited calls bare, then watched, then bare, so that both see the same machine. Two figures:

- `loop thread`: CPU of the thread that runs the application, from the OS (`time.thread_time`). This is what the
  application's own latency pays.
- `process`: CPU of the whole process (`time.process_time`), with the export thread encoding every span and sending it
  over gRPC to a real sidecar in another process.

Spans are exported behind the timed sends and counted in the second figure only: on two hyper-threads of one core, what
the sidecar does at the same time makes every instruction of the application dearer; bare AutoGen has no such company.

Printed are medians over the rounds, the ratio of the medians, and the range that half of the rounds' ratios lie in.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler

import instrumentation
from benchmarks.targets import at_most
from instrumentation import lifecycle
from instrumentation.settings import Settings
from instrumentation.telemetry.otlp import otlp_exporters

RATIO = 1.0  # to bare AutoGen


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


async def _round(runtime: SingleThreadedAgentRuntime, payload: str, sends: int) -> tuple[float, float]:
    """CPU seconds of this thread and of the process, for `sends` sends."""
    recipient = AgentId("echo", "default")
    message = Ask(payload)
    gc.collect()
    thread, process = time.thread_time(), time.process_time()
    with instrumentation.tenant("acme"):
        for _ in range(sends):
            await runtime.send_message(message, recipient)
    thread = time.thread_time() - thread
    instrumentation.flush(30)  # a no-op while bare
    return thread, time.process_time() - process


async def _compare(size: int, rounds: int, sends: int, settings: Settings) -> list[tuple[float, ...]]:
    runtime = SingleThreadedAgentRuntime()
    await Echo.register(runtime, "echo", Echo)
    runtime.start()
    payload = "x" * size
    figures = []
    for index in range(rounds + 1):
        bare = await _round(runtime, payload, sends)
        lifecycle.start_with(settings, None, otlp_exporters)
        watched = await _round(runtime, payload, sends)
        instrumentation.stop(30)
        if index:  # the first round warms up
            figures.append((*bare, *watched))
        if sys.stderr.isatty():
            print(f"\r  {size} B: round {index} of {rounds} ", end="\r", file=sys.stderr, flush=True)
    await runtime.stop()
    return figures


def _line(name: str, size: int, sends: int, bare: list[float], watched: list[float]) -> str:
    ratios = sorted(w / b for w, b in zip(watched, bare, strict=True))
    quarter = len(ratios) // 4
    b, w = statistics.median(bare), statistics.median(watched)
    return (
        f"{size:>7} B  {name:<12} {b / sends * 1e6:>8.1f} us {w / sends * 1e6:>9.1f} us "
        f"{w / b:>7.2f}x   {ratios[quarter]:.2f}-{ratios[-1 - quarter]:.2f}  {at_most(w / b, RATIO, 'x')}"
    )


@contextlib.contextmanager
def _sidecar() -> Iterator[str]:
    """A real sidecar in another process; yields its endpoint."""
    with tempfile.TemporaryDirectory() as state:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "sidecar", "--listen", f"unix:{state}/otlp.sock"),
                *("--admin", "127.0.0.1:0", "--state-dir", f"{state}/state"),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 20
            while not Path(f"{state}/otlp.sock").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the sidecar does not start: try `tenantscope sidecar`")
                time.sleep(0.01)
            yield f"unix:{state}/otlp.sock"
        finally:
            process.terminate()
            process.wait(20)


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
    arguments = parser.parse_args()
    print(
        f"Python {sys.version.split()[0]}, {arguments.rounds} rounds of {arguments.sends} sends each way, CPU per send"
    )
    print(f"{'payload':>9}  {'CPU of':<12} {'bare':>11} {'watched':>12} {'ratio':>8}   half of the rounds")
    with _sidecar() as endpoint:
        settings = Settings(endpoint=endpoint, span_queue=1_000_000, span_batch=arguments.sends + 1, span_interval=600)
        for size in arguments.sizes:
            figures = asyncio.run(_compare(size, arguments.rounds, arguments.sends, settings))
            bare_thread, bare_process, thread, process = (list(column) for column in zip(*figures, strict=True))
            print(_line("loop thread", size, arguments.sends, bare_thread, thread))
            print(_line("process", size, arguments.sends, bare_process, process))


if __name__ == "__main__":
    main()
