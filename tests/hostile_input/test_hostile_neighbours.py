"""Others who change the same classes, replace the same methods, keep spans of their own, or use AutoGen's internals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock

import autogen_core._single_threaded_agent_runtime as runtime_module
import pytest
from autogen_apps import Ask, Asked, ask_runtime, replaying, two_agent_team
from autogen_core import AgentId, DefaultInterventionHandler, SingleThreadedAgentRuntime
from autogen_core.models import UserMessage
from autogen_ext.models.replay import ReplayChatCompletionClient
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from instrumentation import current_tenant, tenant
from instrumentation.testing import Captured, capture

ASK = [UserMessage(content="s3cr3t", source="user")]


class TheirWrapper:
    """A function wrapper as other instrumentations use them: binds like a method, and wants to know the instance."""

    def __init__(self, wrapped: Callable[..., Any], calls: list[Any]) -> None:
        self.__wrapped__ = wrapped
        self.calls = calls

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(instance)
            return self.__wrapped__(instance, *args, **kwargs)

        return self if instance is None else call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("called without its instance")


async def a_call() -> str:
    return str((await replaying("answer").create(ASK)).content)


@pytest.mark.parametrize("order", ["inside", "outside", "came and went", "twice"])
def test_another_instrumentation(order: str) -> None:
    """It wraps before us or after us, leaves before us or after us: each sees every call while it is there.

    In the end stands what stood there.
    """
    cls: Any = ReplayChatCompletionClient
    original = vars(cls)["create"]
    theirs = TheirWrapper(original, [])
    try:
        if order == "inside":
            cls.create = theirs
            with capture() as captured:
                assert asyncio.run(a_call()) == "answer"
                assert len(captured.spans()) == len(theirs.calls) == 1
            assert vars(cls)["create"] is theirs
        elif order == "came and went":
            with capture():
                cls.create = theirs
                cls.create = original
            assert vars(cls)["create"] is original
        else:
            with capture() as captured:
                theirs.__wrapped__ = vars(cls)["create"]  # ours
                cls.create = theirs
                assert asyncio.run(a_call()) == "answer"
                assert len(captured.spans()) == len(theirs.calls) == 1
            assert vars(cls)["create"] is theirs
            assert asyncio.run(a_call()) == "answer"
            if order == "twice":  # ours is still inside theirs, and only passes on
                with capture() as captured:
                    assert asyncio.run(a_call()) == "answer"
                    assert [span.parent for span in captured.spans()] == [None]
                    assert len(theirs.calls) == 3
    finally:
        cls.create = original


def test_mocks_and_static_methods_stay_what_they_are() -> None:
    """A class attribute that is no method is called, and can be asked, as without us."""
    with capture():

        class Mocked(ReplayChatCompletionClient):
            create = AsyncMock(return_value="mocked")  # type: ignore[assignment]

            @staticmethod
            def create_stream(messages: Any) -> str:  # type: ignore[override]
                return f"static {len(messages)}"

        client = Mocked([])
        assert asyncio.run(client.create(ASK)) == "mocked"  # type: ignore[arg-type]
        client.create.assert_awaited_once_with(ASK)  # type: ignore[attr-defined]
        assert client.create_stream(ASK) == Mocked.create_stream(ASK) == "static 1"  # type: ignore[arg-type]


def test_a_class_that_cannot_be_changed_is_left_out() -> None:
    """And costs the others nothing."""

    class Frozen(type(ReplayChatCompletionClient)):  # type: ignore[misc]
        def __setattr__(cls, name: str, value: object) -> None:
            if name in ("create", "create_stream"):
                raise TypeError("frozen")
            super().__setattr__(name, value)

    class Fixed(ReplayChatCompletionClient, metaclass=Frozen):
        async def create(self, *args: Any, **kwargs: Any) -> Any:
            return "fixed"

    with capture() as captured:
        assert asyncio.run(Fixed([]).create(ASK)) == "fixed"
        assert asyncio.run(a_call()) == "answer"
        assert [span.name for span in captured.spans()] == ["chat unnamed"]


def test_a_list_of_handlers_is_the_applications() -> None:
    """What it reads is its own, what it appends stays, on this runtime alone."""

    class Counting(DefaultInterventionHandler):
        seen = 0

        async def on_send(self, message: Any, **_: Any) -> Any:
            Counting.seen += 1
            return message

    async def main() -> None:
        first = await ask_runtime(asked=Asked)
        second = await ask_runtime(asked=Asked)
        assert first._intervention_handlers is None
        if first._intervention_handlers is None:
            first._intervention_handlers = []
        first._intervention_handlers.append(Counting())
        for runtime in (first, second):
            runtime.start()
            await runtime.send_message(Ask("x"), AgentId("asked", "k"))
            await runtime.stop_when_idle()
        assert second._intervention_handlers is None
        assert len(first._intervention_handlers) == 1

    with capture():
        asyncio.run(main())
    assert Counting.seen == 1


class OwnRuntime(SingleThreadedAgentRuntime):
    """Overrides what can be overridden, the run loop's step included."""

    def start(self) -> None:
        super().start()

    async def send_message(self, message: Any, recipient: AgentId, **kwargs: Any) -> Any:  # type: ignore[override]
        return await super().send_message(message, recipient, **kwargs)

    async def _process_next(self) -> None:
        envelope = await self._message_queue.get()
        step = {
            runtime_module.SendMessageEnvelope: self._process_send,
            runtime_module.PublishMessageEnvelope: self._process_publish,
            runtime_module.ResponseMessageEnvelope: self._process_response,
        }[type(envelope)]
        task = asyncio.create_task(step(envelope))  # type: ignore[operator]
        self._background_tasks.add(task)
        task.add_done_callback(self._background_tasks.discard)
        await asyncio.sleep(0)

    async def _create_otel_attributes(self, *_: Any, **__: Any) -> Any:
        return {"kind": "s3cr3t", "sender": "s3cr3t", "message": "s3cr3t", "agent": "s3cr3t"}


