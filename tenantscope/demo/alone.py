"""The demo's application without its conductor, as a container runs one: `python -m tenantscope.demo.alone`.

The five tenants and their model go on until SIGTERM; where telemetry goes is the environment's to say, as for any other
application. What it refuses: to search for its canaries, to start a sidecar, to judge; `tenantscope demo` does that.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import instrumentation

from .canaries import Canaries, new_marker
from .handover import SERVICE
from .model_server import ModelServer
from .scenario import play
from .stage import Stage


def main() -> int:
    """Play until told to stop; the exit status."""
    canaries = Canaries(new_marker())
    model = ModelServer(canaries.plant)
    model.start()
    # The environment's name wins, so that several of them can be told apart.
    instrumentation.start(service_name=os.environ.get("OTEL_SERVICE_NAME") or SERVICE)
    try:
        asyncio.run(_play(Stage(model.url, canaries, asyncio.Event())))
    finally:
        instrumentation.stop()
        model.close()
    return 0


async def _play(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stage.stop.set)
    await play(stage)


if __name__ == "__main__":
    sys.exit(main())
