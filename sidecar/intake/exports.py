"""The Export methods of the three OTLP services: raw bytes to the next stage, its verdict back as a gRPC
status.

The handlers take bytes and leave parsing to the redactor: a generated servicer would answer INTERNAL for what
it cannot parse, and exporters take that for our fault. This is the one place where a verdict becomes a
status:

| verdict | status | what OTLP exporters do |
| --- | --- | --- |
| taken, n records dropped by the policy | OK, `partial_success` when n > 0 | go on |
| `Malformed` | INVALID_ARGUMENT | drop, never retry |
| `Busy` | UNAVAILABLE and RetryInfo | retry |
| any other exception | INTERNAL | drop: a request that broke the redactor does not get a second chance |
| the caller is no client | UNAUTHENTICATED, before anything of the body is read | drop, until they are configured |
| the request never ends, or is too large | CANCELLED; gRPC's own RESOURCE_EXHAUSTED | retry |

What it refuses: to let anything of a request, its metadata or an exception's text into an answer or the log.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NoReturn

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from sidecar.accounting import Ledger
from sidecar.clients import Unknown, shown_by
from sidecar.otlp import SERVICES, Service

from .admission import Admission, Busy, Malformed

MALFORMED: Final = "the request is not valid OTLP"
BUSY: Final = "nothing can be taken now, try again later"
UNAUTHENTICATED: Final = "no valid credentials"
FAULT: Final = "internal error"
INCOMPLETE: Final = "the request did not arrive in time"
DROPPED: Final = "records dropped by the redaction policy"

log = structlog.get_logger("sidecar.intake")


class _Incomplete(Exception):  # noqa: N818  # a verdict, not an error
    """The request did not arrive."""


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
        admission: Admission,
        ledger: Ledger,
        in_flight: InFlight,
        pool: ThreadPoolExecutor,
        body_seconds: float,
    ) -> None:
        self._service = service
        self._admission = admission
        self._ledger = ledger
        self._in_flight = in_flight
        self._body_seconds = body_seconds
        self._reported: set[str] = set()
        # gRPC looks for this name: exports have threads of their own, which streams that last for ever cannot
        # occupy.
        self.experimental_thread_pool = pool

    def __call__(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        self._in_flight.enter(context)
        signal = self._service.signal
        try:
            client = self._admission.identify(*shown_by(context))
            with self._admission.turn(client, context.peer(), context.cancel) as turn:
                request = self._receive(requests, context)
                turn.read()
                dropped = self._admission.take(signal, request, client)
        except Unknown:
            self._refuse(context, grpc.StatusCode.UNAUTHENTICATED, UNAUTHENTICATED, "unknown_client")
        except _Incomplete:
            self._refuse(context, grpc.StatusCode.CANCELLED, INCOMPLETE, "incomplete")
        except Malformed as malformed:
            self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, MALFORMED, malformed.reason)
        except Busy as busy:
            context.set_trailing_metadata(_retry_info(busy.retry_after))
            self._refuse(context, grpc.StatusCode.UNAVAILABLE, BUSY, busy.reason)
        except Exception as error:  # noqa: BLE001  # whatever it is, its text may hold content
            self._report(type(error).__name__)
            self._refuse(context, grpc.StatusCode.INTERNAL, FAULT, "fault")
        self._ledger.answered(signal, "ok")
        return self._service.partial_success(dropped, DROPPED)

    def _receive(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """The one request of the call; a sender that dawdles over it is cut off, for it holds a thread."""
        patience = threading.Timer(self._body_seconds, context.cancel)
        patience.daemon = True
        patience.start()
        try:
            request = next(requests, None)
        except Exception:  # noqa: BLE001  # gRPC raises a bare Exception for a call that has ended
            raise _Incomplete from None
        finally:
            patience.cancel()
        if request is None:
            raise Malformed
        return request

    def _report(self, kind: str) -> None:
        """One line for each type of exception; the metric counts requests."""
        if kind not in self._reported:
            self._reported.add(kind)
            log.error("export failed", signal=self._service.signal, error=kind)

    def _refuse(self, context: grpc.ServicerContext, code: grpc.StatusCode, details: str, reason: str) -> NoReturn:
        self._ledger.answered(self._service.signal, code.name.lower(), reason)
        context.abort(code, details)
        raise AssertionError("abort always raises")


def handlers(
    admission: Admission,
    ledger: Ledger,
    in_flight: InFlight,
    pool: ThreadPoolExecutor,
    body_seconds: float,
) -> list[grpc.GenericRpcHandler]:
    """The handlers of all three services, on raw bytes.

    As streams of one request: gRPC gives a unary handler no say until its request is complete, however long
    that takes. On the wire the two are the same.
    """
    return [
        grpc.method_handlers_generic_handler(
            service.name,
            {
                "Export": grpc.stream_unary_rpc_method_handler(
                    Export(service, admission, ledger, in_flight, pool, body_seconds),
                    request_deserializer=None,
                    response_serializer=None,
                )
            },
        )
        for service in SERVICES.values()
    ]


def _retry_info(seconds: float) -> tuple[tuple[str, bytes], ...]:
    """RetryInfo in both places where senders look: OTLP's own, and the one that Python's exporter reads."""
    whole = int(seconds)
    delay = Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))
    info = error_details_pb2.RetryInfo(retry_delay=delay)
    status = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message=BUSY)
    status.details.add().Pack(info)
    return (
        ("grpc-status-details-bin", status.SerializeToString()),
        ("google.rpc.retryinfo-bin", info.SerializeToString()),
    )
