"""The application's random numbers are its own: a program that seeds them draws the same with us as without."""

from __future__ import annotations

import asyncio
import os
import random

from autogen_apps import Ask, Asked, ask_runtime
from autogen_core import AgentId

from instrumentation import chance, tenant
from instrumentation.loop.link import Backoff
from instrumentation.testing import capture


async def ask() -> None:
    runtime = await ask_runtime(asked=Asked)
    runtime.start()
    with tenant("acme"):
        await runtime.send_message(Ask("x"), AgentId("asked", "k"))
    await runtime.stop_when_idle()


def test_a_seeded_application_draws_the_numbers_that_it_draws_without_us() -> None:
    """Ids of traces and spans, and waits for a watchdog, use up nothing of it."""
    random.seed(7)
    with capture() as captured:
        asyncio.run(ask())
        assert len(captured.spans()) > 1
    Backoff().delay()
    assert random.random() == random.Random(7).random()


def test_a_forked_child_has_numbers_of_its_own() -> None:
    """Else parent and child would give their spans the same ids."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, f"{chance.trace_id()}".encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as told:
        assert int(told.read()) != chance.trace_id()
