"""From a handler of a real AutoGen runtime to the alert and the status, through a real cell and a real watchdog."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from autogen_apps import Ask, Asked, ask_runtime
from autogen_core import AgentId

from instrumentation import TurnBudgetExceeded, budget, tenant
from instrumentation.testing import capture
from sidecar.watchdog import Watchdog

DEADLINE = 30.0


def test_a_turn_over_its_budget_raises_an_alert(server: str, inbox: Any, watchdog: Watchdog, cells: Path) -> None:
    """The sender has its error, the person on call the tenant; the cell is all that they have in common."""

    async def main() -> None:
        runtime = await ask_runtime(asked=lambda: Asked(work=lambda _: asyncio.Event().wait()))
        runtime.start()
        with tenant("acme"), budget(turn=0.005, cancel=True), pytest.raises(TurnBudgetExceeded):
            await runtime.send_message(Ask("x"), AgentId("asked", "default"))
        alert = await asyncio.to_thread(inbox.next)
        await runtime.stop_when_idle()
        assert (alert.name, alert.status, alert.labels["tenant_id"]) == ("TurnBudgetExceeded", "firing", "acme")
        assert alert.annotations["summary"].endswith("is over its budget of wall time.")

    with capture(endpoint=server, cell_dir=cells, service_name="billing", service_name_given=True):
        asyncio.run(main())


def test_the_status_says_who_waited_for_whom(server: str, watchdog: Watchdog, cells: Path) -> None:
    """Culprit, victim, seconds; from the loop that did it, while it lives."""

    async def main() -> list[dict[str, Any]]:
        def hold() -> None:
            time.sleep(0.02)

        ready = asyncio.get_running_loop().call_soon
        with tenant("hooli"):
            ready(hold)
        with tenant("acme"):
            ready(int)
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            await asyncio.sleep(0.01)
            for loop in watchdog.loops():
                found = [pair for pair in loop["pairs"] if (pair["culprit"], pair["victim"]) == ("hooli", "acme")]
                if found:
                    return found
        raise AssertionError("the pair never came")

    with capture(endpoint=server, cell_dir=cells):
        (pair,) = asyncio.run(main())
    assert pair["seconds"] >= 0.02
