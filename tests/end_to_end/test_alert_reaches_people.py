"""Application, sidecar, Collector, Prometheus, rule, Alertmanager, receiver: a tenant blocks, and people hear of it."""

from __future__ import annotations

from typing import Any

import pytest
from collector_process import eventually, http_get
from stack import Stack, say

Told = dict[str, dict[str, dict[str, Any]]]  # by status, by name: the alert as people were told of it

PATIENCE = 60.0
SERVICE = "billing-agents"


@pytest.fixture(scope="module")
def held_loop(stack: Stack) -> Told:
    """What people were told: at first while `hog` blocked the loop again and again, then when it rested."""
    told: Told = {"firing": {}, "resolved": {}}
    awaited = {
        "EventLoopStalled": {"tenant_id": "hog", "service_name": SERVICE},
        "TenantHoldsLoop": {"tenant_id": "hog", "job": SERVICE},
        "TenantLoopDelayHigh": {"tenant_id": "acme", "job": SERVICE},
    }

    def hear(status: str) -> None:
        for name, labels in awaited.items():
            told[status][name] = eventually(
                lambda name=name, labels=labels: stack.told(name, status, **labels), f"{name} {status}", PATIENCE
            )

    with stack.application(SERVICE) as child:
        messages = f'sum by (tenant_id) (rate(autogen_messages_total{{job="{SERVICE}"}}[3s])) > 0'
        eventually(lambda: len(stack.prometheus.numbers(messages)) == 3, "three tenants at work", PATIENCE)
        assert stack.told("TenantHoldsLoop", "firing") is None
        say(child, "block")
        hear("firing")
        say(child, "rest")
        hear("resolved")
        assert child.poll() is None
    return told


def test_the_alert_names_the_tenant_who_blocks(held_loop: Told) -> None:
    """The rule's alert has culprit and service in its summary; the sidecar's own has the line that blocks as well."""
    by_rule = held_loop["firing"]["TenantHoldsLoop"]
    assert "Tenant hog holds the event loop of billing-agents" in str(by_rule["annotations"])
    by_sidecar = held_loop["firing"]["EventLoopStalled"]
    assert "render_report" in str(by_sidecar["annotations"])


def test_the_victim_has_an_alert_of_its_own(held_loop: Told) -> None:
    """Who waits is named as who waits, not as who is to blame."""
    assert "Tenant acme waits for the event loop" in str(held_loop["firing"]["TenantLoopDelayHigh"]["annotations"])


def test_nobody_else_is_blamed(stack: Stack, held_loop: Told) -> None:
    """No alert says that a tenant holds a loop who does not."""
    for tenant in ("acme", "globex", "unknown"):
        for name in ("TenantHoldsLoop", "EventLoopStalled", "TenantStallsOften"):
            assert stack.told(name, "firing", tenant_id=tenant) is None


@pytest.mark.parametrize("name", ["EventLoopStalled", "TenantHoldsLoop", "TenantLoopDelayHigh"])
def test_its_runbook_is_where_the_link_says(stack: Stack, held_loop: Told, name: str) -> None:
    """Following the link leads to the page about this very alert."""
    page = http_get(held_loop["firing"][name]["annotations"]["runbook_url"])
    assert page is not None
    assert page.startswith(f"# {name}\n")


@pytest.mark.parametrize("name", ["EventLoopStalled", "TenantHoldsLoop", "TenantLoopDelayHigh"])
def test_it_resolves(held_loop: Told, name: str) -> None:
    """When the tenant rests, people are told that it is over; the same alert, for it has the same labels."""
    assert held_loop["resolved"][name]["labels"] == held_loop["firing"][name]["labels"]
