"""Every message is accounted for under its tenant: handled, failed, dropped, lost, abandoned, or still waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from autogen_apps import Ask, Asked, Note, Noted, ask_runtime
from autogen_core import (
    AgentId,
    CancellationToken,
    DefaultInterventionHandler,
    DropMessage,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    TypeSubscription,
    message_handler,
)
from autogen_core.exceptions import MessageDroppedException

from instrumentation import current_tenant, lifecycle, tenant
from instrumentation.testing import Captured, capture

TOPIC = TopicId("default", "k")


def figures(captured: Captured, metric: str) -> dict[tuple[str, ...], float]:
    """Values (of a histogram: counts) by the values of the attributes, in alphabetical order of their names."""
    return {
        tuple(str(v) for _, v in sorted((point.attributes or {}).items())): getattr(point, "value", None)
        or getattr(point, "count", 0)
        for point in captured.points(metric)
    }


def reading(metric: str) -> dict[tuple[str, ...], float]:
    """The same of this moment, without waiting for an export."""
    data = lifecycle.running().metrics()  # type: ignore[union-attr]
    assert data is not None
    return {
        tuple(str(v) for _, v in sorted((point.attributes or {}).items())): point.value  # type: ignore[union-attr]
        for found in data.resource_metrics[0].scope_metrics[0].metrics
        if found.name == metric
        for point in found.data.data_points
    }


class Failing(RoutedAgent):
    """Raises at a note."""

    def __init__(self) -> None:
        super().__init__("failing")

    @message_handler
    async def on_note(self, message: Note, ctx: MessageContext) -> None:
        raise LookupError("s3cr3t")


async def subscribed(runtime: SingleThreadedAgentRuntime, **agents: Callable[[], RoutedAgent]) -> None:
    for name, factory in agents.items():
        await runtime.register_factory(name, factory)
        await runtime.add_subscription(TypeSubscription("default", name))


def test_a_published_message_has_a_span_for_each_subscriber(captured: Captured) -> None:
    """Three subscribers, one of which fails and whose exception AutoGen swallows: three spans under the publisher's,
    each with its own outcome."""
    seen: list[tuple[str, str | None]] = []

    async def main() -> None:
        runtime = await ask_runtime(asked=Asked, one=lambda: Noted(seen), two=lambda: Noted(seen))
        await subscribed(runtime, failing=Failing)
        runtime.start()
        with tenant("acme"):
            await runtime.send_message(Ask("x"), AgentId("asked", "k"))
        await runtime.stop_when_idle()

    asyncio.run(main())
    spans = {span.name: span for span in captured.spans() if span.name.startswith("process")}
    assert set(spans) == {"process asked", "process one", "process two", "process failing"}
    for name in ("one", "two", "failing"):
        parent = spans[f"process {name}"].parent
        assert parent is not None
        assert parent.span_id == spans["process asked"].context.span_id
    assert (spans["process failing"].attributes or {})["error.type"] == "LookupError"
    assert figures(captured, "autogen.messages") == {("error", "acme"): 1, ("ok", "acme"): 3}
    assert figures(captured, "autogen.errors") == {("process", "LookupError", "acme"): 1}


def test_a_message_without_a_subscriber_is_counted(captured: Captured) -> None:
    """AutoGen says nothing of it. A publisher who is his own only subscriber has reached whom he meant to."""

    class Talking(RoutedAgent):
        def __init__(self) -> None:
            super().__init__("talking")

        @message_handler
        async def on_ask(self, message: Ask, ctx: MessageContext) -> None:
            await self.publish_message(Note("to myself"), TopicId("own", "k"))

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime()
        await runtime.register_factory("talking", Talking)
        await runtime.add_subscription(TypeSubscription("own", "talking"))
        runtime.start()
        with tenant("acme"):
            await runtime.publish_message(Note("x"), TOPIC)
            await runtime.send_message(Ask("x"), AgentId("talking", "k"))
        await runtime.stop_when_idle()

    asyncio.run(main())
    assert figures(captured, "autogen.messages") == {("unhandled", "acme"): 1, ("ok", "acme"): 1}


def test_the_making_of_an_agent_is_seen(captured: Captured) -> None:
    """`create_agent`, beside the message that it is made for; the second message finds it there."""

    async def main() -> None:
        runtime = await ask_runtime(asked=Asked)
        with tenant("starter"):
            runtime.start()
        with tenant("acme"):
            await runtime.send_message(Ask("x"), AgentId("asked", "s3cr3t"))
            await runtime.send_message(Ask("x"), AgentId("asked", "s3cr3t"))
        await runtime.stop_when_idle()

    asyncio.run(main())
    (made,) = [span for span in captured.spans() if span.name == "create_agent asked"]
    assert dict(made.attributes or {}) == {
        "tenant.id": "acme", "autogen.agent.type": "asked", "gen_ai.operation.name": "create_agent",
    }  # fmt: skip
    assert "s3cr3t" not in made.to_json()


@pytest.mark.parametrize("awaiting", [False, True], ids=["factory", "coroutine"])
def test_a_factory_that_fails_takes_the_message_along(captured: Captured, awaiting: bool) -> None:
    """The failure is a span and an error; the message has failed, for the other subscribers of a published one too."""
    seen: list[tuple[str, str | None]] = []

    def broken() -> RoutedAgent:
        raise PermissionError("s3cr3t")

    async def broken_later() -> RoutedAgent:
        await asyncio.sleep(0)
        return broken()

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime()
        await subscribed(runtime, broken=broken_later if awaiting else broken, noted=lambda: Noted(seen))  # type: ignore[arg-type]
        runtime.start()
        with tenant("acme"):
            await runtime.publish_message(Note("x"), TOPIC)
            with pytest.raises(PermissionError):
                await runtime.send_message(Note("x"), AgentId("broken", "k"))
        await runtime.stop_when_idle()

    asyncio.run(main())
    assert seen == []
    assert [(s.name, (s.attributes or {})["error.type"]) for s in captured.spans()] == [
        ("create_agent broken", "PermissionError")
    ] * 2
    assert figures(captured, "autogen.errors") == {("create_agent", "PermissionError", "acme"): 2}
    assert figures(captured, "autogen.messages") == {("error", "acme"): 2}


class Choosy(DefaultInterventionHandler):
    """Drops responses and fails at publishes; remembers whose messages it saw."""

    def __init__(self) -> None:
        self.seen: list[str | None] = []

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
        self.seen.append(current_tenant())
        raise ZeroDivisionError("s3cr3t")

    async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
        self.seen.append(current_tenant())
        return DropMessage


def test_what_intervention_handlers_lose_is_counted_for_its_tenant(captured: Captured) -> None:
    """A response that is dropped, and a published message whose handler raises, of which AutoGen tells nobody: both
    handlers run as the tenant of the message, and so it is counted."""
    choosy = Choosy()

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime(intervention_handlers=[choosy])
        await runtime.register_factory("failing", Failing)
        await runtime.register_factory("asked", lambda: Asked(work=None))
        with tenant("starter"):
            runtime.start()
        with tenant("acme"), pytest.raises(MessageDroppedException):
            await runtime.send_message(Ask("x"), AgentId("asked", "k"))
        with tenant("globex"):
            await runtime.publish_message(Note("x"), TOPIC)
        while len(choosy.seen) < 3:
            await asyncio.sleep(0)
        await runtime.stop()

    asyncio.run(main())
    assert sorted(choosy.seen, key=str) == ["acme", "acme", "globex"]  # the first publish is the asked agent's own
    assert figures(captured, "autogen.messages") == {
        ("ok", "acme"): 1, ("dropped", "acme"): 1, ("error", "acme"): 1, ("error", "globex"): 1,
    }  # fmt: skip
    assert figures(captured, "autogen.errors") == {
        ("intercept", "_OTHER", "acme"): 1, ("intercept", "_OTHER", "globex"): 1,
    }  # fmt: skip


def test_a_run_loop_that_ends_names_the_tenant_whose_message_ended_it(captured: Captured) -> None:
    """With `ignore_unhandled_exceptions=False`: the exception is the application's, the error counts for its tenant."""

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
        await subscribed(runtime, failing=Failing)
        with tenant("starter"):
            runtime.start()
        with tenant("acme"):
            await runtime.publish_message(Note("x"), TOPIC)
        with pytest.raises(LookupError):
            await runtime.stop_when_idle()

    asyncio.run(main())
    assert figures(captured, "autogen.errors") == {
        ("process", "LookupError", "acme"): 1, ("run_loop", "LookupError", "acme"): 1,
    }  # fmt: skip


