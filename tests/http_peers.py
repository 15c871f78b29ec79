"""A real OTLP/HTTP upstream, for tests: records everything that it is sent, and answers what it is told to."""

from __future__ import annotations

import gzip
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import zstandard
from otlp_peers import PATIENCE

Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        """Record the request, answer it."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        encoding = self.headers.get("Content-Encoding", "identity")
        unpacked = {"gzip": gzip.decompress, "zstd": zstandard.decompress}.get(encoding, lambda as_it_is: as_it_is)(
            body
        )
        answer = self.server.peer.arrived(self, unpacked)
        answer(self)

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """An answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        """Nothing."""


class Server(ThreadingHTTPServer):
    """Its threads end with their connections."""

    daemon_threads = True
    block_on_close = False
    peer: HttpUpstream

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection broke."""


def take(handler: Handler) -> None:
    """Everything is taken."""
    handler.reply(200, b"", Content_Type="application/x-protobuf")


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer with this status."""
    return lambda handler: handler.reply(code, body, **headers)


class HttpUpstream:
    """`answers` are given in turn; when there are none, `always`."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._changed = threading.Condition()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.peer = self
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}" if context is None else f"https://localhost:{self.port}"
        self.requests: list[tuple[str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[Any] = set()
        self.answers: deque[Answer] = deque()
        self.always: Answer = take
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def arrived(self, handler: Handler, body: bytes) -> Answer:
        """A request."""
        with self._changed:
            self.requests.append((handler.path, body))
            self.headers.append({name.lower(): value for name, value in handler.headers.items()})
            self.connections.add(handler.client_address)
            self._changed.notify_all()
            return self.answers.popleft() if self.answers else self.always

    def wait_for(self, requests: int) -> None:
        """Wait until so many requests have come in."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= requests, PATIENCE), "nothing came"


@contextmanager
def running_http_upstream(context: ssl.SSLContext | None = None) -> Iterator[HttpUpstream]:
    """An upstream, for a while."""
    upstream = HttpUpstream(context)
    try:
        yield upstream
    finally:
        upstream.server.shutdown()
        upstream.server.server_close()
