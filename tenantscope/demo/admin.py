"""Reads the sidecar's admin listener, and shows it all to the searcher: an operator's view may not leak."""

from __future__ import annotations

from tenantscope.view.client import Admin, NoAnswerError
from tenantscope.view.status import Status

from .search import Searcher


class SearchedAdmin:
    """The admin listener on the loopback.

    Args:
        port: where it listens.
        searcher: gets all bodies.
    """

    def __init__(self, port: int, searcher: Searcher) -> None:
        self._searcher = searcher
        self._admin = Admin(f"127.0.0.1:{port}", heard=self._search)

    def status(self) -> Status | None:
        """What `/status` says; None while the listener does not answer."""
        try:
            return self._admin.status()
        except NoAnswerError:
            return None

    def metrics(self) -> None:
        """Fetch `/metrics`, for the searcher alone."""
        try:
            self._admin.page("/metrics")
        except NoAnswerError:
            return

    def _search(self, path: str, body: bytes) -> None:
        channel = self._searcher.channel(path)
        channel.feed(body)
        channel.close()
