"""The tenant goes through AutoGen's queue with the message, whoever started the runtime."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from autogen_apps import Answer, Ask, Asked, Note, Noted, ask_runtime
from autogen_core import AgentId, DefaultInterventionHandler, DropMessage, SingleThreadedAgentRuntime, TopicId
from autogen_core.exceptions import MessageDroppedException
from opentelemetry import trace

from instrumentation import current_tenant, tenancy, tenant
from instrumentation.testing import Captured, capture


def test_fifty_tenants_a_thousand_calls_nobody_mistaken(captured: Captured) -> None:
    """1000 concurrent RPCs and 1000 nested publishes of 50 tenants on a runtime that another tenant started: every
    handler, every span and every count has the right tenant."""
    seen: list[tuple[str, str | None]] = []

    async def main() -> list[Answer]:
        runtime = await ask_runtime(asked=Asked, noted=lambda: Noted(seen))
        with tenant("starter"):
            runtime.start()

        async def one(n: int) -> Answer:
            with tenant(f"t{n % 50}"):
                return await runtime.send_message(Ask(f"t{n % 50}"), AgentId("asked", "default"))

        answers = await asyncio.gather(*(one(n) for n in range(1000)))
        await runtime.stop_when_idle()
        return answers

    answers = asyncio.run(main())
    assert all(answer.tenant == answer.text for answer in answers)
    assert len(seen) == 1000
    assert all(text == found for text, found in seen)
    per_tenant = Counter((s.name, (s.attributes or {})["tenant.id"]) for s in captured.spans())
    made = {name: per_tenant.pop((name, "t0")) for name in ("create_agent asked", "create_agent noted")}
    assert set(made.values()) == {1}
    assert per_tenant == {(f"process {kind}", f"t{n}"): 20 for kind in ("asked", "noted") for n in range(50)}
    assert {
        (p.attributes or {})["tenant.id"]: p.value
        for p in captured.points("autogen.messages")  # type: ignore[union-attr]
    } == {f"t{n}": 40 for n in range(50)}


def test_the_run_loop_is_nobodys(captured: Captured) -> None:
    """A message without a tenant is `unknown`, not the tenant who called `start()` and not the one before it."""

    async def main() -> list[str | None]:
        runtime = await ask_runtime(asked=Asked)
        with tenant("starter"):
            runtime.start()
        seen = []
        for who in ("acme", None, "globex", None):
            if who is None:
                answer = await runtime.send_message(Ask("x"), AgentId("asked", "default"))
            else:
                with tenant(who):
                    answer = await runtime.send_message(Ask("x"), AgentId("asked", "default"))
            seen.append(answer.tenant)
        await runtime.stop_when_idle()
        return seen

    assert asyncio.run(main()) == ["acme", None, "globex", None]
    assert [(s.attributes or {})["tenant.id"] for s in captured.spans() if s.name == "process asked"] == [
        "acme", "unknown", "globex", "unknown",
    ]  # fmt: skip


def test_nested_sends_and_children_of_handlers_keep_the_tenant(captured: Captured) -> None:
    """A handler's own sends, its tasks, threads and timers belong to the tenant of its message."""
    seen: list[str | None] = []

    async def work(_: str) -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.call_later(0, lambda: done.set_result(current_tenant()))

        async def see() -> str | None:
            return current_tenant()

        seen.extend(await asyncio.gather(see(), asyncio.create_task(see()), asyncio.to_thread(current_tenant)))
        seen.append(await done)

    async def main() -> None:
        runtime = await ask_runtime(
            first=lambda: Asked(deeper=AgentId("second", "default")), second=lambda: Asked(work=work)
        )
        runtime.start()
        with tenant("acme"):
            await runtime.send_message(Ask("x"), AgentId("first", "default"))
        await runtime.stop_when_idle()

    asyncio.run(main())
    assert seen == ["acme"] * 4
    assert {(s.attributes or {})["tenant.id"] for s in captured.spans()} == {"acme"}


def test_process_next_by_hand_gives_back_the_callers_tenant(captured: Captured) -> None:
    """Who drives the queue himself keeps his own tenant."""

    async def main() -> list[str | None]:
        runtime = await ask_runtime(asked=Asked)
        with tenant("acme"):
            sending = asyncio.create_task(runtime.send_message(Ask("x"), AgentId("asked", "default")))  # type: ignore[arg-type]
            await asyncio.sleep(0)
        with tenant("driver"):
            seen = []
            for _ in ("the question", "the note", "the answer"):
                await runtime.process_next()
                seen.append(current_tenant())
        assert (await sending).tenant == "acme"  # type: ignore[attr-defined]
        return seen

    assert set(asyncio.run(main())) == {"driver"}


def test_interception_handlers_of_the_application_see_the_tenant(captured: Captured) -> None:
    """The application's own handlers run as the tenant whose message they look at."""
    seen: list[str | None] = []

    class Looking(DefaultInterventionHandler):
        async def on_send(self, message: object, **_: object) -> object:
            seen.append(current_tenant())
            return message

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime(intervention_handlers=[Looking()])
        await Asked.register(runtime, "asked", Asked)
        runtime.start()
        with tenant("acme"):
            await runtime.send_message(Ask("x"), AgentId("asked", "default"))
        await runtime.stop_when_idle()

    asyncio.run(main())
    assert seen == ["acme"]


