"""What the five tenants of the demo do, each in its own task and bound to its own id, all on one runtime."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import instrumentation

from .handover import BURSTER, FAILER, HOG, MAILER, VICTIM
from .stage import PaymentRefusedError, Stage

_BURST = 200
_MAILBOXES = 6
_RHYTHM = 0.04  # seconds
_MAX_ROUND_TRIPS = 20_000


async def hog(stage: Stage) -> None:
    """Runs a team whose tool holds the loop for about half a second."""
    team = stage.team(stage.render_report)
    while not stage.stop.is_set():
        await stage.run_team(HOG, team)
        await stage.pause(0.9)


async def burster(stage: Stage) -> None:
    """Sends many orders at once, to a few clerks, now and then."""
    while not stage.stop.is_set():
        await asyncio.gather(*(stage.order(BURSTER, "clerk", f"desk-{i % 10}") for i in range(_BURST)))
        await stage.pause(1.5)


async def failer(stage: Stage) -> None:
    """Its team's tool raises, and so does the core agent that it calls."""
    team = stage.team(stage.charge_card)
    till = f"till-{stage.canaries.plant('agent key')}"
    while not stage.stop.is_set():
        try:
            await stage.order(FAILER, "cashier", till)
        except PaymentRefusedError:
            stage.count(stage.report.errors, FAILER)
        await stage.run_team(FAILER, team)
        stage.count(stage.report.errors, FAILER)
        await stage.pause(1.2)


async def mailer(stage: Stage) -> None:
    """Addresses its agents, and the topics it publishes to, by its customers' e-mail addresses."""
    addresses = [
        f"{stage.canaries.plant('e-mail address as key')}@customer.example" for _ in range(_MAILBOXES)
    ]
    team = stage.team(stage.look_up)
    while not stage.stop.is_set():
        for address in addresses:
            await stage.order(MAILER, "clerk", address)
            await stage.pause(0.05)
        await stage.run_team(MAILER, team)
        await stage.pause(0.5)


async def victim(stage: Stage) -> None:
    """Small, regular, polite; its round trips show what it is like to share a loop."""
    turn = asyncio.create_task(_victim_team(stage))
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


async def _victim_team(stage: Stage) -> None:
    team = stage.team(stage.look_up, stream=True)
    while not stage.stop.is_set():
        await stage.run_team(VICTIM, team)
        await stage.pause(1.0)


LIVES: dict[str, Callable[[Stage], Awaitable[None]]] = {
    HOG: hog,
    BURSTER: burster,
    FAILER: failer,
    MAILER: mailer,
    VICTIM: victim,
}


async def play(stage: Stage) -> None:
    """Run all five until `stage.stop` is set."""
    await stage.build()
    # On purpose: a runtime's handlers inherit the context in which it was started, so that without
    # tenantscope all work below would count as this tenant's.
    with instrumentation.tenant(VICTIM):
        stage.runtime.start()
    try:
        async with asyncio.TaskGroup() as lives:
            for tenant, live in LIVES.items():
                lives.create_task(_live(tenant, live, stage), name=tenant)
    finally:
        await stage.close()


async def _live(tenant: str, live: Callable[[Stage], Awaitable[None]], stage: Stage) -> None:
    with instrumentation.tenant(tenant):
        await live(stage)
