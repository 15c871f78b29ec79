"""Runs the console: a poller that feeds its own memory, visitors with theirs, and a web server on loopback."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import Final

import uvicorn

from tenantscope.top.poller import Poller
from tenantscope.view.client import Admin

from .memory import Memory
from .pages import application
from .visitors import INTERVAL, View, Visitors

_TOKEN_BYTES: Final = 24


class Console:
    """One console; `running` in a thread, or `serve` until a signal.

    Args:
        admin: the sidecar to look at; its token, if it has one, is for whoever opens `url`.
        port: on loopback; 0 for any that is free.

    Attributes:
        url: the address to open, with the token.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(self, admin: Admin, port: int = 0) -> None:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._admin = admin
        self._memory = Memory()
        self._visitors = Visitors(admin)
        self._socket = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/?token={token}"
        config = uvicorn.Config(
            application(View(admin, self._memory), token, self._visitors),
            log_config=None,  # the address of the first visit has the token in it
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            limit_concurrency=64,
        )
        self._server = uvicorn.Server(config)

    def serve(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        with self._following():
            self._server.run(sockets=[self._socket])

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Inside, it is served from another thread; its address."""
        thread = threading.Thread(target=self._server.run, args=([self._socket],), name="console", daemon=True)
        with self._following():
            thread.start()
            try:
                yield self.url
            finally:
                self._server.should_exit = True
                thread.join(5)

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        following = Poller(self._admin).following(INTERVAL, self._memory.take)
        with contextlib.closing(self._socket), contextlib.closing(self._visitors), following:
            yield
