"""Who waited for whom: the second tenant of a record is shown as that tenant is shown everywhere, whatever its rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from otlp_peers import sum_request

from sidecar.redaction import MasterKey, Policy, Pseudonyms, Redactor
from sidecar.senders.clients import Client

NAMES = Pseudonyms(MasterKey("k1", b"k" * 32))
PAIR = "autogen.tenant.loop.delay.pair"
VICTIM = "tenantscope.victim"
TIERS = b"""
version: 1
attributes:
  tenant.id: {type: string, shape: tenant, max_length: 255}
  tenantscope.victim: {type: string, shape: tenant, max_length: 255}
events:
  exception.type: {type: string, shape: identifier, max_length: 128}
resource:
  service.name: {type: string, shape: identifier, max_length: 128}
tiers:
  banks:
    tenants: ["bank-*"]
    attributes:
      tenant.id: {action: pseudonymise}
fields:
  Metric.name: {shape: identifier, max_length: 255}
"""


def shown(redactor: Redactor, culprit: str, victim: str, **more: Any) -> dict[str, str]:
    """The attributes of the one point that leaves."""
    payload = sum_request(PAIR, 1, tenant=culprit, extra={VICTIM: victim})
    redacted = redactor.redact("metrics", payload, *more.values())
    (metric,) = ExportMetricsServiceRequest.FromString(redacted.payload).resource_metrics[0].scope_metrics[0].metrics
    return {entry.key: entry.value.string_value for entry in metric.sum.data_points[0].attributes}


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_a_victim_is_shown_as_it_is_shown_as_a_tenant(tenant: str) -> None:
    """Masked, dropped or in clear, and with the same tag: otherwise nobody could put the two together."""
    redactor = Redactor(Policy.default(), NAMES)
    own = shown(redactor, tenant, "globex").get("tenant.id")
    for _ in range(2):  # what was allowed once is remembered
        assert shown(redactor, "globex", tenant).get(VICTIM) == own


def test_a_victim_is_judged_by_its_own_tier() -> None:
    """A bank waits for somebody whose ids are shown, and somebody for a bank."""
    redactor = Redactor(Policy.parse(TIERS), NAMES)
    hidden = redactor.tenant("bank-north")
    assert hidden.startswith("p-k1-")
    for _ in range(2):
        assert shown(redactor, "acme", "bank-north") == {"tenant.id": "acme", VICTIM: hidden}
        assert shown(redactor, "bank-north", "acme") == {"tenant.id": hidden, VICTIM: "acme"}
        assert shown(redactor, "bank-south", "bank-north")[VICTIM] == hidden


def test_a_policy_that_shows_no_tenants_shows_no_victims() -> None:
    """Though it has a rule for them."""
    policy = TIERS.replace(b"  tenant.id: {type: string, shape: tenant, max_length: 255}\n", b"")
    assert shown(Redactor(Policy.parse(policy), NAMES), "acme", "globex") == {}


@pytest.mark.parametrize(("victim", "allowed"), [("globex", True), ("acme", False)])
def test_a_client_names_no_victim_that_it_does_not_speak_for(victim: str, allowed: bool) -> None:
    """As with the tenant itself."""
    client = Client("partner", frozenset({"globex", "initech"}))
    payload = sum_request(PAIR, 1, tenant="initech", extra={VICTIM: victim})
    redacted = Redactor(Policy.default(), NAMES).redact("metrics", payload, client.nameable)
    assert (redacted.records_out == 1) == allowed
    assert (victim.encode() in redacted.payload) == allowed