@pytest.mark.parametrize("how", ["task", "token", "timeout"])
def test_a_handler_that_nobody_waits_for_any_more(captured: Captured, how: str) -> None:
    """The caller gives up, by cancelling his task, his token or with a time-out; AutoGen's handler runs on. It is seen
    while it does so, its span says so, and afterwards none is left."""
    running, go_on = asyncio.Event(), asyncio.Event()

    async def work(_: str) -> None:
        running.set()
        await go_on.wait()

    async def main() -> None:
        runtime = await ask_runtime(asked=lambda: Asked(work=work))
        runtime.start()
        token = CancellationToken()
        with tenant("acme"):
            ask = runtime.send_message(Ask("x"), AgentId("asked", "k"), cancellation_token=token)
            calling = asyncio.ensure_future(asyncio.wait_for(ask, 0.001) if how == "timeout" else ask)
        await running.wait()
        if how == "task":
            calling.cancel()
        elif how == "token":
            token.cancel()
        with pytest.raises((asyncio.CancelledError, TimeoutError)):
            await calling
        assert reading("autogen.handlers.abandoned") == {("acme",): 1}
        go_on.set()
        await runtime.stop_when_idle()

    asyncio.run(main())
    assert figures(captured, "autogen.handlers.abandoned") == {("acme",): 0}
    (handled,) = [span for span in captured.spans() if span.name == "process asked"]
    assert (handled.attributes or {})["autogen.message.abandoned"] is True
    assert (handled.attributes or {})["autogen.message.outcome"] == "ok"


