"""OTLP over gRPC: the Export methods of the three services, raw bytes in and out.

The handlers take bytes and leave parsing to the redactor: a generated servicer would answer INTERNAL for what
it cannot parse, and exporters take that for our fault. What an export is answered is for `verdicts` to say.

What it refuses: to wait for a body without an end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from sidecar.ledger import Ledger
from sidecar.network.otlp import SERVICES, Service
from sidecar.senders.clients import shown_by

from .admission import Admission, Malformed
from .patience import Patience
from .verdicts import Refusal, Verdicts, incomplete

_CODES: Final = {code.name.lower(): code for code in grpc.StatusCode}


class InFlight:
    """Counts exports between their first byte of work and the end of their RPC, for a stop in good order."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def enter(self, context: grpc.ServicerContext) -> None:
        """One more, until the RPC has ended and its answer has been sent."""
        with self._changed:
            self._count += 1
        if not context.add_callback(self._leave):
            self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_for_none(self, timeout: float) -> bool:
        """Wait until none is left, at most `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, timeout)


class Export:
    """The handler of one Export method. Never raises but through `context.abort`."""

    def __init__(
        self,
        service: Service,
        verdicts: Verdicts,
        in_flight: InFlight,
        pool: ThreadPoolExecutor,
        patience: Patience,
    ) -> None:
        self._signal = service.signal
        self._verdicts = verdicts
        self._in_flight = in_flight
        self._patience = patience
        # gRPC looks for this name: exports have threads of their own, which streams that last for ever cannot
        # occupy.
        self.experimental_thread_pool = pool

    def __call__(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._in_flight.enter(context)
        try:
            return self._verdicts.export(
                self._signal,
                shown_by(context),
                context.peer(),
                context.cancel,
                lambda: self._receive(requests, context),
            )
        except Refusal as refusal:
            _abort(context, refusal)

    def _receive(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """The one request of the call; a sender that dawdles over it is cut off, for it holds a thread."""
        try:
            with self._patience.limits(context.cancel):
                request = next(requests, None)
        except Exception:  # noqa: BLE001  # gRPC raises a bare Exception for a call that has ended
            raise incomplete() from None
        if request is None:
            raise Malformed
        return request


def handlers(
    admission: Admission,
    ledger: Ledger,
    in_flight: InFlight,
    pool: ThreadPoolExecutor,
    patience: Patience,
) -> list[grpc.GenericRpcHandler]:
    """The handlers of all three services, on raw bytes.

    As streams of one request: gRPC gives a unary handler no say until its request is complete, however long
    that takes. On the wire the two are the same.
    """
    verdicts = Verdicts(admission, ledger)
    return [
        grpc.method_handlers_generic_handler(
            service.name,
            {
                "Export": grpc.stream_unary_rpc_method_handler(
                    Export(service, verdicts, in_flight, pool, patience),
                    request_deserializer=None,
                    response_serializer=None,
                )
            },
        )
        for service in SERVICES.values()
    ]


def _abort(context: grpc.ServicerContext, refusal: Refusal) -> NoReturn:
    code = _CODES[refusal.status]
    if refusal.retry_after is not None:
        context.set_trailing_metadata(_retry_info(code, refusal.text, refusal.retry_after))
    context.abort(code, refusal.text)
    raise AssertionError("abort always raises")


def _retry_info(code: grpc.StatusCode, text: str, seconds: float) -> tuple[tuple[str, bytes], ...]:
    """RetryInfo in both places where senders look: OTLP's own, and the one that Python's exporter reads."""
    whole = int(seconds)
    delay = Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
    info = error_details_pb2.RetryInfo(retry_delay=delay)
    status = status_pb2.Status(code=code.value[0], message=text)
    status.details.add().Pack(info)
    return (
        ("grpc-status-details-bin", status.SerializeToString()),
        ("google.rpc.retryinfo-bin", info.SerializeToString()),
    )
