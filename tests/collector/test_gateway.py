"""The two tiers of deploy/gateway, as real processes: nothing is lost or split between them, nothing private passes."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from collector_process import CONFIG, Collector, Upstream, eventually, free_ports, started
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from otlp_leaves import survivors, value_of_allowed_key
from otlp_peers import log_request, sum_request
from required import ROOT
from sampled_traces import KEPT, NOT_KEPT, arrived, halves, is_calm, trace

GATEWAY = ROOT / "deploy/gateway"
COMMON, BALANCER, SAMPLER, TENANTS = (GATEWAY / f"{name}.yaml" for name in ("common", "balancer", "sampler", "tenants"))
TRACES = [f"trace-{number}" for number in range(24)]


@dataclass(frozen=True)
class Gateway:
    """Both tiers: whatever is sent to the balancer ends at one of the samplers, each with a store of its own."""

    balancer: Collector
    samplers: list[Collector]

    def stores(self, tenant: str) -> list[list[int]]:
        """Which spans of the tenant's trace are in each store."""
        return [arrived(sampler.upstream, tenant) for sampler in self.samplers]


@pytest.fixture(scope="module")
def gateway(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One balancer, two samplers that keep none of the unremarkable traces."""
    folder = tmp_path_factory.mktemp("gateway")
    with ExitStack() as parts:
        samplers = [
            parts.enter_context(
                started(
                    binary,
                    folder / f"sampler-{number}",
                    parts.enter_context(Upstream()),
                    configs=(COMMON, SAMPLER),
                    SAMPLE_PERCENT="0",
                )
            )
            for number in (1, 2)
        ]
        balancer = parts.enter_context(
            started(
                binary,
                folder / "balancer",
                parts.enter_context(Upstream()),
                configs=(COMMON, BALANCER),
                SAMPLERS=json.dumps([sampler.otlp for sampler in samplers]),
            )
        )
        yield Gateway(balancer, samplers)


def test_the_spans_of_a_trace_meet_at_one_sampler(gateway: Gateway) -> None:
    """Whoever sent them and when; and both samplers have work."""
    for half in (0, 1):
        for tenant in TRACES:
            assert gateway.balancer.send("traces", halves(tenant, KEPT["fails"])[half]) is grpc.StatusCode.OK
    for tenant in TRACES:
        eventually(lambda tenant=tenant: [1, 2] in gateway.stores(tenant), f"the trace of {tenant}")
        assert sorted(gateway.stores(tenant)) == [[], [1, 2]]
    assert all(any(arrived(sampler.upstream, tenant) for tenant in TRACES) for sampler in gateway.samplers)


def test_the_remarkable_is_kept_and_the_rest_is_not(gateway: Gateway) -> None:
    """Judged by all spans of a trace, though they came one by one; what is not kept is decided on, too."""
    before = sum(decided(sampler) for sampler in gateway.samplers)
    for tenant, change in {**NOT_KEPT, **KEPT}.items():
        for half in halves(tenant, change):
            assert gateway.balancer.send("traces", half) is grpc.StatusCode.OK
    wanted = before + len(KEPT) + len(NOT_KEPT)
    eventually(lambda: sum(decided(sampler) for sampler in gateway.samplers) >= wanted, "a decision on every trace")
    for tenant in KEPT:
        eventually(lambda tenant=tenant: [1, 2] in gateway.stores(tenant), f"the trace of {tenant}")
    assert [gateway.stores(tenant) for tenant in NOT_KEPT] == [[[], []], [[], []]]


def decided(sampler: Collector) -> float:
    """On how many traces."""
    return sampler.own("otelcol_processor_tail_sampling_global_count_traces_sampled(?:_total)?")


def test_metrics_of_a_process_are_on_one_page(gateway: Gateway) -> None:
    """One writer a series, with the time of its point; both samplers have some, and both stores get what they show."""
    instances = [f"i-{number}" for number in range(16)]
    for instance in instances:
        body = ExportMetricsServiceRequest.FromString(
            sum_request("autogen.messages", 7, instance=instance, time=1_700_000_000_000_000_000)
        )
        assert gateway.balancer.send("metrics", body) is grpc.StatusCode.OK
    series = r'^autogen_messages_total{instance="(%s)",job="billing",tenant_id="acme"} 7 1700000000000$'
    found: list[list[str]] = []

    def all_there() -> bool:
        found[:] = [re.findall(series % "i-[0-9]+", sampler.page(), re.MULTILINE) for sampler in gateway.samplers]
        return sorted(itertools.chain(*found)) == sorted(instances)

    eventually(all_there, "every series on exactly one page")
    assert all(found)
    for sampler, shown in zip(gateway.samplers, found, strict=True):
        for instance in shown:
            sampler.upstream.wait_for("metrics", instance.encode())


def test_logs_arrive(gateway: Gateway) -> None:
    """The third signal."""
    body = ExportLogsServiceRequest.FromString(log_request(2, "logged"))
    assert gateway.balancer.send("logs", body) is grpc.StatusCode.OK
    eventually(lambda: any(b"logged" in s.upstream.everything() for s in gateway.samplers), "the log records")


def test_span_metrics_count_every_span_once(gateway: Gateway) -> None:
    """Over both pages, also of traces that were not kept; the writers are told apart."""
    for number in range(8):
        for half in halves(f"measured-{number}", is_calm):
            for span in half.resource_spans[0].scope_spans[0].spans:
                next(a for a in span.attributes if a.key == "tenant.id").value.string_value = "measured"
            gateway.balancer.send("traces", half)
    labels = '[^}]*collector_instance_id="([^"]+)"[^}]*tenant_id="measured"[^}]*'
    series = rf"^traces_span_metrics_calls_total{{{labels}}} (\S+) [0-9]+$"

    def counted() -> list[tuple[str, str]]:
        return [found for s in gateway.samplers for found in re.findall(series, s.page(), re.MULTILINE)]

    eventually(lambda: sum(float(value) for _, value in counted()) == 16, "16 spans")
    assert len({writer for writer, _ in counted()}) == 2


def test_nothing_private_leaves_the_first_tier(binary: Path, tmp_path: Path) -> None:
    """A canary in every field that OTLP has, past a sidecar that failed: seen in what a sampler would be sent."""
    with (
        Upstream() as sampler,
        started(
            binary,
            tmp_path / "balancer",
            sampler,
            configs=(COMMON, BALANCER),
            SAMPLERS=json.dumps([f"127.0.0.1:{sampler.port}"]),
        ) as balancer,
    ):
        singing = survivors(balancer, "secret", lambda n: f"canary-{n}-x@leak.example")
    assert {leaf for leaf in singing if not value_of_allowed_key(leaf, "bytes_value")} == set()


def test_what_came_while_a_sampler_was_down_arrives_when_it_is_back(binary: Path, tmp_path: Path) -> None:
    """It waits in the balancer's queue, on disk, and goes to the same sampler."""
    (port,) = free_ports(1)
    with (
        Upstream() as store,
        started(
            binary,
            tmp_path / "balancer",
            store,
            configs=(COMMON, BALANCER),
            SAMPLERS=json.dumps([f"127.0.0.1:{port}"]),
        ) as balancer,
    ):
        assert balancer.send("traces", trace("patient", KEPT["fails"])) is grpc.StatusCode.OK
        eventually(lambda: balancer.own("otelcol_exporter_queue_size") > 0, "the trace waits")
        listen = f"127.0.0.1:{port}"
        with started(binary, tmp_path / "sampler", store, configs=(COMMON, SAMPLER), LISTEN=listen):
            eventually(lambda: arrived(store, "patient") == [1, 2], "the trace of patient")


@pytest.mark.parametrize("base", [(COMMON, SAMPLER), (CONFIG,)], ids=["sampler", "collector"])
def test_a_tenants_telemetry_goes_to_the_tenants_store(binary: Path, tmp_path: Path, base: tuple[Path, ...]) -> None:
    """All signals, out of batches of many tenants; everybody else's, and what has no tenant, goes to the other one."""
    with (
        Upstream() as everybody,
        Upstream() as own,
        started(
            binary,
            tmp_path / "sampler",
            everybody,
            configs=(*base, TENANTS),
            APART='"acme", "globex"',
            APART_UPSTREAM=f"127.0.0.1:{own.port}",
        ) as sampler,
    ):
        traces = ExportTraceServiceRequest()
        for tenant in ("acme", "initech", "globex", "acme-2"):
            traces.MergeFrom(trace(tenant, is_calm))
        nobody = traces.resource_spans[0].scope_spans[0].spans.add()
        nobody.CopyFrom(traces.resource_spans[0].scope_spans[0].spans[0])
        nobody.span_id, nobody.name = b"nobody..", "process worker"
        del nobody.attributes[0]
        assert sampler.send("traces", traces) is grpc.StatusCode.OK
        metrics, logs = ExportMetricsServiceRequest(), ExportLogsServiceRequest()
        for tenant in ("acme", "initech"):
            metrics.MergeFromString(sum_request("autogen.messages", 7, tenant))
            logs.MergeFromString(log_request(1, tenant))
        assert sampler.send("metrics", metrics) is grpc.StatusCode.OK
        assert sampler.send("logs", logs) is grpc.StatusCode.OK
        for signal in ("traces", "metrics", "logs"):
            own.wait_for(signal, b"acme")
            everybody.wait_for(signal, b"initech")
        own.wait_for("traces", b"globex")
        everybody.wait_for("traces", b"acme-2")
        everybody.wait_for("traces", b"nobody..")
        eventually(lambda: 'tenant_id="acme"' in sampler.page(), "the page shows every tenant")
    assert b"initech" not in own.everything()
    assert b"nobody.." not in own.everything()
    assert b"acme-2" not in own.everything()
    assert [arrived(everybody, tenant) for tenant in ("acme", "globex")] == [[], []]
    assert b"acme" not in b"".join(everybody.received["metrics"] + everybody.received["logs"])


COMMANDS = sorted(
    {
        found
        for path in GATEWAY.glob("*.yaml")
        for found in re.findall(r"^#   otelcol-tenantscope (--config .*)$", path.read_text(), re.MULTILINE)
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_comments_is_valid(binary: Path, command: str) -> None:
    """The Collector takes these files together, with their defaults."""
    done = subprocess.run([binary, "validate", *command.split()], cwd=GATEWAY, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_comments_name_every_file() -> None:
    """A tier that nobody says how to start is not tried here."""
    assert {word for command in COMMANDS for word in command.split()} - {"--config"} == {
        path.name for path in GATEWAY.glob("*.yaml")
    }
