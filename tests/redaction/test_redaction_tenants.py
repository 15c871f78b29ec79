"""Tenants whose ids are masked stay apart, and nobody without the key can tell who is who."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from otlp_peers import sum_request

from sidecar.redaction import MasterKey, Policy, Pseudonyms, Redactor

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
