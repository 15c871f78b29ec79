"""Fails when AutoGen's surface is another than the one that the hooks were written for.

A failure here is no bug: it says where AutoGen has changed, and which hook has to be looked at before the bound in
`pyproject.toml` is raised.
"""

from __future__ import annotations

import collections
import inspect
from typing import Any

import autogen_core
import autogen_core._single_threaded_agent_runtime as runtime_module
import autogen_core.logging as events
import pytest
from autogen_agentchat.agents import BaseChatAgent, UserProxyAgent
from autogen_agentchat.base import TerminationCondition
from autogen_agentchat.teams import BaseGroupChat
from autogen_core import ComponentBase, InterventionHandler, SingleThreadedAgentRuntime
from autogen_core._telemetry import EnvelopeMetadata, TraceHelper, _genai
from autogen_core.code_executor import CodeExecutor
from autogen_core.memory import Memory, MemoryQueryResult, UpdateContextResult
from autogen_core.models import ChatCompletionClient, CreateResult
from autogen_core.tools import BaseStreamTool, BaseTool, TextResultContent, ToolResult, Workbench
from autogen_core.tools._workbench import StreamWorkbench

from instrumentation.hooks import agents_and_tools, seams


def members(owner: Any, **kinds: Any) -> set[str]:
    return {name for name, value in vars(owner).items() if not name.startswith("__")}


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_event_classes() -> None:
    """Every event of the event logger is known; a new one may tell something that we should listen to."""
    found = {name for name, value in vars(events).items() if inspect.isclass(value) and name.endswith("Event")}
    assert found == {
        "LLMCallEvent", "LLMStreamStartEvent", "LLMStreamEndEvent", "ToolCallEvent", "MessageEvent",
        "MessageDroppedEvent", "MessageHandlerExceptionEvent", "AgentConstructionExceptionEvent",
    }  # fmt: skip
    assert autogen_core.EVENT_LOGGER_NAME == "autogen_core.events"


def test_intervention_methods() -> None:
    """The transparent handler has every method that AutoGen calls."""
    assert {name for name in members(InterventionHandler) if name.startswith("on_")} == {
        "on_send", "on_publish", "on_response",
    }  # fmt: skip
    assert parameters(InterventionHandler.on_send) == ["self", "message", "message_context", "recipient"]
    assert parameters(InterventionHandler.on_publish) == ["self", "message", "message_context"]
    assert parameters(InterventionHandler.on_response) == ["self", "message", "sender", "recipient"]


