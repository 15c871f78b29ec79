"""Fails when AutoGen's distributed runtime is another than the one that the hooks were written for.

As in `test_autogen_surface.py`: a failure says which hook has to be looked at.
"""

from __future__ import annotations

import inspect
from typing import Any

import autogen_ext.runtimes.grpc._constants as constants
import autogen_ext.runtimes.grpc._worker_runtime as worker_module
import autogen_ext.runtimes.grpc._worker_runtime_host_servicer as host_module
import pytest
from autogen_core._runtime_impl_helpers import SubscriptionManager
from autogen_core._serialization import SerializationRegistry
from autogen_core._telemetry import get_telemetry_grpc_metadata
from autogen_ext.runtimes.grpc._worker_runtime import GrpcWorkerAgentRuntime, HostConnection
from autogen_ext.runtimes.grpc._worker_runtime_host_servicer import GrpcWorkerAgentRuntimeHostServicer
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, cloudevent_pb2

from instrumentation.hooks import arrival, host, worker


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (GrpcWorkerAgentRuntime.start, ["self"]),
        (
            GrpcWorkerAgentRuntime._send_message,
            ["self", "runtime_message", "send_type", "recipient", "telemetry_metadata"],
        ),
        (GrpcWorkerAgentRuntime._process_request, ["self", "request"]),
        (GrpcWorkerAgentRuntime._process_event, ["self", "event"]),
        (GrpcWorkerAgentRuntime._process_response, ["self", "response"]),
        (get_telemetry_grpc_metadata, ["existingMetadata"]),
        (GrpcWorkerAgentRuntimeHostServicer._process_request, ["self", "request", "client_id"]),
        (GrpcWorkerAgentRuntimeHostServicer._process_event, ["self", "event"]),
        (GrpcWorkerAgentRuntimeHostServicer._process_response, ["self", "response", "client_id"]),
        (GrpcWorkerAgentRuntimeHostServicer._wait_and_send_response, ["self", "future", "client_id"]),
        (SubscriptionManager.__init__, ["self"]),
        (SerializationRegistry.is_registered, ["self", "type_name", "data_content_type"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_signatures_of_the_seams(function: Any, expected: list[str]) -> None:
    """What we stand in for takes what it took."""
    assert parameters(function) == expected


def test_the_modules_are_where_they_were() -> None:
    """The names under which they are looked for among what is imported."""
    assert worker_module.__name__ == worker.MODULE
    assert host_module.__name__ == host.MODULE
    assert GrpcWorkerAgentRuntime.__name__ == worker.CLASS
    assert GrpcWorkerAgentRuntimeHostServicer.__name__ == host.CLASS


def test_what_is_read_of_the_instances() -> None:
    """Attributes of workers, hosts and connections."""
    assert {
        "_trace_helper", "_running", "_host_connection", "_agent_factories", "_instantiated_agents",
        "_subscription_manager", "_serialization_registry", "_pending_requests",
    } <= set(vars(GrpcWorkerAgentRuntime("127.0.0.1:1")))  # fmt: skip
    assert {"_agent_type_to_client_id", "_data_connections", "_subscription_manager"} <= set(
        vars(GrpcWorkerAgentRuntimeHostServicer())
    )
    assert "_subscribed_recipients" in vars(SubscriptionManager())
    assert "instance._connection_task = await" in inspect.getsource(HostConnection.from_host_address)


def test_every_runtime_and_host_has_a_subscription_manager() -> None:
    """Making one is what tells us of a module that was imported late."""
    for cls in (GrpcWorkerAgentRuntime, GrpcWorkerAgentRuntimeHostServicer):
        assert inspect.getsource(cls.__init__).count("SubscriptionManager()") == 1


def test_stages_and_metadata_of_a_worker() -> None:
    """The stages that the trace helper is told of; who asks for metadata, and what is awaited before."""
    source = inspect.getsource(GrpcWorkerAgentRuntime)
    assert source.count("trace_block(") == 6
    assert source.count('"process",') == 2
    assert source.count('"create",') == 2
    assert source.count('"ack",') == 1
    assert inspect.getsource(worker_module).count("AgentInstantiationContext.") == 1
    asking = {
        name for name, method in vars(GrpcWorkerAgentRuntime).items()
        if inspect.isfunction(method) and "get_telemetry_grpc_metadata()" in inspect.getsource(method)
    }  # fmt: skip
    assert asking == {"send_message", "publish_message", "_process_request"}
    send = GrpcWorkerAgentRuntime.send_message
    assert {"self", "request_id"} <= set(send.__code__.co_varnames)
    text = inspect.getsource(send)
    between = text[text.index('"create",') : text.index("get_telemetry_grpc_metadata()")]
    assert between.count("await") == 1
    assert "await self._get_new_request_id()" in between
    # A published message is complete but for the trace context when it is given to the task that sends it.
    assert "self._send_message(runtime_message, " in inspect.getsource(GrpcWorkerAgentRuntime.publish_message)


def test_a_task_for_everything_that_arrives() -> None:
    """What is bound there is bound for that message alone."""
    for source, names in (
        (GrpcWorkerAgentRuntime._run_read_loop, ("request", "response", "event")),
        (GrpcWorkerAgentRuntimeHostServicer._receive_message, ("request", "response", "event")),
    ):
        for name in names:
            assert f"create_task(self._process_{name}(" in inspect.getsource(source)
    assert "create_task(self._wait_and_send_response(future, client_id))" in inspect.getsource(
        GrpcWorkerAgentRuntimeHostServicer._process_request
    )


def test_fields_on_the_wire() -> None:
    """Where trace context and sender stand in requests, responses and events."""
    fields = {field.name for field in agent_worker_pb2.RpcRequest.DESCRIPTOR.fields}
    assert {"request_id", "target", "source", "metadata", "payload"} <= fields
    assert {"request_id", "metadata"} <= {field.name for field in agent_worker_pb2.RpcResponse.DESCRIPTOR.fields}
    assert {"type", "source", "attributes"} <= {field.name for field in cloudevent_pb2.CloudEvent.DESCRIPTOR.fields}
    assert (constants.AGENT_SENDER_TYPE_ATTR, constants.AGENT_SENDER_KEY_ATTR) == (
        arrival.SENDER_TYPE, arrival.SENDER_KEY,
    )  # fmt: skip
    assert 'AgentId("unknown", "unknown")' in inspect.getsource(GrpcWorkerAgentRuntime.publish_message)
