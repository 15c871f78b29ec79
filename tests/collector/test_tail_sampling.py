"""Which traces the Collector keeps, and that its span metrics count all of them."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from collector_process import Collector, eventually, running
from sampled_traces import KEPT, NOT_KEPT, arrived, is_calm, trace, trace_id


@pytest.fixture(scope="module")
def sampling(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A Collector that keeps none of the unremarkable traces, and got one of each kind."""
    log = tmp_path_factory.mktemp("sampling") / "log"
    with running(binary, log, SAMPLE_PERCENT="0") as collector:
        for tenant, change in {**NOT_KEPT, **KEPT}.items():
            assert collector.send("traces", trace(tenant, change)) is grpc.StatusCode.OK
        yield collector


@pytest.mark.parametrize("tenant", KEPT)
def test_what_is_remarkable_is_kept_whole(sampling: Collector, tenant: str) -> None:
    """A trace with an error, with a message that waited, or that was slow arrives with all its spans."""
    eventually(lambda: len(arrived(sampling.upstream, tenant)) > 1, f"the trace of {tenant}")
    assert arrived(sampling.upstream, tenant) == [1, 2]


def test_the_rest_is_sampled_and_counted(sampling: Collector) -> None:
    """With a share of nothing, a calm trace does not arrive; the Collector counts what it decided."""
    decided = "otelcol_processor_tail_sampling_global_count_traces_sampled(?:_total)?"
    eventually(lambda: sampling.own(decided) >= len(KEPT) + len(NOT_KEPT), "a decision on every trace")
    for tenant in KEPT:  # decided together with the calm ones
        eventually(lambda tenant=tenant: arrived(sampling.upstream, tenant), f"the trace of {tenant}")
    assert [arrived(sampling.upstream, tenant) for tenant in NOT_KEPT] == [[], []]


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

    assert eventually(ask, "an example") == {trace_id("example").hex()}
