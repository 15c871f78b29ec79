"""Reads the sidecar's admin listener, and shows it all to the searcher: an operator's view may not leak."""

from __future__ import annotations

import http.client
import json
from typing import Any, Final

from .search import Searcher

_TIMEOUT: Final = 2.0


class Admin:
    """The admin listener on the loopback.

    Args:
        port: where it listens.
        searcher: gets all bodies.
    """

    def __init__(self, port: int, searcher: Searcher) -> None:
        self._port = port
        self._searcher = searcher

    def status(self) -> dict[str, Any] | None:
        """The body of `/status`; None while the listener does not answer."""
        body = self._get("/status")
        if body is None:
            return None
        status: dict[str, Any] = json.loads(body)
        return status

    def metrics(self) -> None:
        """Fetch `/metrics`, for the searcher alone."""
        self._get("/metrics")

    def _get(self, path: str) -> bytes | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        channel = self._searcher.channel(path)
        channel.feed(body)
        channel.close()
        return body if response.status == http.HTTPStatus.OK else None
