"""The host of AutoGen's distributed runtime, where it runs in a process that is watched: whom its loop works for, and
what becomes of messages that reach no worker.

The host hands on what it gets and tells nobody when it cannot: a call of an agent that no worker has, or of one whose
worker goes away in the middle, is never answered. Only the host sees that, so it is counted here.

What it refuses: to say anything of a tenant that it may not believe. It has the same keys as the workers, or all
messages are `unknown` here. What a worker will find, a forgery say, is not counted twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from autogen_core import TopicId

from instrumentation import tenancy
from instrumentation.activity import Outcome, name_of
from instrumentation.diagnostics import fault
from instrumentation.telemetry.recorder import Recorder

from . import unread_lines
from .arrival import of_event
from .tracestate import Wire

MODULE: Final = "autogen_ext.runtimes.grpc._worker_runtime_host_servicer"
CLASS: Final = "GrpcWorkerAgentRuntimeHostServicer"


class Host:
    """What is changed of the host's class."""

    def __init__(self, recorder: Recorder, wire: Wire) -> None:
        self._recorder = recorder
        self._wire = wire

    def changes(self, module: Any) -> list[tuple[Any, str, Any]]:
        """(owner, name, what is to stand there) for AutoGen's module; nothing while that is still being imported.

        Raises:
            AttributeError: it lacks one of them, and should be left alone.
        """
        servicer = getattr(module, CLASS, None)
        if servicer is None:
            return []
        return [
            (servicer, "_process_request", self._process_request(servicer._process_request)),  # noqa: SLF001
            (servicer, "_process_event", self._process_event(servicer._process_event)),  # noqa: SLF001
            (servicer, "_process_response", self._process_response(servicer._process_response)),  # noqa: SLF001
            (servicer, "_wait_and_send_response", self._wait(servicer._wait_and_send_response)),  # noqa: SLF001
            *unread_lines.changes(module.ChannelConnection),
            *unread_lines.changes(servicer),
        ]

    def _process_request(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def process_request(servicer: Any, request: Any, client_id: str) -> None:
            self._bind(lambda: request.metadata)
            self._guarded(self._undeliverable, servicer, request)
            await original(servicer, request, client_id)

        return process_request

    def _process_event(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def process_event(servicer: Any, event: Any) -> None:
            self._bind(lambda: of_event(event)[0])
            await original(servicer, event)
            self._guarded(self._unhandled, servicer, event)

        return process_event

    def _process_response(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def process_response(servicer: Any, response: Any, client_id: str) -> None:
            self._bind(lambda: response.metadata)
            try:
                await original(servicer, response, client_id)
            except Exception as error:  # nobody waits for it: another call had its number
                self._guarded(self._failed, "respond", type(error).__name__)
                raise

        return process_response

    def _wait(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def wait_and_send_response(servicer: Any, future: Any, client_id: str) -> None:
            # In a task that was made where the request was bound.
            try:
                await original(servicer, future, client_id)
            except BaseException as error:
                if future.cancelled():  # the worker has gone; how far it was with the message is not known
                    self._guarded(self._failed, "deliver", type(error).__name__)
                raise

        return wait_and_send_response

    def _bind(self, metadata: Callable[[], Mapping[str, str]]) -> None:
        try:
            tenancy.bind(self._wire.read(metadata(), report=False).binding)
        except BaseException as error:
            fault("host", error)

    def _undeliverable(self, servicer: Any, request: Any) -> None:
        client = servicer._agent_type_to_client_id.get(request.target.type)  # noqa: SLF001
        if client is None or client not in servicer._data_connections:  # noqa: SLF001
            self._recorder.lost_message(_tenant(), Outcome.UNHANDLED)

    def _unhandled(self, servicer: Any, event: Any) -> None:
        topic = TopicId(event.type, event.source)
        recipients = servicer._subscription_manager._subscribed_recipients.get(topic, ())  # noqa: SLF001
        if not any(recipient.type in servicer._agent_type_to_client_id for recipient in recipients):  # noqa: SLF001
            self._recorder.lost_message(_tenant(), Outcome.UNHANDLED)

    def _failed(self, what: str, error_type: str) -> None:
        self._recorder.error(_tenant(), what, name_of(error_type))

    def _guarded(self, tell: Callable[..., None], *about: Any) -> None:
        try:
            if not self._recorder.retired:
                tell(*about)
        except BaseException as error:
            fault("host", error)


def _tenant() -> str:
    return (tenancy.current() or tenancy.TABLE.unknown).id