def test_runtime_members() -> None:
    """The runtime's methods, private ones too: several are seams."""
    assert members(SingleThreadedAgentRuntime) - {"_abc_impl", "_is_protocol"} == {
        "unprocessed_messages_count", "_known_agent_names", "_create_otel_attributes", "send_message",
        "publish_message", "save_state", "load_state", "_process_send", "_process_publish", "_process_response",
        "process_next", "_process_next", "start", "close", "stop", "stop_when_idle", "stop_when", "agent_metadata",
        "agent_save_state", "agent_load_state", "register_factory", "register_agent_instance",
        "_invoke_agent_factory", "_get_agent", "try_get_underlying_agent_instance", "add_subscription",
        "remove_subscription", "get", "add_message_serializer", "_try_serialize",
    }  # fmt: skip
    assert set(vars(SingleThreadedAgentRuntime())) == {
        "_tracer_helper", "_message_queue", "_agent_factories", "_instantiated_agents", "_intervention_handlers",
        "_background_tasks", "_subscription_manager", "_run_context", "_serialization_registry",
        "_ignore_unhandled_handler_exceptions", "_background_exception", "_agent_instance_types",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (SingleThreadedAgentRuntime.start, ["self"]),
        (SingleThreadedAgentRuntime._process_next, ["self"]),
        (runtime_module.RunContext.stop, ["self"]),
        (SingleThreadedAgentRuntime._try_serialize, ["self", "message"]),
        (
            SingleThreadedAgentRuntime._create_otel_attributes,
            ["self", "sender_agent_id", "recipient_agent_id", "message_context", "message"],
        ),
        (
            TraceHelper.trace_block,
            ["self", "operation", "destination", "parent", "extraAttributes", "kind", "attributes", "start_time",
             "record_exception", "set_status_on_exception", "end_on_exit"],
        ),
        (runtime_module.get_telemetry_envelope_metadata, []),  # type: ignore[attr-defined]
        (runtime_module._warn_if_none, ["value", "handler_name"]),
        (events.MessageEvent.__init__, ["self", "payload", "sender", "receiver", "kind", "delivery_stage", "kwargs"]),
        (_genai.trace_tool_span, ["tool_name", "tracer", "parent", "tool_description", "tool_call_id"]),
        (_genai.trace_invoke_agent_span, ["agent_name", "tracer", "parent", "agent_id", "agent_description"]),
        (_genai.trace_create_agent_span, ["agent_name", "tracer", "parent", "agent_id", "agent_description"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)  # fmt: skip
def test_signatures_of_the_seams(function: Any, expected: list[str]) -> None:
    """What we stand in for takes what it took."""
    assert parameters(function) == expected


def test_stages_and_their_order() -> None:
    """The stages that the trace helper is told of, as often as they stand in the runtime's source."""
    source = inspect.getsource(SingleThreadedAgentRuntime)
    counted = {
        stage: source.count(f'trace_block(\n            "{stage}"')
        + source.count(f'trace_block(\n                    "{stage}"')
        + source.count(f'trace_block(\n                            "{stage}"')
        + source.count(f'trace_block("{stage}"')
        + source.count(f'trace_block(\n                        "{stage}"')
        for stage in ("create", "intercept", "send", "publish", "process", "ack")
    }
    assert counted == {"create": 2, "intercept": 2, "send": 1, "publish": 1, "process": 2, "ack": 1}
    assert source.count("trace_block(") == 9


def test_what_is_read_in_the_frames_of_the_runtime() -> None:
    """Names of variables that are looked at when a message ends where AutoGen opens no stage, and when a loop ends."""
    publish = SingleThreadedAgentRuntime._process_publish.__code__
    assert {"message_envelope", "recipients"} <= {*publish.co_varnames, *publish.co_cellvars}
    process_next = SingleThreadedAgentRuntime._process_next.__code__
    assert {"message_envelope", "temp_message", "handler"} <= set(process_next.co_varnames)
    # The factory runs inside this context, and nothing else in the module uses the name.
    source = inspect.getsource(SingleThreadedAgentRuntime)
    assert source.count("with AgentInstantiationContext.populate_context((self, agent_id)):") == 1
    assert inspect.getsource(runtime_module).count("AgentInstantiationContext.") == 1
    # From the beginning of a send to its passport, nothing is awaited but the queue that the passport goes into.
    send = inspect.getsource(SingleThreadedAgentRuntime.send_message)
    between = send[send.index('"create",') : send.index("get_telemetry_envelope_metadata()")]
    assert between.count("await") == 2
    assert "return await future" in between
    assert "await self._message_queue.put(" in between


def test_the_passport_stands_in_for_the_envelope_metadata() -> None:
    """It has every field that AutoGen's own metadata has."""
    from instrumentation.hooks.passport import Passport

    assert all(hasattr(Passport, field) for field in EnvelopeMetadata.__dataclass_fields__)


def test_the_envelope_can_be_found_from_a_stage() -> None:
    """A turn that is cancelled asks whether its sender still waits: the envelope's future, in the caller's frame."""
    for method in (SingleThreadedAgentRuntime._process_send, SingleThreadedAgentRuntime._process_publish):
        assert parameters(method) == ["self", "message_envelope"]
    assert "future" in runtime_module.SendMessageEnvelope.__dataclass_fields__  # type: ignore[attr-defined]
    assert "if not message_envelope.future.cancelled():" in inspect.getsource(SingleThreadedAgentRuntime._process_send)


def test_component_methods() -> None:
    """Each wrapped method exists on the class that the table names, and the class is a component."""
    classes = (
        ChatCompletionClient, BaseGroupChat, BaseChatAgent, BaseStreamTool, UserProxyAgent, TerminationCondition,
        CodeExecutor, Workbench, StreamWorkbench, Memory,
    )  # fmt: skip
    by_name = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in classes}
    for base, method in {**seams.METHODS, **{(seams.CLIENT, name): None for name in seams.MODEL_CALLS}}:
        assert callable(vars(by_name[base])[method]), (base, method)
        assert issubclass(by_name[base], ComponentBase)
    assert "__init_subclass__" not in vars(ComponentBase)
    assert set(CreateResult.model_fields) == {"finish_reason", "content", "usage", "cached", "logprobs", "thought"}
    assert "trace_tool_span" in inspect.getsource(BaseTool.run_json)
    assert "self.run_stream(" in inspect.getsource(BaseGroupChat.run)


def test_what_workbenches_and_memories_answer() -> None:
    """The parts of their answers that are read, and how a tool of a workbench makes itself known."""
    assert set(ToolResult.model_fields) == {"type", "name", "result", "is_error"}
    assert set(TextResultContent.model_fields) == {"type", "content"}
    assert set(MemoryQueryResult.model_fields) == {"results"}
    assert set(UpdateContextResult.model_fields) == {"memories"}
    assert parameters(Workbench.call_tool)[:3] == ["self", "name", "arguments"]
    assert parameters(StreamWorkbench.call_tool_stream)[:3] == ["self", "name", "arguments"]
    assert {name for name in members(Memory) if not name.startswith("_")} == {
        "component_type", "update_context", "query", "add", "clear", "close",
    }  # fmt: skip
    # A tool describes itself; a workbench passes on what it was asked for, and no description.
    assert "tool_description=self._description" in inspect.getsource(BaseTool.run_json)
    assert "tool_description=self._description" in inspect.getsource(BaseStreamTool.run_json_stream)
    assert inspect.getsource(_genai.trace_tool_span).count("GEN_AI_TOOL_DESCRIPTION") == 1
    assert _genai.GEN_AI_TOOL_DESCRIPTION == agents_and_tools._DESCRIPTION


def test_the_queue_keeps_its_envelopes_in_order() -> None:
    """Waiting messages are read where they stand; each envelope has its metadata."""
    runtime = SingleThreadedAgentRuntime()
    assert isinstance(runtime._message_queue._queue, collections.deque)  # type: ignore[attr-defined]
    for envelope in ("PublishMessageEnvelope", "SendMessageEnvelope", "ResponseMessageEnvelope"):
        assert "metadata" in getattr(runtime_module, envelope).__dataclass_fields__
