"""One HTTP POST, bounded in every direction.

What it refuses: to follow a redirect (the address is the operator's choice, not the receiver's), to use a proxy from
the environment, to wait longer than its deadline however slowly the answer drips, to read more of the answer than a
fixed number of bytes, and to let any of the answer but its status and a bounded `Retry-After` out of this file.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import urlsplit

SECONDS: Final = 5.0
MAX_ANSWER: Final = 65_536
MAX_RETRY_AFTER: Final = 300.0  # seconds; a longer wish is cut

# Besides 5xx: those that say "later", not "no".
_LATER: Final = frozenset({408, 425, 429})


class UndeliveredError(Exception):
    """The receiver did not take it.

    Attributes:
        reason: one of a few words, fit for a label.
        final: whether trying again is pointless.
        after: seconds that the receiver asked for, or None.
    """

    def __init__(self, reason: str, *, final: bool = False, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
        self.after = after


class Endpoint:
    """Where messages are posted to.

    Args:
        url: http or https, checked by the settings.
        seconds: for connecting and sending, and again for the answer.
    """

    def __init__(self, url: str, seconds: float = SECONDS) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self._port = parts.port
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._seconds = seconds

    def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Deliver `body`, which is JSON.

        Raises:
            UndeliveredError: it was not taken, or nobody can tell.
        """
        try:
            status, retry_after = self._exchange(body, headers)
        except TimeoutError:
            raise UndeliveredError("timeout") from None
        except ssl.SSLError:
            raise UndeliveredError("tls") from None
        except HTTPException:
            raise UndeliveredError("protocol") from None
        except (OSError, UnicodeError):  # a host name that no resolver takes is a UnicodeError
            raise UndeliveredError("unreachable") from None
        if status in _LATER or 500 <= status <= 599:
            reason = "status_429" if status == 429 else f"status_{status // 100}xx"
            raise UndeliveredError(reason, after=_seconds(retry_after))
        if not 200 <= status <= 299:
            raise UndeliveredError(f"status_{status // 100}xx", final=True)

    def _exchange(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
        connection = self._connection()
        try:
            fixed = {"Content-Type": "application/json", "User-Agent": "tenantscope", "Connection": "close"}
            connection.request("POST", self._target, body, {**fixed, **headers})
            response = HTTPResponse(_Patient(connection.sock, self._seconds), method="POST")  # type: ignore[arg-type]
            with contextlib.closing(response):
                response.begin()
                with contextlib.suppress(OSError, HTTPException):  # the status says all; hanging up early would be rude
                    response.read(MAX_ANSWER)
                return response.status, response.headers.get("Retry-After", "")
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(self.host, self._port, timeout=self._seconds)
        return HTTPSConnection(self.host, self._port, timeout=self._seconds, context=self._tls)


class _Patient(io.RawIOBase):
    """Reads a socket until one deadline for everything; a socket's own timeout begins anew with each byte."""

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        self._socket = connected
        self._deadline = time.monotonic() + seconds

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What `HTTPResponse` asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._socket.recv_into(buffer)


def _seconds(retry_after: str) -> float | None:
    """The header as seconds; a date in it is not heeded, for the receiver's clock is not ours."""
    text = retry_after.strip()
    if not (text.isascii() and text.isdigit()):
        return None
    return min(float(text[:9]), MAX_RETRY_AFTER)
