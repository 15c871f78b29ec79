"""What `send_cost` and `team_cost` share: the same work bare and watched, with a real sidecar at the other end.

Two figures:

- `loop thread`: CPU of the thread that runs the application, from the OS (`time.thread_time`). This is what the
  application's own latency pays.
- `process`: CPU of the whole process (`time.process_time`), with the export thread encoding every span and sending it
  over gRPC to a real sidecar in another process.

Spans are exported behind the timed work and counted in the second figure only: on two hyper-threads of one core, what
the sidecar does at the same time makes every instruction of the application dearer; bare AutoGen has no such company.

A round lasts a fraction of a second, and metrics leave every ten seconds. What exporting them costs is seen in a second
flush, which has nothing else to send, and is counted for as much of an interval as the round took.

Either way the work is done once before it is timed. What a start costs is paid once a process, and not for each thing
that it does: connecting and announcing the loop, and that the interpreter has to learn the changed classes anew.

Printed are medians over the rounds, the ratio of the medians, and the range that half of the rounds' ratios lie in.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import instrumentation
from instrumentation import lifecycle
from instrumentation.settings import Settings
from instrumentation.telemetry.otlp import otlp_exporters

Work = Callable[[], Awaitable[None]]
#: CPU seconds of one round: of the thread and of the process, bare, then watched.
Figures = tuple[float, float, float, float]


def settings(endpoint: str) -> Settings:
    """Nothing is sent before it is asked for."""
    return Settings(endpoint=endpoint, span_queue=1_000_000, span_batch=1_000_000, span_interval=600)


async def compare(label: str, work: Work, rounds: int, chosen: Settings) -> list[Figures]:
    """Each round does the work bare, then watched, so that both see the same machine; the first does not count."""
    figures = []
    for index in range(rounds + 1):
        bare = await _measured(work)
        lifecycle.start_with(chosen, None, otlp_exporters)
        watched = await _measured(work)
        instrumentation.stop(30)
        if index:
            figures.append((*bare, *watched))
        if sys.stderr.isatty():
            print(f"\r  {label}: round {index} of {rounds} ", end="\r", file=sys.stderr, flush=True)
    return figures


async def _measured(work: Work) -> tuple[float, float]:
    with instrumentation.tenant("acme"):
        await work()
    instrumentation.flush(30)
    gc.collect()
    begun, thread, process = time.monotonic(), time.thread_time(), time.process_time()
    with instrumentation.tenant("acme"):
        await work()
    took, thread = time.monotonic() - begun, time.thread_time() - thread
    instrumentation.flush(30)  # a no-op while bare
    process = time.process_time() - process
    metrics = time.process_time()
    instrumentation.flush(30)
    metrics = time.process_time() - metrics
    return thread, process - metrics * max(0.0, 1 - took / Settings().metric_interval)


def header(what: str) -> str:
    """Above the lines."""
    return f"{what:>9}  {'CPU of':<12} {'bare':>11} {'watched':>12} {'ratio':>8}   half of the rounds"


def lines(label: str, figures: list[Figures], times: int) -> Iterator[str]:
    """One for each of the two figures, in microseconds for each of so many `times` that a round did it."""
    bare_thread, bare_process, thread, process = (list(column) for column in zip(*figures, strict=True))
    for name, bare, watched in (("loop thread", bare_thread, thread), ("process", bare_process, process)):
        ratios = sorted(w / b for w, b in zip(watched, bare, strict=True))
        quarter = len(ratios) // 4
        b, w = statistics.median(bare), statistics.median(watched)
        yield (
            f"{label:>9}  {name:<12} {b / times * 1e6:>8.1f} us {w / times * 1e6:>9.1f} us "
            f"{w / b:>7.2f}x   {ratios[quarter]:.2f}-{ratios[-1 - quarter]:.2f}"
        )


@contextlib.contextmanager
def sidecar() -> Iterator[str]:
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