def test_a_dropped_message_counts_for_its_tenant(captured: Captured) -> None:
    """A drop by the application's handler is an outcome of its own, under the sender's tenant."""

    class Dropping(DefaultInterventionHandler):
        async def on_send(self, message: object, **_: object) -> type[DropMessage]:
            return DropMessage

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime(intervention_handlers=[Dropping()])
        await Asked.register(runtime, "asked", Asked)
        runtime.start()
        with tenant("acme"), pytest.raises(MessageDroppedException):
            await runtime.send_message(Ask("x"), AgentId("asked", "default"))
        await runtime.stop()

    asyncio.run(main())
    assert [(dict(p.attributes or {}), p.value) for p in captured.points("autogen.messages")] == [  # type: ignore[union-attr]
        ({"tenant.id": "acme", "autogen.message.outcome": "dropped"}, 1)
    ]


def test_a_resolver_names_the_tenant_that_nobody_bound() -> None:
    """Core applications whose agent keys are tenants: the explicit tenant wins, then the resolver, then `unknown`."""

    def by_key(destination: AgentId | TopicId) -> str | None:
        key = destination.key if isinstance(destination, AgentId) else destination.source
        if key == "boom":
            raise RuntimeError("resolver")
        return None if key == "default" else key

    async def main() -> list[str | None]:
        seen: list[tuple[str, str | None]] = []
        runtime = await ask_runtime(asked=Asked, noted=lambda: Noted(seen))
        runtime.start()
        answers = [await runtime.send_message(Ask("x"), AgentId("asked", key)) for key in ("acme", "default", "boom")]
        with tenant("bound"):
            answers.append(await runtime.send_message(Ask("x"), AgentId("asked", "acme")))
        assert current_tenant() is None
        await runtime.publish_message(Note("by topic"), TopicId("default", "globex"))
        await runtime.stop_when_idle()
        assert ("by topic", "globex") in seen
        return [answer.tenant for answer in answers]

    with capture(resolver=by_key):
        assert asyncio.run(main()) == ["acme", None, None, "bound"]


def test_nothing_is_left_behind(captured: Captured) -> None:
    """Drops, errors and cancelled callers leave no entry anywhere: the tenant travels on the envelope itself."""

    async def main() -> SingleThreadedAgentRuntime:
        async def fail(_: str) -> None:
            raise ValueError("secret")

        runtime = await ask_runtime(asked=lambda: Asked(work=fail))
        runtime.start()
        with tenant("acme"):
            for _ in range(5):
                with pytest.raises(ValueError, match="secret"):
                    await runtime.send_message(Ask("x"), AgentId("asked", "default"))
        await runtime.stop_when_idle()
        assert tenancy.BOUND.get() is None
        return runtime

    runtime = asyncio.run(main())
    assert runtime.unprocessed_messages_count == 0
    assert not [name for name in vars(runtime) if "tenant" in name]


def test_beyond_the_bound_an_application_still_sees_whose_work_it_does() -> None:
    """Telemetry sums tenants beyond the bound up as `other`; who routes by `current_tenant()` must not mix them."""

    async def main() -> list[str | None]:
        runtime = await ask_runtime(asked=Asked)
        runtime.start()
        answers = []
        for who in ("first", "second", "third"):
            with tenant(who):
                assert current_tenant() == who
                answers.append(await runtime.send_message(Ask("x"), AgentId("asked", who)))
        await runtime.stop_when_idle()
        return [answer.tenant for answer in answers]

    with capture(max_tenants=1) as captured:
        assert asyncio.run(main()) == ["first", "second", "third"]
        assert {(span.attributes or {})["tenant.id"] for span in captured.spans()} == {"first", "other"}
        assert not captured.points("autogen.isolation.findings")


def test_nothing_of_a_handler_is_left_outside_of_its_task(captured: Captured) -> None:
    """Its span stays current for the rest of its own task, where AutoGen logs what it raised: not in the run loop, and
    not for its sender. The next handler has the parent and the tenant of its own message."""
    outside: list[tuple[str | None, bool]] = []

    def look() -> None:
        outside.append((current_tenant(), trace.get_current_span().get_span_context().is_valid))

    class Looks(DefaultInterventionHandler):
        async def on_send(self, message: Any, **_: Any) -> Any:
            look()
            return message

        async def on_response(self, message: Any, **_: Any) -> Any:
            look()
            return message

    async def main() -> None:
        runtime = SingleThreadedAgentRuntime(intervention_handlers=[Looks()])
        await Asked.register(runtime, "asked", Asked)
        runtime.start()
        for who in ("acme", "globex"):
            with tenant(who):
                await runtime.send_message(Ask("x"), AgentId("asked", "default"))
                look()
        await runtime.stop_when_idle()

    asyncio.run(main())
    assert outside == [("acme", False)] * 3 + [("globex", False)] * 3
    handled = [s for s in captured.spans() if s.name == "process asked"]
    assert [((s.attributes or {})["tenant.id"], s.parent) for s in handled] == [("acme", None), ("globex", None)]


def test_a_send_that_is_thrown_away_in_its_own_handler_takes_no_tenant_along() -> None:
    """Where a resolver names the tenant it is bound while the sender waits; a sender that nobody waits for any more may
    be closed anywhere, also by the garbage collector in the middle of the very handler."""
    seen: list[str | None] = []
    waiting: list[Any] = []

    def work(_: str) -> None:
        seen.append(current_tenant())
        waiting.pop().close()
        seen.append(current_tenant())

    async def main() -> None:
        runtime = await ask_runtime(asked=lambda: Asked(work=work))
        waiting.append(runtime.send_message(Ask("x"), AgentId("asked", "acme")))
        waiting[0].send(None)  # without a task: as far as the queue
        runtime.start()
        await runtime.stop_when_idle()

    with capture(resolver=lambda to: to.key if isinstance(to, AgentId) else None):
        asyncio.run(main())
    assert seen == ["acme", "acme"]
