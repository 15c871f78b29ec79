"""An upstream that speaks OTLP/HTTP: `POST` of protobuf to `/v1/traces`, `/v1/metrics` and `/v1/logs`.

What comes back becomes a verdict by OTLP's table: 429, 502, 503 and 504 are retried, with `Retry-After` when there is
one, everything else that is not 2xx is final (https://opentelemetry.io/docs/specs/otlp/, "Failures"). But for one, as
with gRPC: 401 says nothing of the batch, and is retried, so that an expired token costs no data.

The connection stays open between requests. One deadline covers an attempt from the first byte of the handshake to the
last one of the answer; h11 is the parser, the socket is ours.

What it refuses: to follow a redirect, wherever it leads, for headers with a token would go along; to read more of an
answer than a few kilobytes; to use a proxy; to believe a count of refused records that is larger than the batch; and to
repeat the upstream's words.
"""

from __future__ import annotations

import contextlib
import email.utils
import math
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable
from typing import Final

import h11
import zstandard
from google.protobuf.message import DecodeError

from sidecar.configuration.upstreams import Compression
from sidecar.network.address import Upstream
from sidecar.network.cutting import cut
from sidecar.network.otlp import HTTP_PATHS, PROTOBUF, SERVICES

from .batch import Batch, Refused, RetryLater
from .credentials import Credentials
from .upstream import BATCH_ID, DEADLINE_SECONDS, connect

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_ANSWER_BYTES: Final = 64 * 1024
_RETRYABLE: Final = frozenset({401, 429, 502, 503, 504})
# Something in the batch is at fault, or its size: without it, or in parts, the rest may be taken.
_DIVISIBLE: Final = frozenset({400, 413})
_READ_BYTES: Final = 16 * 1024


