"""One HTTP connection: a request, an answer, and so on. h11 is the parser; the socket and the clock are ours."""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import h11
from google.rpc import status_pb2  # type: ignore[import-untyped]

from sidecar.conventions import Signal
from sidecar.network.cutting import cut
from sidecar.network.otlp import HTTP_PATHS, MAX_REQUEST_BYTES, PROTOBUF

from .admission import Malformed
from .bodies import inflated
from .certificate import Certificate
from .verdicts import Refusal, Verdicts, incomplete, too_large, unreadable

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_PIECES: Final = 16_384  # of a body: a byte a chunk would cost more to take apart than to send
MAX_REQUESTS: Final = 1_000  # on one connection
_READ_BYTES: Final = 64 * 1024
_LINGER_BYTES: Final = 2 * MAX_REQUEST_BYTES
_SIGNALS: Final[dict[bytes, Signal]] = {path.encode(): signal for signal, path in HTTP_PATHS.items()}
_STATUSES: Final = {
    "invalid_argument": HTTPStatus.BAD_REQUEST,
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "cancelled": HTTPStatus.REQUEST_TIMEOUT,
    "resource_exhausted": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "unimplemented": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
}

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long a client may take.

    Attributes:
        head: for the handshake, and for the head of a request from its first byte on.
        idle: until it sends the next request. body: for that of a request. answer: to read ours.
        linger: to stop sending what we do not want to read.
    """

    head: float = 5.0
    idle: float = 60.0
    body: float = 10.0
    answer: float = 5.0
    linger: float = 2.0


class _Over(Exception):  # noqa: N818  # not an error
    """The connection is of no more use."""


class Connection:
    """Serves one connection until it ends; `run` in a thread of its own, never raises.

    Attributes:
        busy: whether it has a request that has not been answered.
        since: when it began to wait for one; seconds, monotonic.
    """

    def __init__(
        self,
        accepted: socket.socket,
        peer: str,
        verdicts: Verdicts,
        certificate: Certificate | None,
        seconds: Seconds,
        stopping: threading.Event,
    ) -> None:
        self._socket = accepted
        self._peer = peer
        self._verdicts = verdicts
        self._certificate = certificate
        self._seconds = seconds
        self._stopping = stopping
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._names: list[str] = []
        self.busy = False
        self.since = time.monotonic()

    def cut(self) -> None:
        """End it, from any thread."""
        cut(self._socket)

    def run(self) -> None:
        """Serve requests until there are no more."""
        try:
            self._shake_hands()
            for number in range(MAX_REQUESTS):
                self._serve(self._seconds.idle if number else self._seconds.head, last=number + 1 == MAX_REQUESTS)
                if self._protocol.our_state is not h11.DONE or self._protocol.their_state is not h11.DONE:
                    break
                self._protocol.start_next_cycle()
                self.since = time.monotonic()
            self._linger()
        except (_Over, OSError, h11.LocalProtocolError):
            pass
        finally:
            with contextlib.suppress(OSError):
                self._socket.close()

    def _shake_hands(self) -> None:
        if self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._certificate is None:
            return
        self._socket.settimeout(self._seconds.head)
        secured = self._certificate.context().wrap_socket(
            self._socket, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self._socket = secured
        secured.do_handshake()  # with one deadline for all of it
        shown = secured.getpeercert() or {}
        self._names = [str(entry[1]) for entry in shown.get("subjectAltName", ())]

    # A request ----------------------------------------------------------------------------------------------
    def _serve(self, patience: float, *, last: bool) -> None:
        try:
            request = self._head(patience)
        except h11.RemoteProtocolError as error:
            self._answer(HTTPStatus(error.error_status_hint), (), b"", close=True)
            return
        signal = _SIGNALS.get(request.target.partition(b"?")[0])
        shown: dict[bytes, list[bytes]] = {}
        for name, value in request.headers:
            shown.setdefault(name, []).append(value)
        close = last or self._stopping.is_set()
        if signal is None:
            self._answer(HTTPStatus.NOT_FOUND, (), b"", close=True)
        elif request.method != b"POST":
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", "POST")], b"", close=True)
        elif b"origin" in shown:
            self._answer(HTTPStatus.FORBIDDEN, (), b"", close=True)
        else:
            self._export(signal, shown, close=close)

    def _head(self, patience: float) -> h11.Request:
        until = time.monotonic() + patience
        begun = False
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._receive(until)
            if not begun and self._protocol.trailing_data[0]:
                begun, until = True, time.monotonic() + self._seconds.head
        if not isinstance(event, h11.Request):
            raise _Over
        return event

    def _export(self, signal: Signal, shown: dict[bytes, list[bytes]], *, close: bool) -> None:
        authorizations = [value.decode("latin-1") for value in shown.get(b"authorization", ())]
        self.busy = True  # while it waits for its turn, too; who may not send is told so at once
        try:
            reply = self._verdicts.export(
                signal, (authorizations, self._names), self._peer, self.cut, lambda: self._body(shown)
            )
        except Refusal as refusal:
            headers = []
            if refusal.retry_after is not None:
                headers.append(("Retry-After", str(math.ceil(refusal.retry_after))))
            if refusal.status == "unauthenticated":
                headers.append(("WWW-Authenticate", "Bearer"))
            body = status_pb2.Status(message=refusal.text).SerializeToString()
            self._answer(_STATUSES[refusal.status], headers, body, close=close)
        else:
            self._answer(HTTPStatus.OK, (), reply, close=close)
        finally:
            self.busy = False

    def _body(self, shown: dict[bytes, list[bytes]]) -> bytes:
        types = [value.partition(b";")[0].strip().lower() for value in shown.get(b"content-type", ())]
        encodings = [value.strip().lower().decode("latin-1") for value in shown.get(b"content-encoding", ())]
        if types != [PROTOBUF.encode()] or len(encodings) > 1:
            raise unreadable()
        # h11 has made sure that there is one length at most, and that it is a number.
        if int(shown.get(b"content-length", [b"0"])[0]) > MAX_REQUEST_BYTES:
            raise too_large()
        with self._patience():
            body = self._read(time.monotonic() + self._seconds.body)
        return inflated(body, encodings[0] if encodings else "")

    @contextmanager
    def _patience(self) -> Iterator[None]:
        try:
            yield
        except h11.RemoteProtocolError:
            raise Malformed("http") from None
        except (_Over, OSError):
            raise incomplete() from None

    def _read(self, until: float) -> bytes:
        if self._protocol.they_are_waiting_for_100_continue:
            self._send(self._protocol.send(h11.InformationalResponse(status_code=100, headers=[])))
        pieces: list[bytes] = []
        size = 0
        while not isinstance(event := self._protocol.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                self._receive(until)
            elif isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
                size += len(pieces[-1])
                if size > MAX_REQUEST_BYTES or len(pieces) > MAX_PIECES:
                    raise too_large()
            else:
                raise _Over
            if time.monotonic() > until:
                raise TimeoutError
        return b"".join(pieces)

    # Bytes --------------------------------------------------------------------------------------------------
    def _receive(self, until: float) -> None:
        left = until - time.monotonic()
        if left <= 0:
            raise _Over
        self._socket.settimeout(left)
        received = self._socket.recv(_READ_BYTES)
        if not received and self._protocol.their_state is h11.IDLE:
            raise _Over
        self._protocol.receive_data(received)

    def _answer(self, status: HTTPStatus, headers: Headers, body: bytes, *, close: bool) -> None:
        unread = self._protocol.their_state is not h11.DONE
        response = h11.Response(
            status_code=status.value,
            reason=status.phrase,
            headers=[
                ("Content-Type", PROTOBUF),
                ("Content-Length", str(len(body))),
                *headers,
                *((("Connection", "close"),) if close or unread else ()),
            ],
        )
        events = (response, h11.Data(body), h11.EndOfMessage())
        self._send(b"".join(self._protocol.send(event) or b"" for event in events))

    def _send(self, data: bytes | None) -> None:
        self._socket.settimeout(self._seconds.answer)
        self._socket.sendall(data or b"")

    def _linger(self) -> None:
        """Read away for a moment what is still coming: closing on it would take the answer from the sender, too."""
        until, left = time.monotonic() + self._seconds.linger, _LINGER_BYTES
        if not isinstance(self._socket, ssl.SSLSocket):
            self._socket.shutdown(socket.SHUT_WR)
        while left > 0 and (seconds := until - time.monotonic()) > 0:
            self._socket.settimeout(seconds)
            received = self._socket.recv(_READ_BYTES)
            if not received:
                return
            left -= len(received)
