"""Every metric of the table is emitted by an application that does a bit of everything, with what the table says."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from autogen_agentchat.agents import UserProxyAgent
from autogen_apps import Ask, Asked, ask_runtime, replaying, two_agent_team
from autogen_core import EVENT_LOGGER_NAME, AgentId, SingleThreadedAgentRuntime, TopicId
from autogen_core.logging import LLMCallEvent
from autogen_core.memory import ListMemory, MemoryContent, MemoryMimeType
from autogen_core.models import UserMessage
from autogen_ext.models.cache import ChatCompletionCache
from autogen_ext.models.openai import OpenAIChatCompletionClient
from model_servers import running_model_server
from opentelemetry.sdk.metrics.export import (
    Histogram,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from otlp_peers import PATIENCE

from instrumentation import budget, conventions, diagnostics, lifecycle, tenant
from instrumentation.settings import Settings
from instrumentation.telemetry.accumulators import IDLE_NS, MAX_SERIES, Accumulators, gauge_of
from instrumentation.telemetry.export import Exporter
from instrumentation.testing import Captured, _Metrics, _Spans, capture


def lookup() -> str:
    """A tool."""
    raise ValueError("s3cr3t")


async def hold(who: str) -> None:
    """Have the loop for 10 ms, five times over, with others waiting meanwhile."""
    with tenant(who):
        for _ in range(5):
            await asyncio.sleep(0)
            time.sleep(0.01)


async def model_calls() -> None:
    """A stream, a rate limit, a retry, an answer out of a cache, and a call that only the event logger knows."""
    with running_model_server() as server:
        client = OpenAIChatCompletionClient(model="gpt-4o", api_key="x", base_url=f"{server.url}/v1")
        server.failures.append(429)
        ask = [UserMessage(content="x", source="user")]
        cache = ChatCompletionCache(client)
        async for _ in client.create_stream(ask, include_usage=True):
            pass
        for _ in range(2):
            await cache.create(ask)
        await client.close()
    usage = {"cache_creation_input_tokens": 3}
    events = logging.getLogger(EVENT_LOGGER_NAME)
    events.info(LLMCallEvent(messages=[], response={"usage": usage}, prompt_tokens=1, completion_tokens=1))


async def a_bit_of_everything() -> SingleThreadedAgentRuntime:
    """Two tenants: messages, a failing tool, model calls, a shared agent, and slices long enough to wait for."""
    watched = lifecycle.running()
    assert watched is not None
    loops = watched.loops
    runtime = await ask_runtime(asked=Asked)
    runtime.start()
    for who in ("acme", "globex"):
        with tenant(who), budget(turn=1e-9):
            await runtime.send_message(Ask("x"), AgentId("asked", "shared"))
    with tenant("acme"):
        await two_agent_team(lookup).run(task="go")
        user = UserProxyAgent("user", input_func=lambda _: "x")
        await user.run(task="go")
        await user.save_state()
        await replaying("answer").create([UserMessage(content="x", source="user")])
        await model_calls()
        memory = ListMemory(memory_contents=[MemoryContent(content="x", mime_type=MemoryMimeType.TEXT)])
        await memory.query("x")
    await asyncio.gather(hold("acme"), hold("globex"))
    while not any(loops.totals().delay.counts):  # until the loop's heartbeat has measured the loop's own delay
        await asyncio.sleep(0.01)
    waiting = asyncio.ensure_future(runtime.send_message(Ask("x"), AgentId("asked", "shared")))
    await asyncio.sleep(0)
    waiting.cancel()
    await runtime.stop_when_idle()
    await runtime.publish_message(Ask("x"), TopicId("default", "nobody"))
    return runtime  # its queue and its agents are counted while it lives


@pytest.mark.parametrize("latest", [False, True], ids=["deployed", "latest"])
def test_every_metric_of_the_table_is_emitted(latest: bool) -> None:
    """Kind, unit, monotonicity and attribute names are the table's; no metric is emitted that the table lacks. Of the
    GenAI metrics only those of the one edition of the conventions."""
    diagnostics.count("export.queue_full")
    with capture(latest_conventions=latest) as captured:
        runtime = asyncio.run(a_bit_of_everything())
        captured.spans()
        data: MetricsData | None = lifecycle.running().metrics()  # type: ignore[union-attr]
    assert data is not None
    assert runtime.unprocessed_messages_count == 1
    emitted = {m.name: m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    others = conventions.DEPLOYED_METRICS if latest else conventions.LATEST_METRICS
    # A server of the Model Context Protocol and a distributed runtime are more than this application has: their metrics
    # are tested where they are, in tests/tools and tests/distributed.
    elsewhere = (conventions.MCP_DURATION, conventions.AWAITED)
    table = [m for m in conventions.METRICS if m not in (*others, *elsewhere)]
    assert set(emitted) == {metric.name for metric in table}
    for metric in table:
        found = emitted[metric.name]
        assert found.unit == metric.unit
        assert isinstance(found.data, Histogram) == (metric.kind == "histogram")
        assert isinstance(found.data, Sum) == (metric.kind == "counter")
        if isinstance(found.data, Sum):
            assert found.data.is_monotonic
        for point in found.data.data_points:
            assert set(point.attributes or {}) <= set(metric.attributes)


def test_loop_time_adds_up(captured: Captured) -> None:
    """The active share of the tenants and the idle share are the loop's whole time; tenants' own time is the same."""
    asyncio.run(a_bit_of_everything())
    whole = captured.points("asyncio.eventloop.time")
    active = {
        a["tenant.id"]: p.value for p in whole if (a := p.attributes or {})["asyncio.eventloop.state"] == "active"
    }  # type: ignore[union-attr]
    own = {(p.attributes or {})["tenant.id"]: p.value for p in captured.points("autogen.tenant.loop.time")}  # type: ignore[union-attr]
    assert active == pytest.approx(own)
    assert active["acme"] >= 0.05  # type: ignore[operator]
    assert active["globex"] >= 0.05  # type: ignore[operator]


def test_series_are_bounded() -> None:
    """Attribute values that never end go to one series of their tenant; the sum stays right."""
    accumulators = Accumulators()
    with accumulators.lock:
        for n in range(MAX_SERIES + 500):
            accumulators.of(conventions.ERRORS).add(("acme", "process", f"Error{n}"), 1)
            accumulators.of(conventions.PROCESS_DURATION).record(("acme", f"agent{n}"), 0.1)
    for metric in accumulators.collect(1):
        points = list(metric.data.data_points)
        assert len(points) == MAX_SERIES + 1
        assert sum(getattr(p, "value", 0) or getattr(p, "count", 0) for p in points) == MAX_SERIES + 500
        assert dict(points[-1].attributes or {}) == {"tenant.id": "acme"}


def test_a_series_that_nothing_is_added_to_ends() -> None:
    """A quarter of an hour without a change: it is not sent any more, and leaves room. When its tenant comes back it
    begins again, at that time. A level that is not down to nothing stays; so does what others go on adding to."""
    now = 1_000
    accumulators = Accumulators(lambda: now)

    def add(tenant: str) -> None:
        with accumulators.lock:
            accumulators.of(conventions.ERRORS).add((tenant, "process", "ValueError"), 1)
            accumulators.of(conventions.QUEUE_DURATION).record((tenant,), 0.0)

    def sent() -> dict[str, dict[str, tuple[int | None, float]]]:
        return {
            metric.name: {
                str((p.attributes or {})["tenant.id"]): (
                    p.start_time_unix_nano,
                    getattr(p, "value", getattr(p, "count", 0)),
                )
                for p in metric.data.data_points
            }
            for metric in accumulators.collect(now)
        }

    with accumulators.lock:
        accumulators.of(conventions.ABANDONED).add(("idle",), 1)
        accumulators.of(conventions.ABANDONED).add(("done",), 1)
        accumulators.of(conventions.ABANDONED).add(("done",), -1)
    add("idle")
    add("busy")
    assert sent()["autogen.errors"] == {"idle": (1_000, 1), "busy": (1_000, 1)}
    now += IDLE_NS - 1
    add("busy")
    assert set(sent()["autogen.message.queue.duration"]) == {"idle", "busy"}
    now += 1
    assert sent() == {
        "autogen.errors": {"busy": (1_000, 2)},
        "autogen.message.queue.duration": {"busy": (1_000, 2)},
        "autogen.handlers.abandoned": {"idle": (now, 1)},
    }
    add("idle")
    assert sent()["autogen.errors"] == {"busy": (1_000, 2), "idle": (now, 1)}
    assert sent()["autogen.message.queue.duration"]["idle"] == (now, 1)


def test_what_has_not_arrived_does_not_end() -> None:
    """The sidecar is away for more than a quarter of an hour: a tenant who has gone meanwhile is told of once more."""

    class Sidecar(_Metrics):
        answers = True

        def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: object) -> MetricExportResult:
            arrived = super().export(metrics_data)
            return arrived if self.answers else MetricExportResult.FAILURE

        def told(self) -> set[str]:
            assert self.last is not None
            return {metric.name for scope in self.last.resource_metrics[0].scope_metrics for metric in scope.metrics}

    now, sidecar = 1_000, Sidecar()
    accumulators = Accumulators(lambda: now)

    def collect() -> MetricsData:
        found = [gauge_of(conventions.ACTIVE_TENANTS, now, []), *accumulators.collect(now, exporter.metrics_delivered)]
        scope = ScopeMetrics(InstrumentationScope("test"), found, "")
        return MetricsData([ResourceMetrics(Resource({}), [scope], "")])

    exporter = Exporter(Settings(), lambda: (_Spans(), sidecar), collect)
    exporter.start()
    try:
        assert exporter.flush(PATIENCE)
        sidecar.answers = False
        with accumulators.lock:
            accumulators.of(conventions.ERRORS).add(("acme", "process", "ValueError"), 1)
        assert exporter.flush(PATIENCE)
        now += 2 * IDLE_NS
        assert exporter.flush(PATIENCE)
        sidecar.answers = True
        assert exporter.flush(PATIENCE)
        assert "autogen.errors" in sidecar.told()
        assert exporter.flush(PATIENCE)
        assert "autogen.errors" not in sidecar.told()
    finally:
        exporter.stop(PATIENCE)


def test_active_tenants_are_those_of_the_last_interval(captured: Captured) -> None:
    """Two work, then one of them: two, then one, then none. Work without a tenant is nobody's."""

    async def work(*tenants: str) -> None:
        for who in tenants:
            with tenant(who):
                await asyncio.sleep(0)

    def active() -> list[float]:
        return [
            point.value for point in captured.points("autogen.tenants.active") if isinstance(point, NumberDataPoint)
        ]

    asyncio.run(work("acme", "globex"))
    assert active() == [2]
    asyncio.run(work("globex"))
    assert active() == [1]
    asyncio.run(work())
    assert active() == [0]
