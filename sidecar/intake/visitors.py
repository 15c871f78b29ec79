"""What anybody may ask of the server itself, without credentials: is it well, and what does it serve.

Whoever asks takes a thread until the question is there and answered, and may never end it. So there are places for a
few, and whoever came first gives way when another needs one: a probe is answered however many dawdle.

What it refuses: to tell anybody of a change of health later (`Watch`): that would be remembered for each who asked, and
who asks `Check` again knows as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

#: At once. Each takes one of the threads that streams have.
MOST_VISITS: Final = 16


class Visitors:
    """Answers them. Thread-safe.

    Args:
        services: the full names of what else is served.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._services = services
        self._health = health.HealthServicer()
        self._reflection = reflection.ReflectionServicer((*services, health.SERVICE_NAME, reflection.SERVICE_NAME))
        self._lock = threading.Lock()
        self._here: dict[grpc.ServicerContext, None] = {}  # in the order of arrival

    def serving(self) -> None:
        """All is well from now on."""
        for name in ("", *self._services):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def closing(self) -> None:
        """Nothing is, until the end."""
        self._health.enter_graceful_shutdown()

    def add_to(self, server: grpc.Server) -> None:
        """Register both; before the server starts."""
        # As streams: gRPC waits in a thread for the question of a unary call, and nothing of ours is asked meanwhile.
        check = grpc.stream_unary_rpc_method_handler(
            self._check,
            health_pb2.HealthCheckRequest.FromString,
            health_pb2.HealthCheckResponse.SerializeToString,
        )
        describe = grpc.stream_stream_rpc_method_handler(
            self._describe,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(health.SERVICE_NAME, {"Check": check}),
                grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, {"ServerReflectionInfo": describe}),
            )
        )

    def _check(
        self, questions: Iterator[health_pb2.HealthCheckRequest], context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        with self._visit(context):
            for question in questions:
                return self._health.Check(question, context)
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no question")
        raise AssertionError("abort always raises")

    def _describe(
        self, questions: Iterator[reflection_pb2.ServerReflectionRequest], context: grpc.ServicerContext
    ) -> Iterator[reflection_pb2.ServerReflectionResponse]:
        with self._visit(context):
            yield from self._reflection.ServerReflectionInfo(questions, context)

    @contextmanager
    def _visit(self, context: grpc.ServicerContext) -> Iterator[None]:
        with self._lock:
            first = next(iter(self._here)) if len(self._here) >= MOST_VISITS else None
            if first is not None:
                del self._here[first]
            self._here[context] = None
        if first is not None:
            first.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._here.pop(context, None)