class UpstreamHttp:
    """A `Destination` that speaks OTLP/HTTP.

    Args:
        credentials: headers and certificates.
        compression: of requests.
        deadline: seconds for one attempt.
    """

    def __init__(
        self,
        upstream: Upstream,
        credentials: Credentials | None = None,
        *,
        compression: Compression = "none",
        deadline: float = DEADLINE_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._upstream = upstream
        self._credentials = credentials or Credentials()
        self._compression = compression
        self._compress = _COMPRESSORS[compression]
        self._deadline = deadline
        self._now = now
        address = upstream.address
        self._host = f"[{address.host}]" if ":" in address.host else address.host
        if address.port != (443 if upstream.secure else 80):
            self._host += f":{address.port}"
        self._lock = threading.Lock()  # of what another thread may close
        self._closed = self._attempting = False
        self._socket: socket.socket | None = None
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)

    def probe(self) -> None:
        """Connect and hang up: says whether anybody is there without sending anything."""
        try:
            connect(self._upstream.address).close()
        except OSError:
            raise RetryLater("upstream_unreachable") from None

    def deliver(self, batch: Batch) -> int:
        """One attempt; how many records the upstream refused."""
        with self._lock:
            self._attempting = True
        try:
            return self._attempt(batch)
        finally:
            with self._lock:
                self._attempting, closed = False, self._closed
            if closed:
                self._hang_up()

    def _attempt(self, batch: Batch) -> int:
        if self._credentials.renew():
            self._hang_up()  # a connection keeps the certificates that it began with
        body = self._compress(batch.payload)
        until = time.monotonic() + self._deadline
        kept = self._socket is not None
        try:
            response, answer = self._exchange(batch, body, until, fresh=False)
            if response is None and kept:
                # It had been closed while nobody looked; what came first was the end.
                response, answer = self._exchange(batch, body, until, fresh=True)
        except TimeoutError:
            self._hang_up()
            raise RetryLater("upstream_timeout") from None
        except ssl.SSLError:
            self._hang_up()
            raise RetryLater("upstream_tls") from None
        except OSError:
            self._hang_up()
            raise RetryLater("closed" if self._closed else "upstream_unreachable") from None
        except (h11.ProtocolError, _TooLarge):
            self._hang_up()
            raise RetryLater("upstream_not_http") from None
        if response is None:
            raise RetryLater("upstream_hung_up")
        return self._verdict(batch, response, answer)

    def close(self) -> None:
        """Close the connection; an attempt in progress ends soon."""
        with self._lock:
            self._closed = True
            if self._socket is not None:
                cut(self._socket)
            attempting = self._attempting
        if not attempting:
            self._hang_up()  # otherwise its thread does, for it may be about to write to that descriptor

    # An attempt ---------------------------------------------------------------------------------------------
    def _exchange(self, batch: Batch, body: bytes, until: float, *, fresh: bool) -> tuple[h11.Response | None, bytes]:
        """Send the request, and read the answer; no response when the other end closed before a byte of it."""
        if fresh:
            self._hang_up()
        connection = self._connected(until)
        headers = [
            ("Host", self._host),
            ("Content-Type", PROTOBUF),
            ("Content-Length", str(len(body))),
            ("User-Agent", "tenantscope"),
            *(((BATCH_ID, batch.id),) if batch.id else ()),
            *((("Content-Encoding", self._compression),) if self._compression != "none" else ()),
            *self._credentials.headers,
        ]
        target = self._upstream.path + HTTP_PATHS[batch.signal]
        request = h11.Request(method="POST", target=target, headers=headers)
        try:
            for event in (request, h11.Data(body), h11.EndOfMessage()):
                connection.settimeout(_left(until))
                connection.sendall(self._protocol.send(event) or b"")
        except (ConnectionError, ssl.SSLEOFError):
            pass  # who refuses a request before its end may say why; if not, this is found when reading
        return self._answer(connection, until)

    def _answer(self, connection: socket.socket, until: float) -> tuple[h11.Response | None, bytes]:
        response: h11.Response | None = None
        answer = b""
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                connection.settimeout(_left(until))
                try:
                    received = connection.recv(_READ_BYTES)
                except (ConnectionError, ssl.SSLEOFError):
                    received = b""
                if not received and response is None:
                    self._hang_up()
                    return None, b""
                self._protocol.receive_data(received)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                answer += bytes(event.data)
                if len(answer) > MAX_ANSWER_BYTES:
                    raise _TooLarge
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)) or event is h11.PAUSED:
                break
        if self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE:
            self._protocol.start_next_cycle()
        else:
            self._hang_up()
        return response, answer

    def _connected(self, until: float) -> socket.socket:
        with self._lock:
            if self._closed:
                raise ConnectionError
            if self._socket is not None:
                return self._socket
        address = self._upstream.address
        made = socket.create_connection((address.host, address.port), _left(until))
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._upstream.secure:
                made.settimeout(_left(until))
                made = self._credentials.for_context().wrap_socket(made, server_hostname=address.host)
        except BaseException:
            made.close()
            raise
        self._keep(made)
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        return made

    def _keep(self, made: socket.socket) -> None:
        with self._lock:
            if self._closed:
                made.close()
                raise ConnectionError
            self._socket = made

    def _hang_up(self) -> None:
        with self._lock:
            leaving, self._socket = self._socket, None
        if leaving is not None:
            leaving.close()

    # What came of it ----------------------------------------------------------------------------------------
    def _verdict(self, batch: Batch, response: h11.Response, answer: bytes) -> int:
        status = response.status_code
        if 200 <= status < 300:
            try:
                return SERVICES[batch.signal].rejected(answer)
            except DecodeError:
                return 0  # it said OK, in words that we do not know
        word = f"upstream_http_{status}"
        if status in _RETRYABLE:
            raise RetryLater(word, self._asked_delay(response))
        raise Refused(word, divisible=status in _DIVISIBLE)

    def _asked_delay(self, response: h11.Response) -> float | None:
        """Seconds of `Retry-After`, which may be a date; None without one, or with one that makes no sense."""
        for name, value in response.headers:
            if name == b"retry-after":
                text = value.decode("ascii", "replace").strip()
                if text.isascii() and text.isdigit() and len(text) <= 9:
                    return float(text)
                with contextlib.suppress(ValueError, TypeError, OverflowError):
                    delay = email.utils.parsedate_to_datetime(text).timestamp() - self._now()
                    return max(0.0, delay) if math.isfinite(delay) else None
        return None


class _TooLarge(Exception):  # noqa: N818  # a verdict, not an error
    """The answer has no end."""


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _gzip(payload: bytes) -> bytes:
    return zlib.compress(payload, level=6, wbits=31)


def _zstd(payload: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(payload)


_COMPRESSORS: Final[dict[Compression, Callable[[bytes], bytes]]] = {
    "none": lambda payload: payload,
    "gzip": _gzip,
    "zstd": _zstd,
}