def test_a_caller_who_gives_up_before_the_handler_begins(captured: Captured) -> None:
    """AutoGen hands the message over all the same: the handler is abandoned from its start."""
    seen: list[dict[tuple[str, ...], float]] = []

    async def main() -> None:
        runtime = await ask_runtime(
            asked=lambda: Asked(work=lambda _: seen.append(reading("autogen.handlers.abandoned")))
        )
        with tenant("acme"):
            calling = asyncio.ensure_future(runtime.send_message(Ask("x"), AgentId("asked", "k")))
            await asyncio.sleep(0)
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
        runtime.start()
        await runtime.stop_when_idle()

    asyncio.run(main())
    assert seen == [{("acme",): 1}]
    assert figures(captured, "autogen.handlers.abandoned") == {("acme",): 0}


def test_a_caller_from_before_a_restart_gives_up() -> None:
    """The library was stopped and started while a message waited: whoever watches the handler counts both, that its
    caller has gone and that it has ended. None is left, and never less than none."""
    running, go_on = asyncio.Event(), asyncio.Event()

    async def work(_: str) -> None:
        running.set()
        await go_on.wait()

    async def main() -> None:
        runtime = await ask_runtime(asked=lambda: Asked(work=work))
        with capture(), tenant("acme"):
            calling = asyncio.ensure_future(runtime.send_message(Ask("x"), AgentId("asked", "k")))
            await asyncio.sleep(0)
        with capture() as captured:
            runtime.start()
            await running.wait()
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
            assert reading("autogen.handlers.abandoned") == {("acme",): 1}
            go_on.set()
            await runtime.stop_when_idle()
            assert figures(captured, "autogen.handlers.abandoned") == {("acme",): 0}

    asyncio.run(main())


def test_a_failing_handler_has_not_been_abandoned(captured: Captured) -> None:
    """The caller ends with the handler's exception: he waited to the end."""

    def fail(_: str) -> None:
        raise KeyError("x")

    async def main() -> None:
        runtime = await ask_runtime(asked=lambda: Asked(work=fail))
        runtime.start()
        with pytest.raises(KeyError):
            await runtime.send_message(Ask("x"), AgentId("asked", "k"))
        await runtime.stop_when_idle()

    asyncio.run(main())
    assert captured.points("autogen.handlers.abandoned") == []


