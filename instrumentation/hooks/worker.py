"""A worker of AutoGen's distributed runtime: what comes in from another process, and what goes out to it.

`GrpcWorkerAgentRuntime` knows no intervention handlers and logs no events. It makes a task for each thing that arrives,
in the context of whoever called `start()`; that task is where the tenant is bound here, and its message is read back
into a `Passport`. From there on it is as in one process: the same stages, activities and metrics (see `runtime.py`).

| what arrives | what happens here |
| --- | --- |
| a request | tenant and budget are bound; `process` around the handler; the answer says whose it is |
| an event (something was published) | the same, for the handlers of all subscribers in this process |
| a response | its caller's tenant is bound; an answer to somebody else's question is found |
| the end of the connection | counted; AutoGen does not connect again, and every call that waits waits for ever |

AutoGen hands the trace context of an event to nobody: here it becomes attributes of the event, under the names that
CloudEvents' extension for distributed tracing gives them.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakSet

from autogen_core import TopicId

from instrumentation import budgets, tenancy
from instrumentation.activity import Outcome, name_of
from instrumentation.conventions import OTHER_ERROR
from instrumentation.diagnostics import fault
from instrumentation.isolation import Isolation
from instrumentation.telemetry.recorder import Recorder

from . import unread_lines
from .arrival import ARRIVED, Arrival, Came, about_handling, known_sender, of_event, of_request
from .construction import InstantiationTap
from .methods import in_place_of
from .passport import Awaited, PassportAbroad, issue_passport
from .runtime import DELIVERING, NO_STAGE, About, Stage, TraceTap
from .tracestate import Wire
from .waiting import Waiting

MODULE: Final = "autogen_ext.runtimes.grpc._worker_runtime"
CLASS: Final = "GrpcWorkerAgentRuntime"


class WorkerTap:
    """Stands where a worker's `TraceHelper` stands."""

    def __init__(self, tap: TraceTap) -> None:
        self._tap = tap

    def trace_block(
        self,
        operation: str,
        destination: Any,
        parent: Any,
        *,
        extraAttributes: Mapping[str, Any] | None = None,  # noqa: N803  # AutoGen's
        **_: Any,
    ) -> Stage:
        """What `TraceHelper.trace_block` is to a worker. Never raises."""
        try:
            if operation == "create":
                return self._tap.create(destination)
            if operation == "process":
                arrival = ARRIVED.get()
                if arrival is None:
                    return self._tap.process(destination, None, About())
                about = about_handling(arrival, destination, (extraAttributes or {}).get("message_type"))
                return self._tap.process(destination, arrival.passport, about)
        except BaseException as error:
            fault("stage", error)
        return NO_STAGE


