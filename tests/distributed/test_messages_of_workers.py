"""What becomes of the messages of a distributed runtime, one by one: spans, figures, errors, loop time, budgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from autogen_apps import Ask, Note
from autogen_core import AgentId, MessageContext, RoutedAgent, TopicId, TypeSubscription, message_handler
from autogen_core._serialization import try_get_known_serializers_for_type
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime
from grid import PATIENCE, TOPIC, Desk, eventually, hosting, working
from opentelemetry import context as otel
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from instrumentation import budget, diagnostics, lifecycle, tenant
from instrumentation.testing import Captured, capture
from sidecar.wire import limits

BACK = AgentId("back", "k")
Scene = Callable[[Any, Any], Awaitable[Any]]


@dataclass
class Odd:
    """An answer that no worker knows how to write."""


class Oddity(RoutedAgent):
    """Answers oddly."""

    def __init__(self) -> None:
        super().__init__("oddity")

    @message_handler
    async def on_ask(self, message: Ask, ctx: MessageContext) -> Odd:
        return Odd()


def attributes(span: Any) -> dict[str, Any]:
    return dict(span.attributes or {})


def figures(captured: Captured, metric: str) -> dict[tuple[str, ...], float]:
    """Values (of a histogram: counts) by the values of the attributes, in alphabetical order of their names."""
    return {
        tuple(str(v) for _, v in sorted((point.attributes or {}).items())): getattr(point, "value", None)
        or getattr(point, "count", 0)
        for point in captured.points(metric)
    }


def faults() -> list[str]:
    return [reason for reason in diagnostics.counts() if reason.startswith("fault.")]


def play(scene: Scene, back: Callable[[], RoutedAgent] = Desk, front: Callable[[], RoutedAgent] = Desk) -> Any:
    """What `scene` returns; it gets two workers, the first with an agent `front`, the second with `back`."""

    async def main() -> Any:
        async with hosting() as address, working(address, front=front) as first, working(address, back=back) as second:
            return await scene(first, second)

    return asyncio.run(asyncio.wait_for(main(), PATIENCE))


async def refuses(_: str) -> None:
    raise LookupError("s3cr3t")


def test_what_a_span_says(captured: Captured) -> None:
    """Tenant, types of agent, message and sender, kind, time on the way, outcome; one span a message, nothing else."""

    async def scene(first: Any, _: Any) -> Any:
        with tenant("acme"):
            await first.send_message(Ask("s3cr3t"), AgentId("front", "s3cr3t"))
        return figures(captured, "autogen.agents")  # as long as there are workers that keep them

    before = faults()
    assert play(scene, front=lambda: Desk(deeper=BACK)) == {("front", "acme"): 1, ("back", "acme"): 1}
    spans = captured.spans()
    assert sorted(span.name for span in spans) == [
        "create_agent back", "create_agent front", "process back", "process front",
    ]  # fmt: skip
    about = attributes(next(span for span in spans if span.name == "process back"))
    assert 0 <= about.pop("autogen.message.queue.duration") < PATIENCE
    assert about == {
        "tenant.id": "acme",
        "autogen.agent.type": "back",
        "autogen.message.type": "Ask",
        "autogen.message.kind": "send",
        "autogen.message.sender": "front",
        "autogen.message.outcome": "ok",
    }
    assert figures(captured, "autogen.messages") == {("ok", "acme"): 2}
    assert figures(captured, "autogen.message.queue.duration") == {("acme",): 2}
    assert figures(captured, "autogen.message.response.duration") == {("acme",): 2}
    assert faults() == before


def test_an_event_has_a_span_for_each_subscriber(captured: Captured) -> None:
    """Two subscribers in two processes, one of which fails, which AutoGen only logs: a span each, with its outcome."""

    async def scene(first: Any, _: Any) -> None:
        with tenant("acme"):
            await first.publish_message(Note("x"), TOPIC)
        await eventually(lambda: sum(figures(captured, "autogen.messages").values()) == 2)

    play(scene, back=lambda: Desk(work=refuses))
    spans = {span.name: attributes(span) for span in captured.spans() if span.name.startswith("process")}
    assert {name: span["autogen.message.outcome"] for name, span in spans.items()} == {
        "process front": "ok", "process back": "error",
    }  # fmt: skip
    assert {span["autogen.message.kind"] for span in spans.values()} == {"publish"}
    assert not any("autogen.message.sender" in span for span in spans.values())  # the application itself
    assert figures(captured, "autogen.errors") == {("process", "LookupError", "acme"): 1}


def test_an_exception_comes_back_as_autogen_has_it(captured: Captured) -> None:
    """The caller gets an `Exception` with the text; the span has the class of what was raised, and not its text."""

    async def scene(first: Any, _: Any) -> None:
        with tenant("acme"), pytest.raises(Exception, match="s3cr3t") as raised:
            await first.send_message(Ask("x"), BACK)
        assert type(raised.value) is Exception

    play(scene, back=lambda: Desk(work=refuses))
    (span,) = [span for span in captured.spans() if span.name.startswith("process")]
    assert attributes(span)["error.type"] == "LookupError"
    assert "s3cr3t" not in span.to_json()


def test_calls_that_nobody_answers(captured: Captured) -> None:
    """AutoGen lets a caller wait for ever when no worker has the agent, when the agent cannot be made, when its answer
    cannot be written. Each is counted where it is seen, and as awaited until the caller gives up."""

    def broken() -> RoutedAgent:
        raise LookupError("s3cr3t")

    async def scene(first: Any, second: Any) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # AutoGen's own, of the tasks that failed
        await second.register_factory("broken", broken)
        await second.register_factory("odd", Oddity)
        with tenant("acme"):
            asked = [first.send_message(Ask("x"), AgentId(who, "k")) for who in ("nobody", "broken", "odd")]
            calls = [asyncio.create_task(call) for call in asked]
        await eventually(lambda: len(figures(captured, "autogen.messages")) == 3)
        await eventually(lambda: figures(captured, "autogen.calls.awaited") == {("acme",): 3})
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert figures(captured, "autogen.calls.awaited") == {("acme",): 0}

    play(scene)
    assert figures(captured, "autogen.messages") == {("unhandled", "acme"): 1, ("error", "acme"): 1, ("ok", "acme"): 1}
    assert figures(captured, "autogen.errors") == {
        ("create_agent", "LookupError", "acme"): 1,
        ("deliver", "CancelledError", "acme"): 2,  # the host, when the worker leaves in the end
        ("respond", "ValueError", "acme"): 1,
        ("send", "CancelledError", "acme"): 3,
    }


def test_an_event_that_nobody_subscribes_to(captured: Captured) -> None:
    """The host sees that, and counts it; AutoGen says nothing."""

    async def scene(first: Any, _: Any) -> None:
        with tenant("acme"):
            await first.publish_message(Note("x"), TopicId("nothing", "k"))
        await eventually(lambda: figures(captured, "autogen.messages"))

    play(scene)
    assert figures(captured, "autogen.messages") == {("unhandled", "acme"): 1}


def test_loop_time_is_the_tenants(captured: Captured) -> None:
    """What a handler does on the loop counts for the sender of its message, whoever started the worker."""

    async def holds(_: str) -> None:
        time.sleep(0.05)

    async def scene(first: Any, _: Any) -> None:
        with tenant("acme"):
            await first.send_message(Ask("x"), BACK)
        with tenant("globex"):
            await first.send_message(Ask("x"), AgentId("front", "k"))

    play(scene, back=lambda: Desk(work=holds))
    held = figures(captured, "autogen.tenant.loop.time")
    assert held["acme",] >= 0.05
    assert 0 < held["globex",] < held["acme",]


def test_a_budget_goes_along(captured: Captured) -> None:
    """A budget that the sender bound counts for the turn in the other process, and lets its handler be cancelled there;
    nothing of it is left for the next message."""

    async def forever(text: str) -> None:
        if text == "stay":
            await asyncio.Event().wait()

    async def scene(first: Any, _: Any) -> None:
        with tenant("acme"):
            with budget(turn=0.01, cancel=True), pytest.raises(Exception, match="its turn budget is"):
                await first.send_message(Ask("stay"), BACK)
            await first.send_message(Ask("go"), BACK)

    play(scene, back=lambda: Desk(work=forever))
    over = [span for span in captured.spans() if span.name == "overrun back"]
    assert [attributes(span)["tenant.id"] for span in over] == ["acme"]
    assert figures(captured, "autogen.turn.overruns") == {("turn", "acme"): 1}
    assert figures(captured, "autogen.messages") == {("ok", "acme"): 1, ("error", "acme"): 1}


def test_a_tier_counts_where_the_handler_runs() -> None:
    """Of a tenant that came from elsewhere too."""
    tiers = {"tight": limits.Tier("tight", turn=0.01, cancel=True)}
    table = limits.Limits(tiers=tiers, tenants={"acme": tiers["tight"]}, default=None)

    async def scene(first: Any, _: Any) -> None:
        with tenant("acme"), pytest.raises(Exception, match="its turn budget is"):
            await first.send_message(Ask("x"), BACK)

    async def forever(_: str) -> None:
        await asyncio.Event().wait()

    with capture(limits=table) as captured:
        play(scene, back=lambda: Desk(work=forever))
        assert figures(captured, "autogen.turn.overruns") == {("turn", "acme"): 1}


def test_the_trace_state_of_others_goes_along_and_ours_does_not(captured: Captured) -> None:
    """What other vendors wrote arrives in the handler; the tenant does not, so that no request of the handler's to
    somebody else carries it."""
    seen: list[dict[str, str]] = []

    async def looks(_: str) -> None:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        seen.append(carrier)

    async def scene(first: Any, _: Any) -> None:
        state = TraceState([("vendor", "theirs")])
        span = NonRecordingSpan(SpanContext(7, 7, False, TraceFlags(1), state))
        token = otel.attach(trace.set_span_in_context(span))
        with tenant("acme"):
            await first.send_message(Ask("x"), BACK)
        otel.detach(token)

    play(scene, back=lambda: Desk(work=looks))
    assert seen[0]["tracestate"] == "vendor=theirs"
    assert seen[0]["traceparent"].startswith(f"00-{7:032x}-")
    (made, ours) = captured.spans()
    assert made.parent is not None
    assert made.parent.span_id == 7
    assert ours.context.span_id != 7


def test_a_resolver_names_the_tenant_at_the_send() -> None:
    """Asked by the sender alone: of a message that came without a tenant, the key of an agent is no proof."""

    async def scene(first: Any, _: Any) -> Any:
        return await first.send_message(Ask("x"), AgentId("back", "acme"))

    with capture(lambda where: where.key if isinstance(where, AgentId) else None):
        assert play(scene).tenant == "acme"


def test_autogens_own_tracing_says_nothing(captured: Captured) -> None:
    """A worker that was given a tracer provider traces with it when nobody watches, texts of exceptions included; while
    we do, it is ours that is traced, and nothing of AutoGen's."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))

    async def main() -> None:
        async with hosting() as address, working(address, back=lambda: Desk(work=refuses)) as worker:
            helper = GrpcWorkerAgentRuntime(address, tracer_provider=provider)._trace_helper
            vars(worker)["_trace_helper"] = vars(GrpcWorkerAgentRuntime(address, provider))["_trace_helper"]
            with pytest.raises(Exception, match="s3cr3t"):
                await worker.send_message(Ask("x"), BACK)
            assert not memory.get_finished_spans()
            assert type(helper).__name__ == "WorkerTap"
            lifecycle.stop()
            with pytest.raises(Exception, match="s3cr3t"):
                await worker.send_message(Ask("x"), BACK)
            assert any("s3cr3t" in span.to_json() for span in memory.get_finished_spans())

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_runtime_that_was_made_before() -> None:
    """One that works already when the watching begins is watched from its next message on, and as it was afterwards."""

    async def main() -> None:
        async with hosting() as address, working(address, back=Desk) as worker:
            helper = vars(worker)["_trace_helper"]
            with capture() as late, tenant("acme"):
                assert (await worker.send_message(Ask("x"), BACK)).tenant == "acme"
                assert [span.name for span in late.spans()] == ["create_agent back", "process back"]
            assert (await worker.send_message(Ask("x"), BACK)).tenant is None
            assert worker._trace_helper is helper

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_the_end_of_a_connection_that_was_there_before() -> None:
    """It was made before the library was started, or before it was started again: its end is an error once."""

    async def main() -> None:
        async with AsyncExitStack() as stack, AsyncExitStack() as hosts:
            address = await hosts.enter_async_context(hosting())
            worker = await stack.enter_async_context(working(address, back=Desk))
            for _ in range(2):
                with capture() as captured:
                    await worker.send_message(Ask("x"), BACK)
            with capture() as captured:
                await worker.send_message(Ask("x"), BACK)
                await hosts.aclose()
                await eventually(lambda: figures(captured, "autogen.errors"))
                assert {key: n for key, n in figures(captured, "autogen.errors").items() if key[0] == "connection"} == {
                    ("connection", "AioRpcError", "unknown"): 1
                }

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_message_that_nobody_knows_here(captured: Captured) -> None:
    """A type that the receiving process never registered is not named: a sender may call it anything."""

    @dataclass
    class Secret4711:
        text: str

    async def scene(first: Any, second: Any) -> None:
        first.add_message_serializer(try_get_known_serializers_for_type(Secret4711))
        await second.add_subscription(TypeSubscription("others", "back"))
        with tenant("acme"):
            await first.publish_message(Secret4711("x"), TopicId("others", "k"))
        await eventually(lambda: figures(captured, "autogen.messages"))

    play(scene)
    (span,) = [span for span in captured.spans() if span.name.startswith("process")]
    assert attributes(span)["autogen.message.type"] == "UnknownPayload"
