"""The upstream: any OTLP/gRPC receiver, usually a Collector.

Redacted bytes go out as they are. What comes back becomes a verdict by OTLP's table of retryable codes:
CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE and DATA_LOSS are retried, RESOURCE_EXHAUSTED
only with RetryInfo, everything else is final (https://opentelemetry.io/docs/specs/otlp/, "Failures"). But for one:
UNAUTHENTICATED says nothing of the batch. It is retried too, so that an expired token costs no data.

The batch's id goes along as metadata: a receiver that keeps the last ones can tell a second delivery from a first.

What it refuses: to send any metadata of the sender, to wait longer than its deadline, to believe a count of
refused records that is larger than the batch, and to repeat the upstream's words: they may quote what was
sent.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from sidecar.network.address import Address, Upstream
from sidecar.network.otlp import SERVICES

from .batch import Batch, Refused, RetryLater
from .credentials import Credentials

DEADLINE_SECONDS: Final = 10.0
BATCH_ID: Final = "tenantscope-batch-id"
_PROBE_SECONDS: Final = 2.0

KEEPALIVE_MS: Final = 10_000
_OPTIONS: Final = (
    # Finds a connection whose other end is gone without a word. Pings go out only while a call is waiting,
    # and a call waits at most the deadline, so a receiver that allows a ping every five minutes does not
    # mind.
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
    # How long an answer to a ping may take; the timeout above says it no longer, and this one is a minute by default.
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_MS),
    # gRPC's own waiting grows to two minutes; the forwarder's is the one that counts.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 1024 * 1024),  # an answer is a few bytes
)
_RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)
# What gRPC says of an answer that is larger than ours may be.
_OVERSIZED: Final = "CLIENT: Received message larger than max"
# Something in the batch is at fault, or its size: without it, or in parts, the rest may be taken.
_DIVISIBLE: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED})


class UpstreamOtlp:
    """A `Destination` that speaks OTLP/gRPC.

    Args:
        credentials: headers and certificates.
        compress: whether requests are compressed with gzip.
        deadline: seconds for one attempt.
    """

    def __init__(
        self,
        upstream: Upstream,
        credentials: Credentials | None = None,
        *,
        compress: bool = False,
        deadline: float = DEADLINE_SECONDS,
    ) -> None:
        self._upstream = upstream
        self._credentials = credentials or Credentials()
        self._compression = grpc.Compression.Gzip if compress else grpc.Compression.NoCompression
        self._deadline = deadline
        self._opening = threading.Lock()
        self._closed = False
        self._channel = self._open()

    def _open(self) -> grpc.Channel:
        address = self._upstream.address
        # A proxy from the environment is for the world outside, not for a Collector on this machine.
        options = (*_OPTIONS, ("grpc.enable_http_proxy", 0 if address.is_loopback else 1))
        if self._upstream.secure:
            channel = grpc.secure_channel(
                address.target, self._credentials.for_channel(), options, compression=self._compression
            )
        else:
            channel = grpc.insecure_channel(address.target, options, compression=self._compression)
        self._exports = {
            signal: channel.unary_unary(service.method, None, None) for signal, service in SERVICES.items()
        }
        return channel

    def _renew(self) -> None:
        """Open a new connection when there are new certificates; a gRPC channel keeps those it began with."""
        if self._credentials.renew():
            with self._opening:
                if not self._closed:
                    self._channel.close()
                    self._channel = self._open()

    def probe(self) -> None:
        """Connect and hang up: says whether anybody is there without sending anything."""
        try:
            connect(self._upstream.address).close()
        except OSError:
            raise RetryLater("upstream_unreachable") from None

    def deliver(self, batch: Batch) -> int:
        """One attempt; how many records the upstream refused."""
        self._renew()
        metadata = self._credentials.headers + (((BATCH_ID, batch.id),) if batch.id else ())
        try:
            reply = self._exports[batch.signal](batch.payload, timeout=self._deadline, metadata=metadata)
        except grpc.RpcError as error:
            raise _verdict(error) from None
        except ValueError:  # the channel was closed meanwhile
            raise RetryLater("closed") from None
        try:
            return SERVICES[batch.signal].rejected(reply)
        except DecodeError:
            return 0  # it said OK, in words that we do not know

    def close(self) -> None:
        """Close the connection; an attempt in progress ends as cancelled."""
        with self._opening:
            self._closed = True
            self._channel.close()


def connect(address: Address) -> socket.socket:
    """A connection to this address. Raises OSError."""
    if address.path is None:
        return socket.create_connection((address.host, address.port), _PROBE_SECONDS)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_PROBE_SECONDS)
        connection.connect(str(address.path))
    except OSError:
        connection.close()
        raise
    return connection


def _verdict(error: grpc.RpcError) -> RetryLater | Refused:
    code = error.code()
    word = f"upstream_{code.name.lower()}"
    if _OVERSIZED in (error.details() or ""):
        return RetryLater("upstream_oversized_reply")  # gRPC gives the same status to a request that is too large
    asked = _asked_delay(error)
    if code in _RETRYABLE or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and asked is not None):
        return RetryLater(word, asked)
    return Refused(word, divisible=code in _DIVISIBLE)


def _asked_delay(error: grpc.RpcError) -> float | None:
    """Seconds of the RetryInfo in the answer; None without one, or with one that makes no sense."""
    trailers = dict(error.trailing_metadata() or ())
    info = error_details_pb2.RetryInfo()
    with contextlib.suppress(DecodeError, TypeError):
        for detail in status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b"")).details:
            if detail.Unpack(info):
                return _seconds(info)
    with contextlib.suppress(DecodeError, TypeError):
        if "google.rpc.retryinfo-bin" in trailers:  # where some put it by itself
            return _seconds(error_details_pb2.RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]))
    return None


def _seconds(info: error_details_pb2.RetryInfo) -> float:
    return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
