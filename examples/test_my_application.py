"""Your own tests: what the telemetry of an application says, captured in memory, without a sidecar or a network.

    python -m pytest examples/test_my_application.py

The application is `teams.py` beside this file.
"""

import asyncio

import pytest
import teams

from instrumentation.testing import Captured, capture


@pytest.fixture
def captured() -> Captured:
    """One run of the application, for two tenants at once."""

    async def application() -> None:
        await asyncio.gather(
            teams.ask("acme", "What is open? My card is 4111 1111 1111 1111"), teams.ask("globex", "And here?")
        )

    with capture() as captured:
        asyncio.run(application())
        captured.spans()  # before the end: afterwards nothing is watched
    return captured


def test_all_work_is_somebodys(captured: Captured) -> None:
    """No span is `unknown`: a place where the application forgot to bind the tenant fails here."""
    assert {span.attributes["tenant.id"] for span in captured.spans()} == {"acme", "globex"}


def test_one_trace_is_one_tenants(captured: Captured) -> None:
    """Nothing of a tenant's conversation is in another's trace."""
    traces: dict[int, set[str]] = {}
    for span in captured.spans():
        traces.setdefault(span.context.trace_id, set()).add(span.attributes["tenant.id"])
    assert all(len(tenants) == 1 for tenants in traces.values())


def test_the_tool_was_called_once_for_each(captured: Captured) -> None:
    """What happened, by the names of spans."""
    names = [span.name for span in captured.spans()]
    assert names.count("execute_tool open_invoices") == 2
    assert names.count("invoke_workflow RoundRobinGroupChat") == 2


def test_no_content_is_in_the_telemetry(captured: Captured) -> None:
    """Neither what was asked nor what was answered."""
    told = " ".join(f"{span.name} {dict(span.attributes)} {span.events}" for span in captured.spans())
    assert "4111 1111" not in told  # with its space, which no id has
    assert "invoices are open" not in told


def test_nobody_shares_an_agent(captured: Captured) -> None:
    """A finding of isolation would be one agent that worked for both."""
    assert captured.points("autogen.messages")
    assert captured.points("autogen.isolation.findings") == []