def test_queues_by_tenant(captured: Captured) -> None:
    """What waits at this moment, and 0 once it does not; messages that `stop()` throws away are not left over."""

    async def main() -> None:
        runtime = await ask_runtime(asked=Asked)
        for who, amount in (("acme", 3), ("globex", 2)):
            with tenant(who):
                for _ in range(amount):
                    await runtime.publish_message(Note("x"), TOPIC)
        assert reading("autogen.message.queue.size") == {}  # it dispatches for nobody yet
        await runtime.process_next()
        assert reading("autogen.message.queue.size") == {("acme",): 2, ("globex",): 2}
        runtime.start()
        await runtime.stop()
        assert reading("autogen.message.queue.size") == {("acme",): 0, ("globex",): 0}
        assert reading("autogen.message.queue.size") == {}

    asyncio.run(main())


def test_agents_by_type_and_tenant(captured: Captured) -> None:
    """Agents stay until their runtime goes; each counts for the tenant whose message it handled first."""

    async def main() -> None:
        runtime = await ask_runtime(asked=Asked)
        runtime.start()
        for who in ("acme", "globex"):
            for n in range(3):
                with tenant(who):
                    await runtime.send_message(Ask("x"), AgentId("asked", f"{who}{n % 2}"))
        await runtime.stop_when_idle()
        assert reading("autogen.agents") == {("asked", "acme"): 2, ("asked", "globex"): 2}
        runtime._instantiated_agents.clear()
        assert reading("autogen.agents") == {("asked", "acme"): 0, ("asked", "globex"): 0}

    asyncio.run(main())


def test_responses_count_for_who_gets_them(captured: Captured) -> None:
    """Each response that reaches its caller, and how long it waited in the queue."""

    async def main() -> None:
        runtime = await ask_runtime(asked=lambda: Asked(deeper=AgentId("deeper", "k")), deeper=Asked)
        runtime.start()
        with tenant("acme"):
            await runtime.send_message(Ask("x"), AgentId("asked", "k"))
        await runtime.stop_when_idle()

    asyncio.run(main())
    assert figures(captured, "autogen.message.response.duration") == {("acme",): 2}


def test_messages_that_a_stop_throws_away(captured: Captured) -> None:
    """Sent or published, each is dropped for its tenant; what was handled before is not, nor is its response."""

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime()
        await Asked.register(runtime, "asked", Asked)
        with tenant("acme"):
            sends = [asyncio.create_task(runtime.send_message(Ask("x"), AgentId("asked", str(n)))) for n in range(3)]
        with tenant("globex"):
            await runtime.publish_message(Note("x"), TOPIC)
        await asyncio.sleep(0)
        runtime.start()
        await runtime.stop()
        with pytest.raises(RuntimeError):
            await runtime.stop()
        for send in sends:
            send.cancel()
        await asyncio.gather(*sends, return_exceptions=True)

    asyncio.run(main())
    counts = figures(captured, "autogen.messages")
    assert counts[("dropped", "globex")] == 1
    assert counts[("dropped", "acme")] == 3


def test_messages_behind_an_exception_that_ends_the_run_loop(captured: Captured) -> None:
    """As in AgentChat's teams: a handler of a published message raises, and nothing that waits is handled any more."""

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
        await Failing.register(runtime, "failing", Failing)
        await runtime.add_subscription(TypeSubscription("default", "failing"))
        with tenant("acme"):
            await runtime.publish_message(Note("x"), TOPIC)
        await runtime.process_next()
        while runtime._background_exception is None:
            await asyncio.sleep(0)
        with tenant("globex"):
            await runtime.publish_message(Note("x"), TOPIC)
        with pytest.raises(LookupError):
            await runtime.process_next()

    asyncio.run(main())
    counts = figures(captured, "autogen.messages")
    assert (counts[("error", "acme")], counts[("dropped", "globex")]) == (1, 1)
