"""How long a tenant's messages wait for their handlers: in the cell, where the sidecar sees it at once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, message_handler

import instrumentation
from instrumentation import lifecycle, tenancy
from sidecar.watchdog.opening import open_cell

NOWHERE = "unix:/nonexistent/tenantscope.sock"


@dataclass
class Hold:
    seconds: float


class Sleeper(RoutedAgent):
    """Holds the loop for a moment, so that what was sent behind it waits."""

    def __init__(self) -> None:
        super().__init__("holds the loop")

    @message_handler
    async def on_seconds(self, message: Hold, ctx: MessageContext) -> None:
        time.sleep(message.seconds)


@pytest.fixture
def cells(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "cells"
    folder.mkdir(mode=0o700)
    instrumentation.start(service_name="queues", endpoint=NOWHERE, cell_dir=folder)
    yield folder
    instrumentation.stop()


def test_what_waits_behind_a_held_loop_waits_in_the_queue(cells: Path) -> None:
    """Each message once, under its own tenant; what was sent second waits for as long as the first one took."""
    found: dict[str, tuple[int, float]] = {}

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime()
        await Sleeper.register(runtime, "sleeper", Sleeper)
        runtime.start()
        sends = []
        for name, seconds in (("queue-first", 0.1), ("queue-second", 0.0), ("queue-second", 0.0)):
            with instrumentation.tenant(name):
                sends.append(asyncio.create_task(runtime.send_message(Hold(seconds), AgentId("sleeper", name))))
        await asyncio.gather(*sends)
        (path,) = cells.glob("*.cell")
        reader = open_cell(str(path), os.getpid(), int(path.stem.split("-")[2]))
        found.update({each.tenant: (each.queued, each.queued_ns / 1e9) for each in reader.totals()})
        reader.close()
        await runtime.stop()

    asyncio.run(main())
    assert found["queue-first"][0] == 1
    assert found["queue-second"][0] == 2
    assert found["queue-second"][1] >= 2 * 0.1


def test_waits_that_do_not_fit_end_at_the_greatest_number(cells: Path) -> None:
    """Another process says when it sent a message, and may say it again and again; later messages still count."""
    watched = lifecycle.running()
    assert watched is not None
    found: list[tuple[int, int]] = []

    async def main() -> None:
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        for _ in range(3):
            watched.loops.queued(loop, tenancy.TABLE.intern("queue-replayed").slot, 2**63)
        (path,) = cells.glob("*.cell")
        reader = open_cell(str(path), os.getpid(), int(path.stem.split("-")[2]))
        found.extend((each.queued, each.queued_ns) for each in reader.totals() if each.tenant == "queue-replayed")
        reader.close()

    asyncio.run(main())
    assert found == [(3, 2**64 - 1)]
