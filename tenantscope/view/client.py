"""Asks a sidecar's admin listener for a page.

What it refuses: to wait longer than its limit in all, however slowly an answer trickles in, to read more than
`MAX_BYTES` of one, to follow redirects, to heed proxy settings, and to send a token to another machine: there is no
TLS on it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Self
from urllib.parse import urlsplit

from sidecar.alerts import printable
from sidecar.network.address import Address, listener

from .status import NotAStatusError, Status, read

MAX_BYTES: Final = 16 * 1024 * 1024
_LIMIT: Final = 2.0  # seconds, from connecting to the last byte
#: What a sidecar means that has a list of clients, and does not find us in it.
STRANGER: Final = "it wants the token of one of its clients: put it in a file, and name that with --token-file"
_SAID: Final = 80  # characters of a refusal that are worth repeating


class NoAnswerError(Exception):
    """The page could not be had; the text says why, in words for people."""


class StrangerError(NoAnswerError):
    """The sidecar has a list of clients, and does not find us in it."""


class Admin:
    """The admin listener at `address`, such as `http://127.0.0.1:8889`; `host:port` is enough, and `unix:/path` works.

    Args:
        heard: gets the path and the body of every answer, whatever its HTTP status.
        token: of a client, for a sidecar that has a list of them.
        limit: seconds that a page may take.

    Raises:
        ValueError: that is no address.
    """

    def __init__(
        self,
        address: str,
        *,
        heard: Callable[[str, bytes], object] | None = None,
        limit: float = _LIMIT,
        token: str | None = None,
    ) -> None:
        self._address = listener(address) if address.startswith("unix:") else _over_tcp(address)
        self._headers = {"Authorization": f"Bearer {token}"} if token and self._address.is_loopback else {}
        self._heard = heard
        self._limit = limit
        self.url = self._address.url

    def showing(self, token: str | None) -> Admin:
        """The same listener for somebody else: that token, or none, is shown instead."""
        return Admin(self.url, limit=self._limit, token=token)

    def status(self) -> Status:
        """What `/status` says.

        Raises:
            NoAnswerError: nobody answers, or not with a status.
        """
        try:
            return read(self.page("/status"))
        except NotAStatusError as error:
            raise NoAnswerError(f"that is no sidecar: {error}") from None

    def page(self, path: str) -> bytes:
        """The body of a page.

        Raises:
            NoAnswerError: nobody answers in time, or with anything but 200.
        """
        connection = _Connection(self._address, self._limit)
        deadline: _Deadline | None = None
        late = f"no answer within {self._limit:g} s"
        try:
            connection.connect()
            with _Deadline(self._limit, connection.sock) as deadline:
                connection.request("GET", path, headers=self._headers)
                response = connection.getresponse()
                body = response.read(MAX_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            passed = isinstance(error, TimeoutError) or (deadline is not None and deadline.passed)
            raise NoAnswerError(late if passed else _reason(error)) from None
        finally:
            connection.close()
        if deadline.passed:  # what was cut off can look complete: the end of headers, say
            raise NoAnswerError(late)
        if len(body) > MAX_BYTES:
            raise NoAnswerError(f"that is no sidecar: its answer has more than {MAX_BYTES >> 20} MiB")
        if response.length:  # bytes that were announced and did not come
            raise NoAnswerError("the answer broke off")
        if self._heard is not None:
            self._heard(path, body)
        if response.status == HTTPStatus.UNAUTHORIZED:
            raise StrangerError(STRANGER)
        if response.status != HTTPStatus.OK:
            raise NoAnswerError(f"it answered {response.status}{_said(body)}")
        return body


def _over_tcp(address: str) -> Address:
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme != "http" or not parts.hostname or not parts.port or not address.isprintable():
        raise ValueError("must be http://host:port, or unix:/path")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must be http://host:port and nothing else")
    if not all(c.isascii() and (c.isalnum() or c in "-._:") for c in parts.hostname):
        raise ValueError("has a host name with characters that no host name has")
    return Address(parts.hostname, parts.port)


class _Connection(http.client.HTTPConnection):
    """Over TCP or a Unix socket."""

    def __init__(self, address: Address, timeout: float) -> None:
        super().__init__(address.host or "localhost", address.port or None, timeout=timeout)
        self._path = address.path

    def connect(self) -> None:
        if self._path is None:
            super().connect()
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(str(self._path))


class _Deadline:
    """Shuts a connection down when the time is up: a socket's own timeout starts anew with every byte."""

    def __init__(self, seconds: float, connection: socket.socket) -> None:
        self._connection = connection
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True
        self.passed = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()

    def _pass(self) -> None:
        self.passed = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


def _reason(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, http.client.RemoteDisconnected):
        return "it hung up without an answer"
    if isinstance(error, socket.gaierror):
        return "there is no host of that name"
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    return "what answers there does not speak HTTP"


def _said(body: bytes) -> str:
    """The error that the sidecar gives in its JSON, such as why it does not serve this host."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f": {printable(error, _SAID)}" if isinstance(error, str) else ""
