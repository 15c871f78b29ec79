"""Which traces the Collector keeps, and that its span metrics count all of them."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from collector_process import Collector, eventually, running
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from instrumentation import conventions

SECOND = 1_000_000_000
BEGAN = 1_700_000_000 * SECOND
Change = Callable[[Span], None]


def fails(span: Span) -> None:
    span.status.code = Status.STATUS_CODE_ERROR


def waits(span: Span) -> None:
    span.attributes.add(key=conventions.MESSAGE_QUEUE_DURATION).value.double_value = 0.3


def waits_little(span: Span) -> None:
    span.attributes.add(key=conventions.MESSAGE_QUEUE_DURATION).value.double_value = 0.05


def is_slow(span: Span) -> None:
    span.end_time_unix_nano = span.start_time_unix_nano + 6 * SECOND


def is_calm(span: Span) -> None:
    """Nothing is remarkable about it."""


KEPT: dict[str, Change] = {"fails": fails, "waits": waits, "slow": is_slow}
NOT_KEPT: dict[str, Change] = {"calm": is_calm, "waits-little": waits_little}


def trace(tenant: str, change: Change) -> ExportTraceServiceRequest:
    """Two spans of one trace; what is remarkable is in the second."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in {"service.name": "billing", "service.instance.id": "billing-1"}.items():
        resource.resource.attributes.add(key=key).value.string_value = value
    spans = resource.scope_spans.add().spans
    for number in (1, 2):
        span = spans.add(
            trace_id=tenant.encode().ljust(16, b".")[:16], span_id=bytes([number]) * 8, name="process worker",
            start_time_unix_nano=BEGAN, end_time_unix_nano=BEGAN + SECOND // 100,
        )  # fmt: skip
        span.attributes.add(key=conventions.TENANT_ID).value.string_value = tenant
        span.attributes.add(key=conventions.AGENT_TYPE).value.string_value = "worker"
    change(spans[1])
    return request


@pytest.fixture(scope="module")
def sampling(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A Collector that keeps none of the unremarkable traces, and got one of each kind."""
    log = tmp_path_factory.mktemp("sampling") / "log"
    with running(binary, log, SAMPLE_PERCENT="0") as collector:
        for tenant, change in {**NOT_KEPT, **KEPT}.items():
            assert collector.send("traces", trace(tenant, change)) is grpc.StatusCode.OK
        yield collector


def arrived(collector: Collector, tenant: str) -> list[int]:
    """Which spans of the tenant's trace went on."""
    return sorted(
        span.span_id[0]
        for body in collector.upstream.received["traces"]
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if any(attribute.value.string_value == tenant for attribute in span.attributes)
    )


@pytest.mark.parametrize("tenant", KEPT)
def test_what_is_remarkable_is_kept_whole(sampling: Collector, tenant: str) -> None:
    """A trace with an error, with a message that waited, or that was slow arrives with all its spans."""
    eventually(lambda: len(arrived(sampling, tenant)) > 1, f"the trace of {tenant}")
    assert arrived(sampling, tenant) == [1, 2]


def test_the_rest_is_sampled_and_counted(sampling: Collector) -> None:
    """With a share of nothing, a calm trace does not arrive; the Collector counts what it decided."""
    decided = "otelcol_processor_tail_sampling_global_count_traces_sampled(?:_total)?"
    eventually(lambda: sampling.own(decided) >= len(KEPT) + len(NOT_KEPT), "a decision on every trace")
    for tenant in KEPT:  # decided together with the calm ones
        eventually(lambda tenant=tenant: arrived(sampling, tenant), f"the trace of {tenant}")
    assert [arrived(sampling, tenant) for tenant in NOT_KEPT] == [[], []]


@pytest.mark.parametrize("tenant", [*KEPT, *NOT_KEPT])
def test_span_metrics_count_every_span(sampling: Collector, tenant: str) -> None:
    """By tenant, with job and instance of the application, whether its trace is kept or not."""
    series = rf'^traces_span_metrics_calls_total{{[^}}]*tenant_id="{tenant}"[^}}]*}} .*$'
    lines = eventually(lambda: re.findall(series, sampling.page(), re.MULTILINE), f"span metrics of {tenant}")
    assert all('job="billing"' in line and 'instance="billing-1"' in line for line in lines)
    assert sum(float(line.rsplit(" ", 1)[1]) for line in lines) == 2


def test_span_metrics_name_a_trace_as_example(sampling: Collector) -> None:
    """A scraper that asks for OpenMetrics is given the id of a trace to follow."""
    question = urllib.request.Request(
        f"http://{sampling.prometheus}/metrics", headers={"Accept": "application/openmetrics-text"}
    )

    def ask() -> set[str]:
        sampling.send("traces", trace("example", is_calm))  # examples are of what came since the last flush
        with urllib.request.urlopen(question, timeout=5) as answer:
            return set(re.findall(r'_bucket\{.*# \{.*trace_id="([0-9a-f]{32})"', answer.read().decode()))

    assert eventually(ask, "an example") == {b"example.........".hex()}