def test_a_runtime_of_the_applications_own_kind(captured: Captured) -> None:
    """The tenant arrives, one span a message, and what it says of its messages is not believed."""

    async def main() -> str | None:
        runtime = OwnRuntime()
        await Asked.register(runtime, "asked", Asked)
        with tenant("starter"):
            runtime.start()
        with tenant("acme"):
            answer = await runtime.send_message(Ask("x"), AgentId("asked", "k"))
        with pytest.raises(runtime_module.QueueShutDown):
            await runtime.stop()
        return answer.tenant  # type: ignore[no-any-return]

    assert asyncio.run(main()) == "acme"
    made, span = captured.spans()
    assert (made.name, span.name) == ("create_agent asked", "process asked")
    assert (span.attributes or {})["tenant.id"] == "acme"
    assert "s3cr3t" not in made.to_json() + span.to_json()


def global_provider(monkeypatch: pytest.MonkeyPatch) -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return provider, exporter


async def lookup() -> str:
    """A tool with a s3cr3t-description. (AutoGen runs a plain function in a thread without the context.)"""
    with trace.get_tracer("application").start_as_current_span("mine", attributes={"own": 1}) as span:
        span.add_event("event")
    raise ValueError("s3cr3t")


def test_spans_of_the_application_and_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A global provider, and one given to the runtime: the application's own spans come out whole.

    Nothing of ours and nothing of AutoGen's does, while without us AutoGen's payloads do.
    """

    def run() -> tuple[ReadableSpan, ...]:
        provider, exporter = global_provider(monkeypatch)

        async def main() -> None:
            runtime = SingleThreadedAgentRuntime(tracer_provider=provider)
            await Asked.register(runtime, "asked", Asked)
            runtime.start()
            with trace.get_tracer("application").start_as_current_span("outer") as outer:
                await runtime.send_message(Ask("s3cr3t"), AgentId("asked", "s3cr3t"))
                await two_agent_team(lookup).run(task="s3cr3t")
                assert trace.get_current_span() is outer
            await runtime.stop_when_idle()

        asyncio.run(main())
        return exporter.get_finished_spans()

    bare = run()
    assert "s3cr3t" in "".join(span.to_json() for span in bare)
    with capture() as captured:
        watched = run()
        ours = {span.context.span_id: span for span in captured.spans()}
    assert [span.name for span in watched] == ["mine", "outer"]
    mine, outer = watched
    assert [event.name for event in mine.events] == ["event"]
    assert dict(mine.attributes or {}) == {"own": 1}
    assert mine.context is not None
    assert outer.context is not None
    assert mine.context.trace_id == outer.context.trace_id
    assert mine.parent is not None
    assert ours[mine.parent.span_id].name == "execute_tool lookup"
    assert {span.context.trace_id for span in ours.values()} == {outer.context.trace_id}


class Recluse(ReplayChatCompletionClient):
    """A model client that answers no question about itself."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("_create_args", "_model_name", "_model", "model", "component_config"):
            raise RuntimeError("private")
        return super().__getattribute__(name)

    async def create(self, *_: Any, **__: Any) -> Any:
        return "answer"


def test_a_model_client_whose_attributes_raise(captured: Captured) -> None:
    """Its answer comes through."""
    assert asyncio.run(Recluse([]).create(ASK)) == "answer"
    assert current_tenant() is None
