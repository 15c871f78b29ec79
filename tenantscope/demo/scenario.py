"""What the five tenants of the demo do, each in its own task and bound to its own id, all on one runtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from autogen_agentchat.teams import RoundRobinGroupChat

import instrumentation

from .handover import BURSTER, FAILER, HOG, MAILER, VICTIM
from .stage import PaymentRefusedError, Stage

_BURST = 200
_MAILBOXES = 6
_RHYTHM = 0.04  # seconds
_MAX_ROUND_TRIPS = 20_000


async def hog(stage: Stage, team: RoundRobinGroupChat) -> None:
    """Runs a team whose tool holds the loop for about half a second."""
    while not stage.stop.is_set():
        await stage.run_team(HOG, team)
        await stage.pause(0.9)


async def burster(stage: Stage) -> None:
    """Sends many orders at once, to a few clerks, now and then."""
    while not stage.stop.is_set():
        await asyncio.gather(*(stage.order(BURSTER, "clerk", f"desk-{i % 10}") for i in range(_BURST)))
        await stage.pause(1.5)


async def failer(stage: Stage, team: RoundRobinGroupChat) -> None:
    """Its team's tool raises, and so does the core agent that it calls."""
    till = f"till-{stage.canaries.plant('agent key')}"
    while not stage.stop.is_set():
        try:
            await stage.order(FAILER, "cashier", till)
        except PaymentRefusedError:
            stage.count(stage.report.errors, FAILER)
        await stage.run_team(FAILER, team)
        stage.count(stage.report.errors, FAILER)
        await stage.pause(1.2)


async def mailer(stage: Stage, team: RoundRobinGroupChat) -> None:
    """Addresses its agents, and the topics it publishes to, by its customers' e-mail addresses."""
    addresses = [f"{stage.canaries.plant('e-mail address as key')}@customer.example" for _ in range(_MAILBOXES)]
    while not stage.stop.is_set():
        for address in addresses:
            await stage.order(MAILER, "clerk", address)
            await stage.pause(0.05)
        # A mistake of its own: that agent works for somebody else as well, and remembers.
        await stage.order(MAILER, "clerk", "front-desk")
        await stage.run_team(MAILER, team)
        await stage.pause(0.5)


async def victim(stage: Stage, team: RoundRobinGroupChat) -> None:
    """Small, regular, polite; its round trips show what it is like to share a loop."""
    turn = asyncio.create_task(_victim_team(stage, team))
    due = time.perf_counter()
    while not stage.stop.is_set():
        await stage.order(VICTIM, "clerk", "front-desk")
        # From when it was due: a caller outside does not wait until the loop is free before it wants
        # something.
        if len(stage.report.round_trips) < _MAX_ROUND_TRIPS:
            stage.report.round_trips.append(time.perf_counter() - due)
        due += _RHYTHM
        await stage.pause(due - time.perf_counter())
    await turn


async def _victim_team(stage: Stage, team: RoundRobinGroupChat) -> None:
    while not stage.stop.is_set():
        await stage.run_team(VICTIM, team)
        await stage.pause(1.0)


async def play(stage: Stage) -> None:
    """Run all five until `stage.stop` is set."""
    await stage.build()
    # Before anybody can wait for them: making a model client takes tens of milliseconds of the loop.
    lives = {
        HOG: hog(stage, await stage.team(stage.render_report)),
        BURSTER: burster(stage),
        FAILER: failer(stage, await stage.team(stage.charge_card)),
        MAILER: mailer(stage, await stage.team(stage.look_up)),
        VICTIM: victim(stage, await stage.team(stage.look_up, stream=True)),
    }
    # On purpose: a runtime's handlers inherit the context in which it was started, so that without
    # tenantscope all work below would count as this tenant's.
    with instrumentation.tenant(VICTIM):
        stage.runtime.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            for tenant, life in lives.items():
                tasks.create_task(_live(tenant, life), name=tenant)
    finally:
        await stage.close()


async def _live(tenant: str, life: Coroutine[Any, Any, None]) -> None:
    with instrumentation.tenant(tenant):
        await life
