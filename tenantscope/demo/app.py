"""The demo's application, a process of its own: `python -m tenantscope.demo.app PLAN`.

A plain multi-tenant AutoGen application; what makes it a tenantscope one is `instrumentation.start()` here
and `with instrumentation.tenant(...)` in the scenario. It ends when its standard input does, so that it
cannot outlive the conductor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from pathlib import Path

import instrumentation
from instrumentation import diagnostics

from .canaries import Canaries
from .handover import SERVICE, Plan, Report
from .scenario import play
from .stage import Stage


def main() -> None:
    """Run the scenario of the plan named on the command line, and write the report."""
    plan = Plan.load(Path(sys.argv[1]))
    # AutoGen's log lines hold content; an application's own log is its own business, and not part of what is
    # searched.
    logging.basicConfig(filename=plan.log, level=logging.WARNING)
    instrumentation.start(service_name=SERVICE)
    report = asyncio.run(_run(plan))
    instrumentation.stop()
    report.faults = diagnostics.counts()
    report.save(Path(plan.report))


async def _run(plan: Plan) -> Report:
    stop = asyncio.Event()
    stage = Stage(plan.model_url, Canaries(plan.marker), stop)
    _stop_with_conductor(asyncio.get_running_loop(), stop)
    asyncio.get_running_loop().call_later(plan.limit, stop.set)
    await play(stage)
    stage.report.canaries = stage.canaries.planted()
    stage.report.places = stage.canaries.places()
    return stage.report


def _stop_with_conductor(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    def wait() -> None:
        # Not `sys.stdin.read()`: that would hold its lock, which the interpreter wants at exit.
        while os.read(sys.stdin.fileno(), 1024):
            pass
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run ended by itself
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, name="wait-for-conductor", daemon=True).start()


if __name__ == "__main__":
    main()
