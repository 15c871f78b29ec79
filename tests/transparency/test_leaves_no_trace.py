"""Attaching and detaching: AutoGen, asyncio and logging are afterwards what they were before."""

from __future__ import annotations

import asyncio
import asyncio.events
import gc
import logging
import weakref

import autogen_agentchat.teams._group_chat._base_group_chat as teams
import autogen_core._single_threaded_agent_runtime as runtime_module
import pytest
from autogen_apps import Ask, Asked, ask_runtime
from autogen_core import (
    EVENT_LOGGER_NAME,
    AgentId,
    ComponentBase,
    DefaultInterventionHandler,
    RoutedAgent,
    SingleThreadedAgentRuntime,
)
from autogen_core._telemetry import _genai
from autogen_core.models import ChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient

import instrumentation
from instrumentation import tenant
from instrumentation.hooks.interception import TransparentHandler
from instrumentation.testing import capture

OWNERS = (
    SingleThreadedAgentRuntime, RoutedAgent, runtime_module, _genai, ComponentBase, ChatCompletionClient,
    ReplayChatCompletionClient, teams.BaseGroupChat, asyncio.events.Handle, asyncio.events.TimerHandle,
)  # fmt: skip


def snapshot() -> list[dict[str, object]]:
    return [dict(vars(owner)) for owner in OWNERS]


def same(before: list[dict[str, object]], after: list[dict[str, object]]) -> bool:
    ignored = ("__weakref__", "_abc_impl", "__annotations__", "__abstractmethods__", "__parameters__")
    return all(
        old.keys() == new.keys() and all(old[key] is new[key] for key in old if key not in ignored)
        for old, new in zip(before, after, strict=True)
    )


def test_every_class_and_module_is_as_it_was() -> None:
    """Same names, same objects; also when it is done twice, and when subclasses were defined meanwhile."""
    before, logger_class = snapshot(), type(logging.getLogger(EVENT_LOGGER_NAME))
    for _ in range(2):
        with capture():
            assert not same(before, snapshot())

            class Late(ReplayChatCompletionClient):
                async def create(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
                    return None

            assert Late.create.__wrapped__ is not None  # type: ignore[attr-defined]
        assert same(before, snapshot())
        assert not hasattr(Late.create, "__wrapped__")
        assert type(logging.getLogger(EVENT_LOGGER_NAME)) is logger_class


def test_a_runtime_made_before_is_observed_and_left_as_it_was() -> None:
    """Nothing hangs on the instance: its attributes are the same objects before, during and after."""
    handlers: list[object] = [DefaultInterventionHandler()]
    runtime = SingleThreadedAgentRuntime(intervention_handlers=handlers)  # type: ignore[arg-type]
    before = dict(vars(runtime))

    async def main() -> None:
        await Asked.register(runtime, "asked", Asked)
        runtime.start()
        await runtime.send_message(Ask("x"), AgentId("asked", "default"))
        await runtime.stop_when_idle()

    with capture() as captured:
        asyncio.run(main())
        assert [span.name for span in captured.spans()] == ["create_agent asked", "process asked"]
        assert vars(runtime)["_intervention_handlers"] is handlers
        assert len(handlers) == 1
    assert runtime._intervention_handlers is handlers
    assert runtime._tracer_helper is before["_tracer_helper"]


def test_our_handler_stands_first_whatever_the_application_adds() -> None:
    """Also when the list grows later. Where the application has none there is none."""
    handlers: list[object] = []
    runtime = SingleThreadedAgentRuntime(intervention_handlers=handlers)  # type: ignore[arg-type]

    def walked() -> list[object]:
        """The handlers as the run loop's own code sees them."""
        return list(eval("runtime._intervention_handlers", vars(runtime_module), {"runtime": runtime}))

    with capture():
        assert walked() == []
        handlers.append(DefaultInterventionHandler())
        ours, *own = walked()
        assert isinstance(ours, TransparentHandler)
        assert own == handlers
        assert runtime._intervention_handlers is handlers


def test_detaching_while_messages_wait_loses_none() -> None:
    """What was sent watched is handled bare, and the other way round."""

    async def main() -> None:
        runtime = await ask_runtime(asked=Asked)
        with capture():
            early = asyncio.create_task(runtime.send_message(Ask("a"), AgentId("asked", "default")))  # type: ignore[arg-type]
            await asyncio.sleep(0)
        late = asyncio.create_task(runtime.send_message(Ask("b"), AgentId("asked", "default")))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with capture():
            runtime.start()
            assert [answer.text for answer in await asyncio.gather(early, late)] == ["a", "b"]
            await runtime.stop_when_idle()

    asyncio.run(main())


def test_start_and_stop_are_idempotent() -> None:
    """Twice is once; stop before start is nothing; what runs is not replaced by a second start."""
    instrumentation.stop()
    with capture() as captured:
        instrumentation.start(endpoint="http://127.0.0.1:1")

        async def main() -> None:
            runtime = await ask_runtime(asked=Asked)
            runtime.start()
            with tenant("acme"):
                await runtime.send_message(Ask("x"), AgentId("asked", "default"))
            await runtime.stop_when_idle()

        asyncio.run(main())
        assert [span.name for span in captured.spans()] == ["create_agent asked", "process asked"]
        with pytest.raises(RuntimeError, match="being watched"), capture():
            pass
    instrumentation.stop()
    instrumentation.stop()


def test_classes_that_come_and_go_are_not_kept() -> None:
    """A component class made in a function is freed as it is without us."""

    def make() -> weakref.ref[type]:
        class Passing(ReplayChatCompletionClient):
            async def create(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
                return None

        return weakref.ref(Passing)

    with capture():
        passing = make()
        gc.collect()
        assert passing() is None
