"""A real HTTP server in place of a sidecar's admin listener, with statuses that a real one once gave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tenantscope.view.status import Status, read

FOLDER = Path(__file__).parent
CALM, STALLED = "status_calm.json", "status_stalled.json"

Answer = Callable[[BaseHTTPRequestHandler], object]


def recorded(name: str) -> dict[str, Any]:
    """The document of a real sidecar, as it came: `CALM`, and `STALLED`, 1.18 s after it."""
    document: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return document


def as_status(document: object) -> Status:
    return read(json.dumps(document).encode())


class Listener(ThreadingHTTPServer):
    """Answers on a port of the loopback; `answer` may be changed at any time.

    Attributes:
        asked: how often a page was asked for.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.asked = 0
        self.answer: Answer = documents(recorded(CALM), recorded(STALLED))
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client went away; the tests are about the client."""

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.answer(self)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        pass


def body(content: bytes, status: int = 200) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def documents(*given: object) -> Answer:
    """One after the other; the last again and again."""
    left = list(given)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        document = left.pop(0) if len(left) > 1 else left[0]
        body(json.dumps(document).encode())(handler)

    return answer
