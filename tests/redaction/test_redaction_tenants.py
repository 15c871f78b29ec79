"""Tenants whose ids are masked stay apart, and nobody without the key can tell who is who."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from otlp_peers import sum_request

from sidecar.redaction import MasterKey, Policy, Pseudonyms, Redactor
from sidecar.redaction.redactor import MAX_FACES

KEY, OTHER_KEY = (Pseudonyms(MasterKey("k1", secret * 32)) for secret in (b"k", b"o"))
JANE, BOB = "jane.doe@corp.example", "bob@corp.example"
POLICY = Policy.default()


def shown(redactor: Redactor, tenant: str) -> str:
    """The tenant of the one point that leaves."""
    redacted = redactor.redact("metrics", sum_request("autogen.messages", 1, tenant=tenant))
    (metric,) = ExportMetricsServiceRequest.FromString(redacted.payload).resource_metrics[0].scope_metrics[0].metrics
    (attribute,) = metric.sum.data_points[0].attributes
    return str(attribute.value.string_value)


def test_two_masked_tenants_are_two() -> None:
    """Each has a mask of its own, the same each time, that holds nothing of the id."""
    redactor = Redactor(POLICY, KEY)
    jane, bob = shown(redactor, JANE), shown(redactor, BOB)
    assert jane != bob
    assert jane.startswith("[redacted:email:")
    assert shown(Redactor(POLICY, KEY), JANE) == jane
    assert not any(part in jane for part in ("jane", "doe", "corp"))


def test_another_key_gives_another_mask() -> None:
    """What one sidecar shows cannot be looked up in what another shows, nor computed from a list of addresses."""
    assert shown(Redactor(POLICY, KEY), JANE) != shown(Redactor(POLICY, OTHER_KEY), JANE)


def test_a_mask_is_not_masked_again() -> None:
    """A second sidecar behind the first changes nothing."""
    once = shown(Redactor(POLICY, KEY), JANE)
    assert shown(Redactor(POLICY, OTHER_KEY), once) == once


@given(st.text(min_size=1, max_size=40))
@settings(deadline=None)
def test_what_people_are_shown_is_what_telemetry_shows(tenant: str) -> None:
    """`Redactor.tenant` says of every id what the engine does to it; a refused one is `redacted`."""
    redactor = Redactor(POLICY, KEY)
    try:
        payload = sum_request("autogen.messages", 1, tenant=tenant)
    except UnicodeEncodeError:
        assert redactor.tenant(tenant) == "redacted"
        return
    redacted = redactor.redact("metrics", payload)
    (metric,) = ExportMetricsServiceRequest.FromString(redacted.payload).resource_metrics[0].scope_metrics[0].metrics
    attributes = metric.sum.data_points[0].attributes
    assert redactor.tenant(tenant) == (attributes[0].value.string_value if attributes else "redacted")


RULE = "tenant.id: {type: string, shape: tenant, max_length: 255}"
BANKS = """
tiers:
  banks:
    tenants: ["bank-*"]
    attributes:
      tenant.id: RULE
"""


def policy_with(rule: str, tiers: str = "") -> Policy:
    source = Path(str(files("sidecar.redaction") / "policies" / "default.yaml")).read_text()
    assert source.count(RULE) == 1
    return Policy.parse(source.replace(RULE, f"tenant.id: {rule}") + tiers)


@pytest.mark.parametrize(
    ("rule", "apart"),
    [
        ("{type: string, shape: tenant, max_length: 255}", {"acme": True, JANE: True}),
        ("{type: string, shape: free, max_length: 255}", {"acme": True, JANE: False}),
        ("{action: mask}", {"acme": False, JANE: False}),
        ("{action: drop}", {"acme": False, JANE: False}),
        ("{action: hash}", {"acme": True, JANE: True}),
        ("{action: pseudonymise}", {"acme": True, JANE: True}),
        (
            "{action: truncate, type: string, shape: tenant, max_length: 255, length: 4}",
            {"acme": False, "acme-two": False},
        ),
    ],
)
def test_it_is_known_who_may_be_shown_as_somebody_else_is(rule: str, apart: dict[str, bool]) -> None:
    """One mask for all, or the first letters, may be anybody's."""
    redactor = Redactor(policy_with(rule), KEY)
    assert {tenant: redactor.stands_apart(tenant) for tenant in apart} == apart


def test_a_tier_that_shortens_ids_makes_everybodys_doubtful() -> None:
    """A bank may be shown as somebody is who is none."""
    cut = "{action: truncate, type: string, shape: tenant, max_length: 255, length: 4}"
    redactor = Redactor(policy_with(RULE.partition(": ")[2], BANKS.replace("RULE", cut)), KEY)
    assert redactor.tenant("bank-north") == redactor.tenant("bank") == "bank"
    assert not redactor.stands_apart("bank")
    masking = Redactor(policy_with(RULE.partition(": ")[2], BANKS.replace("RULE", "{action: mask}")), KEY)
    assert [masking.stands_apart(tenant) for tenant in ("acme", "bank-north")] == [True, False]


def test_masks_without_a_key_are_everybodys() -> None:
    """There is no tag to tell them by."""
    assert not Redactor(POLICY).stands_apart(JANE)
    assert Redactor(POLICY).stands_apart("acme")


def test_how_tenants_are_shown_is_remembered_for_some() -> None:
    """Each is shown the same again, and a million of them take no more room than some."""
    redactor = Redactor(POLICY, KEY)
    bob = redactor.tenant(BOB)
    for number in range(MAX_FACES + 10):
        assert redactor.tenant(f"tenant-{number}") == f"tenant-{number}"
    assert len(redactor._faces) <= MAX_FACES
    assert redactor.tenant(BOB) == bob
