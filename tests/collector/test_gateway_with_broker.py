"""The gateway with a real Kafka between its tiers: traces stay whole, and nothing private gets past either tier."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import required
from collector_process import DEADLINE, Collector, Upstream, eventually, free_ports, started
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from otlp_peers import log_request, sum_request
from required import ROOT
from sampled_traces import KEPT, NOT_KEPT, Change, arrived, halves

GATEWAY = ROOT / "deploy/gateway"
BALANCER = tuple(GATEWAY / f"{name}.yaml" for name in ("common", "balancer", "balancer-kafka"))
SAMPLER = tuple(GATEWAY / f"{name}.yaml" for name in ("common", "sampler", "sampler-kafka"))
PARTITIONS = 4
SERVER = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
log.dirs={folder}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""
# A remarkable trace for each of them: enough that both samplers have some of them.
REMARKABLE: dict[str, Change] = {f"{name}-{number}": change for number in range(6) for name, change in KEPT.items()}


@dataclass(frozen=True)
class Broker:
    """A running Kafka."""

    java: list[str]
    address: str

    def tool(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """One of Kafka's own commands, at work."""
        command = [*self.java, f"org.apache.kafka.tools.{name}", "--bootstrap-server", self.address, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def kafka() -> list[str]:
    """How to run a class of Kafka's; skips without it, or fails when REQUIRE_KAFKA is 1."""
    jars = required.made("tests.collector.broker.fetch", variable="REQUIRE_KAFKA", target="broker")
    java = required.program("java", variable="REQUIRE_KAFKA", package="default-jre-headless")
    return [java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]


@contextmanager
def running_broker(java: list[str], folder: Path) -> Iterator[Broker]:
    """Kafka with the gateway's topics, for a while."""
    port, controller = free_ports(2)
    properties = folder / "server.properties"
    properties.write_text(SERVER.format(port=port, controller=controller, folder=folder / "data"))
    form = [*java, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(properties)]
    subprocess.run(form, check=True, capture_output=True)
    with (folder / "kafka.log").open("wb") as output:
        server = subprocess.Popen([*java, "kafka.Kafka", str(properties)], stdout=output, stderr=subprocess.STDOUT)
    try:
        broker = Broker(java, f"127.0.0.1:{port}")
        made = [
            broker.tool("TopicCommand", "--create", "--topic", f"tenantscope.{signal}", "--partitions", str(PARTITIONS))
            for signal in ("traces", "metrics", "logs")
        ]
        for each in made:  # it waits until the broker answers
            output_of, _ = each.communicate(timeout=3 * DEADLINE)
            assert each.returncode == 0, output_of.decode()[-2000:]
        yield broker
    finally:
        server.terminate()
        server.wait(DEADLINE)


@pytest.fixture(scope="module")
def tiers(
    binary: Path, kafka: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Broker, Collector, list[Collector]]]:
    """A broker, one balancer, two samplers that keep none of the unremarkable traces."""
    folder = tmp_path_factory.mktemp("broker")
    with ExitStack() as parts:
        broker = parts.enter_context(running_broker(kafka, folder))
        brokers = json.dumps([broker.address])
        samplers = [
            parts.enter_context(
                started(
                    binary, folder / name, parts.enter_context(Upstream()), configs=SAMPLER,
                    BROKERS=brokers, INSTANCE=name, SAMPLE_PERCENT="0", DECISION_WAIT="3s",
                )
            )
            for name in ("sampler-0", "sampler-1")
        ]  # fmt: skip
        balancer = parts.enter_context(
            started(binary, folder / "balancer", parts.enter_context(Upstream()), configs=BALANCER, BROKERS=brokers)
        )
        for sampler in samplers:
            eventually(lambda sampler=sampler: partitions(sampler) == 3 * PARTITIONS / 2, "half of all partitions", 60)
        yield broker, balancer, samplers


def partitions(sampler: Collector) -> float:
    """How many it reads at the moment, of all topics."""
    opened, closed = (sampler.own(f"otelcol_kafka_receiver_partition_{what}(?:_total)?") for what in ("start", "close"))
    return opened - closed


def test_traces_are_whole_behind_the_broker(tiers: tuple[Broker, Collector, list[Collector]]) -> None:
    """The spans of a trace meet at one sampler; what is kept is kept whole, the rest is not kept; both have work."""
    _, balancer, samplers = tiers
    everything = {**REMARKABLE, **NOT_KEPT}
    for half in (0, 1):
        for tenant, change in everything.items():
            assert balancer.send("traces", halves(tenant, change)[half]) is grpc.StatusCode.OK
    decided = "otelcol_processor_tail_sampling_global_count_traces_sampled(?:_total)?"
    eventually(lambda: sum(s.own(decided) for s in samplers) >= len(everything), "a decision on every trace", 60)

    def stores(tenant: str) -> list[list[int]]:
        return sorted(arrived(sampler.upstream, tenant) for sampler in samplers)

    for tenant in REMARKABLE:
        eventually(lambda tenant=tenant: stores(tenant) == [[], [1, 2]], f"the trace of {tenant}")
    assert [stores(tenant) for tenant in NOT_KEPT] == [[[], []]] * len(NOT_KEPT)
    assert all(any(arrived(sampler.upstream, tenant) for tenant in REMARKABLE) for sampler in samplers)


def test_metrics_and_logs_pass_the_broker(tiers: tuple[Broker, Collector, list[Collector]]) -> None:
    """The other two signals; a process's series on one page."""
    _, balancer, samplers = tiers
    instances = [f"i-{number}" for number in range(8)]
    for instance in instances:
        body = sum_request("autogen.messages", 7, instance=instance, time=1_700_000_000_000_000_000)
        assert balancer.send("metrics", ExportMetricsServiceRequest.FromString(body)) is grpc.StatusCode.OK
    logs = ExportLogsServiceRequest.FromString(log_request(2, "logged"))
    assert balancer.send("logs", logs) is grpc.StatusCode.OK

    def shown() -> list[str]:
        series = r'^autogen_messages_total{instance="(i-[0-9]+)"'
        return sorted(each for s in samplers for each in re.findall(series, s.page(), re.MULTILINE))

    eventually(lambda: shown() == sorted(instances), "every series on exactly one page")
    eventually(lambda: any(b"logged" in s.upstream.everything() for s in samplers), "the log records")


def test_who_writes_to_a_topic_gets_nothing_private_through(
    tiers: tuple[Broker, Collector, list[Collector]], binary: Path, tmp_path: Path
) -> None:
    """A request that never saw a balancer is cleaned by the sampler."""
    broker, _, samplers = tiers
    with (
        Upstream() as nowhere,
        started(
            binary, tmp_path / "intruder", nowhere, "--config=yaml:service::pipelines::traces::processors: []",
            configs=BALANCER, BROKERS=json.dumps([broker.address]),
        ) as intruder,
    ):  # fmt: skip
        for half in halves("intruder", KEPT["fails"]):
            span = half.resource_spans[0].scope_spans[0].spans[0]
            span.status.message = "canary-of-an-intruder"
            span.attributes.add(key="prompt").value.string_value = "canary-of-an-intruder"
            assert intruder.send("traces", half) is grpc.StatusCode.OK
        eventually(lambda: any(arrived(s.upstream, "intruder") == [1, 2] for s in samplers), "the intruder's spans")
    assert all(b"canary-of-an-intruder" not in sampler.upstream.everything() for sampler in samplers)
