"""Runs small applications in processes of their own: what they do to signals, forks and exits is theirs alone."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

_TESTS = Path(__file__).parent.parent
#: The environment that a developer's shell adds nothing to; the library's own log is on standard error.
_PATHS = os.pathsep.join((str(_TESTS.parent), str(_TESTS), str(Path(__file__).parent)))


def run_python(
    *parts: str, options: tuple[str, ...] = (), timeout: float = 60, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run the parts, one after the other, with the repository and the tests importable.

    Killed after `timeout` seconds, which fails the test.
    """
    return subprocess.run(
        [sys.executable, *options, "-c", "\n".join(map(textwrap.dedent, parts))],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": _PATHS, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **environ},
    )


def spawned(endpoint: str) -> None:
    """What a spawned child of multiprocessing runs; it does not stop the library, it just ends."""
    import asyncio

    from autogen_apps import Ask, Asked, ask_runtime
    from autogen_core import AgentId

    import instrumentation

    async def work() -> None:
        runtime = await ask_runtime(child=Asked)
        runtime.start()
        for _ in range(5):
            await runtime.send_message(Ask("x"), AgentId("child", "k"))
        await runtime.stop_when_idle()

    instrumentation.start(endpoint=endpoint)
    asyncio.run(work())
