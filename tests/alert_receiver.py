"""A receiver of alerts: a real HTTP server that records what it is sent and answers what it is told to."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hypothesis import HealthCheck, settings

from sidecar.alerts import Alert

PATIENCE = 20.0  # seconds after which a test gives a wait up; no test measures time
BEGAN = datetime(2030, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
ADMIN_URL = "http://127.0.0.1:8889"
# For property tests: a machine that is busy with other things finds no fault in the code.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def firing(tenant: str = "acme", service: str = "billing", instance: str = "i-1", **changed: Any) -> Alert:
    """A stall as the watchdog tells it."""
    about: dict[str, Any] = {
        "name": "EventLoopStalled",
        "status": "firing",
        "labels": {
            "alertname": "EventLoopStalled", "tenant_id": tenant, "service_name": service, "instance": instance,
        },
        "annotations": {"summary": f"{tenant} holds it", "stack": "a.py:1 f\nb.py:2 g", "duration_ms": "100"},
        "starts_at": BEGAN,
    }  # fmt: skip
    return Alert(**{**about, **changed})


def resolved(tenant: str = "acme", service: str = "billing", instance: str = "i-1", **changed: Any) -> Alert:
    """Its end, two seconds later."""
    starts_at = changed.get("starts_at", BEGAN)
    over = {"status": "resolved", "ends_at": starts_at + timedelta(seconds=2), **changed}
    return firing(tenant, service, instance, **over)


@dataclass(frozen=True)
class Request:
    """What came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


Answer = Callable[[BaseHTTPRequestHandler], None]


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    """A complete answer."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return write


def raw(*pieces: bytes) -> Answer:
    """These bytes and nothing else, then the connection is closed."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        for piece in pieces:
            handler.wfile.write(piece)
        handler.close_connection = True

    return write


class Receiver:
    """Records requests. `answers` are given in turn; when there are none, everything is taken."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.requests: list[Request] = []
        self.answers: deque[Answer] = deque()
        self.always: Answer = answer()
        self.released = threading.Event()  # what a hanging answer waits for
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = PATIENCE

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.changed:
                    receiver.requests.append(Request(self.path, dict(self.headers.items()), body))
                    write = receiver.answers.popleft() if receiver.answers else receiver.always
                    receiver.changed.notify_all()
                with contextlib.suppress(OSError):  # the sender may hang up
                    write(self)

            def log_message(self, *args: Any) -> None:
                """Not on the terminal."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """The sender hung up; that is its right."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        """An answer that never comes."""
        self.released.wait(PATIENCE)

    def wait_for(self, requests: int) -> list[Request]:
        """Wait until so many requests have come in; all of them."""
        return self.wait_until(lambda: len(self.requests) >= requests)

    def wait_until(self, holds: Callable[[], bool]) -> list[Request]:
        """Wait until a request makes it true; all requests."""
        with self.changed:
            assert self.changed.wait_for(holds, PATIENCE), f"{len(self.requests)} requests came"
            return list(self.requests)

    def close(self) -> None:
        """Answer nobody any more."""
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()
