"""A client speaks for its tenants alone: what it says of another is refused, wherever it says it, and counted."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from sidecar.conventions import POLICIES, SIGNALS, Signal
from sidecar.network.otlp import SERVICES
from sidecar.redaction import Policy, Redactor
from sidecar.senders.clients import NOBODY, Client

PARTNER = Client("partner", frozenset({"globex", "initech"}))
KINDS = [kind.name for kind in Metric.DESCRIPTOR.oneofs_by_name["data"].fields]
REDACTORS = {name: Redactor(Policy.load(name)) for name in POLICIES}


def says(message: Any, tenant: object) -> None:
    """Let a message name a tenant."""
    value = message.attributes.add(key="tenant.id").value
    if isinstance(tenant, str):
        value.string_value = tenant
    elif isinstance(tenant, int):
        value.int_value = tenant
    else:
        value.array_value.values.add(string_value="globex")


def records(signal: Signal, tenants: list[Any], kind: str = "sum") -> tuple[Any, list[Any]]:
    """A request, and its records, one for each tenant."""
    request: Any = SERVICES[signal].request()
    if signal == "traces":
        group = request.resource_spans.add()
        scope = group.scope_spans.add()
        made = [scope.spans.add(name="chat m", trace_id=b"t" * 16, span_id=b"s" * 8) for _ in tenants]
    elif signal == "logs":
        group = request.resource_logs.add()
        scope = group.scope_logs.add()
        made = [scope.log_records.add(time_unix_nano=1) for _ in tenants]
    else:
        group = request.resource_metrics.add()
        metric = group.scope_metrics.add().metrics.add(name="autogen.messages")
        made = [getattr(metric, kind).data_points.add(time_unix_nano=1) for _ in tenants]
    for record, tenant in zip(made, tenants, strict=True):
        if tenant is not None:
            says(record, tenant)
    return request, made


def redact(signal: Signal, request: Message, policy: str = "default") -> Any:
    return REDACTORS[policy].redact(signal, request.SerializeToString(), PARTNER.nameable)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("signal", SIGNALS)
def test_a_record_of_another_tenant_is_refused_alone(signal: Signal, policy: str) -> None:
    """Those of the client's own tenants, and those of nobody, pass beside it."""
    request, _ = records(signal, ["globex", "acme", "initech", "unknown", "other", None])
    done = redact(signal, request, policy)
    assert (done.records_in, done.records_out, done.dropped) == (6, 5, {"foreign_tenant": 1})
    assert b"acme" not in done.payload


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_point_is_looked_at(kind: str) -> None:
    """Each has its attributes elsewhere."""
    request, _ = records("metrics", ["acme", "globex"], kind)
    assert redact("metrics", request).dropped == {"foreign_tenant": 1}


@given(
    st.sampled_from(SIGNALS),
    st.lists(st.sampled_from(["globex", "initech", "acme", "Globex", "globex ", "unknown", "other", "", None])),
)
def test_what_passes_is_what_the_client_speaks_for(signal: Signal, tenants: list[str | None]) -> None:
    """Whatever the order: as many are refused as name a tenant that is not the client's."""
    request, _ = records(signal, tenants)
    foreign = [t for t in tenants if t is not None and t not in {"globex", "initech"} | NOBODY]
    done = redact(signal, request)
    assert done.dropped.get("foreign_tenant", 0) == len(foreign)
    assert done.records_in == len(tenants)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("second", ["acme", "globex"])
def test_a_second_name_does_not_hide_behind_the_first(signal: Signal, second: str) -> None:
    """Readers differ in which of two attributes counts: both must be the client's."""
    request, (record,) = records(signal, ["globex"])
    says(record, second)
    done = redact(signal, request)
    if second == "acme":
        assert done.dropped == {"foreign_tenant": 1}
    assert b"acme" not in done.payload


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_tenant_that_is_no_text_is_nobody_the_client_speaks_for(signal: Signal) -> None:
    """A number or a list may be read as a name by somebody later."""
    request, _ = records(signal, [42, []])
    assert redact(signal, request).dropped == {"foreign_tenant": 2}


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_resource_cannot_speak_for_another_tenant(signal: Signal) -> None:
    """Its attributes count for every record below, so the resource does not leave; the records do, as nobody's."""
    request, _ = records(signal, [None])
    group = request.ListFields()[0][1][0]
    says(group.resource, "acme")
    group.resource.attributes.add(key="service.name").value.string_value = "x"
    done = redact(signal, request)
    assert b"acme" not in done.payload
    assert done.records_out == 1
    assert sum(count for (_, reason), count in done.actions.items() if reason == "foreign_tenant") == 1


def test_who_speaks_for_all_is_not_asked() -> None:
    """Without a scope, every tenant passes."""
    request, _ = records("traces", ["acme", "globex"])
    assert REDACTORS["default"].redact("traces", request.SerializeToString()).records_out == 2


@pytest.mark.parametrize("signal", SIGNALS)
def test_what_another_sender_may_name_says_nothing_for_this_one(signal: Signal) -> None:
    """That a tenant was seen before, by whoever may name it, opens no door: not for records, nor for resources."""
    redactor = Redactor(Policy.default())
    request, _ = records(signal, ["acme", "acme"])
    says(request.ListFields()[0][1][0].resource, "acme")
    payload = request.SerializeToString()
    for _ in range(2):
        assert redactor.redact(signal, payload).records_out == 2
        scoped = redactor.redact(signal, payload, PARTNER.nameable)
        assert scoped.dropped == {"foreign_tenant": 2}
        assert b"acme" not in scoped.payload
