"""What redaction takes, refuses and counts by tenant: whoever is over its quota loses its records, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from otlp_peers import log_request, sum_request, trace_request

from sidecar.conventions import Signal
from sidecar.redaction import Policy, Redacted, Redactor
from sidecar.redaction.policy import shipped_file
from sidecar.senders.debtors import Debtors

TIERS = """
tiers:
  quiet:
    tenants: [initech]
    attributes:
      autogen.agent.type: {action: drop}
"""


def redactor(tmp_path: Path, tiers: bool) -> Redactor:
    """With tiers, the policy itself asks whose each record is."""
    file = tmp_path / "policy.yaml"
    file.write_text(shipped_file("default.yaml").decode() + (TIERS if tiers else ""))
    return Redactor(Policy.load(file))


def requests(signal: Signal, *tenants: str) -> bytes:
    """One record of each tenant."""
    make = {
        "traces": lambda tenant: trace_request(1, tenant=tenant),
        "metrics": lambda tenant: sum_request("autogen.messages", 1, tenant=tenant),
        "logs": lambda tenant: log_request(1, tenant=tenant),
    }[signal]
    return b"".join(make(tenant) for tenant in tenants)


def lost(redacted: Redacted) -> tuple[int, int, dict[str, int]]:
    return redacted.records_in, redacted.records_out, dict(redacted.dropped)


@pytest.mark.parametrize("tiers", [False, True])
@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_only_who_is_over_loses_records(tmp_path: Path, tiers: bool, signal: Signal) -> None:
    """In one request: the others' records pass, and every record is counted."""
    payload = requests(signal, "acme", "globex", "acme", "initech")
    redacted = redactor(tmp_path, tiers).redact(signal, payload, None, Debtors(frozenset({b"acme"})))
    assert lost(redacted) == (4, 2, {"quota": 2})
    assert redacted.refused == {b"acme": 2}
    assert {tenant: records for tenant, (records, _) in redacted.taken.items()} == {b"globex": 1, b"initech": 1}
    assert all(0 < size < len(payload) for _, size in redacted.taken.values())
    assert b"acme" not in redacted.payload


@pytest.mark.parametrize("tiers", [False, True])
def test_nobody_over_changes_nothing(tmp_path: Path, tiers: bool) -> None:
    """What leaves is the same as without quotas."""
    engine, payload = redactor(tmp_path, tiers), requests("traces", "acme", "globex")
    with_quotas, without = (
        engine.redact("traces", payload, None, Debtors(frozenset())),
        engine.redact("traces", payload),
    )
    assert (with_quotas.payload, lost(with_quotas)) == (without.payload, lost(without))
    assert without.taken == without.refused == {}


def test_records_of_nobody_are_of_unknown(tmp_path: Path) -> None:
    """They have an account as everybody has."""
    payload = trace_request(2, tenant="")
    redacted = redactor(tmp_path, False).redact("traces", payload, None, Debtors(frozenset({b"unknown"})))
    assert redacted.refused == {b"unknown": 2}


def test_a_foreign_tenant_is_neither_charged_nor_told_of(tmp_path: Path) -> None:
    """A sender that names a tenant it does not speak for uses nothing up of it, nor learns whether it is over."""
    for over in (frozenset({b"acme"}), frozenset()):
        redacted = redactor(tmp_path, False).redact(
            "traces", requests("traces", "acme", "globex"), frozenset({"globex", ""}), Debtors(over)
        )
        assert redacted.dropped["foreign_tenant"] == 1
        assert b"acme" not in {*redacted.taken, *redacted.refused}


def test_what_is_dropped_for_another_reason_is_not_charged(tmp_path: Path) -> None:
    """A record that cannot leave costs its tenant nothing."""
    broken = trace_request(1).replace(b"acme", b"ac\xffe")
    redacted = redactor(tmp_path, False).redact("traces", broken, None, Debtors(frozenset()))
    assert sum(records for records, _ in redacted.taken.values()) == redacted.records_out