class Worker:
    """What is changed of a worker's class and module."""

    def __init__(
        self, recorder: Recorder, isolation: Isolation, tap: TraceTap, wire: Wire, waiting: Waiting, awaited: Awaited
    ) -> None:
        self._recorder = recorder
        self._isolation = isolation
        self._tap = tap
        self._worker_tap = WorkerTap(tap)
        self._wire = wire
        self._waiting = waiting
        self._awaited = awaited
        self._connections: WeakSet[asyncio.Task[None]] = WeakSet()

    def changes(self, module: Any) -> list[tuple[Any, str, Any]]:
        """(owner, name, what is to stand there) for AutoGen's module; nothing while that is still being imported.

        Raises:
            AttributeError: it lacks one of them, and should be left alone.
        """
        runtime = getattr(module, CLASS, None)
        if runtime is None:
            return []
        return [
            (runtime, "_trace_helper", in_place_of("_trace_helper", lambda _: self._worker_tap)),
            (runtime, "start", self._start(runtime.start)),
            (runtime, "_send_message", self._send_message(runtime._send_message)),  # noqa: SLF001
            (runtime, "_process_request", self._process_request(runtime._process_request)),  # noqa: SLF001
            (runtime, "_process_event", self._process_event(runtime._process_event)),  # noqa: SLF001
            (runtime, "_process_response", self._process_response(runtime._process_response)),  # noqa: SLF001
            (module, "get_telemetry_grpc_metadata", self._metadata(module.get_telemetry_grpc_metadata)),
            (module, "AgentInstantiationContext", InstantiationTap(module.AgentInstantiationContext, self._recorder)),
            *unread_lines.changes(module.HostConnection),
        ]

    # The connection -------------------------------------------------------------------------------------------------
    def _start(self, start: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(start)
        async def start_unbound(runtime: Any) -> None:
            # The tasks that read and write inherit the context of whoever starts them; they work for no tenant.
            before, budget_before = tenancy.BOUND.get(), budgets.BOUND.get()
            tenancy.bind(None)
            budgets.bind(None)
            try:
                await start(runtime)
            finally:
                tenancy.bind(before)
                budgets.bind(budget_before)
            self._works(runtime)

        return start_unbound

    def _works(self, runtime: Any) -> None:
        """On the running loop. A worker that was started before us is met when something arrives. Never raises."""

        def ended(task: asyncio.Task[None]) -> None:
            try:
                if runtime._running and not self._recorder.retired:  # noqa: SLF001  # not closed by the application
                    # Not `exception()`, which would tell asyncio that somebody has taken care of it.
                    error = None if task.cancelled() else getattr(task, "_exception", None)
                    kind = OTHER_ERROR if error is None else name_of(type(error).__name__)
                    self._recorder.error(tenancy.TABLE.unknown.id, "connection", kind)
            except Exception as broken:
                fault("connection", broken)

        try:
            self._waiting.dispatches(runtime)
            reading = runtime._host_connection._connection_task  # noqa: SLF001
            if reading not in self._connections:
                self._connections.add(reading)
                reading.add_done_callback(ended, context=contextvars.Context())
        except Exception as error:
            fault("connection", error)

    # Out ------------------------------------------------------------------------------------------------------------
    def _metadata(self, original: Callable[..., dict[str, str]]) -> Callable[..., dict[str, str]]:
        @functools.wraps(original)
        def metadata(*args: Any, **kwargs: Any) -> dict[str, str]:
            """Called once a message, in its sender's context, and once an answer, in that of the request's task."""
            try:
                caller = sys._getframe(1)  # noqa: SLF001
                arrival = ARRIVED.get()
                if caller.f_code.co_name == "_process_request":
                    return {} if arrival is None else self._wire.answer(arrival.passport)
                passport = issue_passport(PassportAbroad)
                if passport is not None:
                    if caller.f_code.co_name == "send_message":
                        self._awaited.put(caller.f_locals["self"], caller.f_locals["request_id"], passport)
                    return self._wire.write(passport)
            except BaseException as error:
                fault("metadata", error)
            return original(*args, **kwargs)

        return metadata

    def _send_message(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def send_message(
            runtime: Any, runtime_message: Any, send_type: str, recipient: Any, telemetry_metadata: Any
        ) -> None:
            try:
                if send_type == "publish":
                    for name, value in telemetry_metadata.items():
                        runtime_message.cloudEvent.attributes[name].ce_string = value
            except BaseException as error:
                fault("event", error)
            await original(runtime, runtime_message, send_type, recipient, telemetry_metadata)

        return send_message

    # In -------------------------------------------------------------------------------------------------------------
    def _process_request(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def process_request(runtime: Any, request: Any) -> None:
            arrival = self._arrive(runtime, of_request, request)
            try:
                await original(runtime, request)
            except BaseException as error:
                self._failed(arrival, error)
                raise

        return process_request

    def _process_event(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def process_event(runtime: Any, event: Any) -> None:
            arrival = self._arrive(runtime, of_event, event)
            try:
                await original(runtime, event)
            except BaseException as error:
                self._failed(arrival, error)
                raise
            self._unhandled(arrival, event)

        return process_event

    def _process_response(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        async def process_response(runtime: Any, response: Any) -> None:
            try:
                self._answered(runtime, response)
            except BaseException as error:
                fault("response", error)
            await original(runtime, response)

        return process_response

    def _arrive(self, runtime: Any, reader: Callable[[Any], Came], message: Any) -> Arrival | None:
        """Bind this task, which is the message's own, to what came with it."""
        try:
            self._works(runtime)
            metadata, kind, sender = reader(message)
            passport = self._wire.read(metadata)
            arrival = Arrival(runtime, passport, kind, known_sender(runtime, passport, sender))
            tenancy.bind(passport.binding)
            budgets.bind(passport.budget)
            DELIVERING.set(passport)
            ARRIVED.set(arrival)
            return arrival
        except BaseException as error:
            fault("arrival", error)
            return None

    def _failed(self, arrival: Arrival | None, error: BaseException) -> None:
        """The message's task ended with an exception: AutoGen tells nobody, and a caller waits for ever."""
        try:
            if arrival is None or self._recorder.retired:
                return
            kind = name_of(type(error).__name__)
            tenant = arrival.passport.tenant.id
            cancelled = kind == "CancelledError"
            if arrival.passport.handled is None:  # no such agent, one that could not be made, no such message
                self._recorder.lost_message(tenant, Outcome.CANCELLED if cancelled else Outcome.ERROR)
            elif not cancelled:  # an answer that cannot be written
                self._recorder.error(tenant, "respond", kind)
        except BaseException as broken:
            fault("arrival", broken)

    def _unhandled(self, arrival: Arrival | None, event: Any) -> None:
        try:
            if arrival is None or arrival.passport.handled is not None or self._recorder.retired:
                return
            subscribers = arrival.runtime._subscription_manager._subscribed_recipients  # noqa: SLF001
            if not subscribers.get(TopicId(event.type, event.source)):
                self._recorder.lost_message(arrival.passport.tenant.id, Outcome.UNHANDLED)
        except BaseException as error:
            fault("arrival", error)

    def _answered(self, runtime: Any, response: Any) -> None:
        self._works(runtime)
        passport = self._awaited.get(runtime, response.request_id)
        if passport is None or self._recorder.retired:
            return
        passport.ended = True
        tenancy.bind(passport.binding)
        answer = self._wire.read(response.metadata)
        if answer.believed:
            self._tap.answered(passport.tenant, answer.sent_ns)
        # Without a mark it is of a worker that nobody watches, and its trace context is of that worker's start.
        if answer.marked and answer.trace_id != passport.trace_id:
            self._isolation.crossed(passport.tenant, answer.tenant if answer.believed else None)
