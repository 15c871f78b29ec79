"""The admin listener: `/healthz`, `/readyz`, `/metrics`, `/status` and `/spans` over HTTP on loopback or a
Unix socket, for reading only; and, where it is asked for, a listener for other machines with the first three of them.

Where a list says who the clients are, whoever asks for more than health shows the token of one: a client that speaks
for all tenants sees everything, another one what is about its own, and no metrics, which are about all.

One request a connection, one thread a connection, a few seconds for each. When all places are taken the
oldest connection is cut off, so that somebody who opens connections and says nothing cannot keep Prometheus
out. What it refuses: methods other than GET and HEAD, and a `Host` that is not a loopback name, so that a web
page whose name resolves to 127.0.0.1 cannot read it through a browser. The listener for other machines is asked by
any name, as Prometheus and a kubelet do, and refuses the pages that name more than figures.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from sidecar.configuration import sockets
from sidecar.network.address import Address
from sidecar.network.cutting import cut
from sidecar.senders.clients import ANYBODY, Client, Clients, Unknown

MAX_CONNECTIONS: Final = 32
BACKLOG: Final = 64
_PAUSE_SECONDS: Final = 0.05
SECONDS: Final = 5.0  # for each read and write
DEFAULT_SPANS: Final = 100
MAX_SPANS: Final = 5000
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")

log = structlog.get_logger("sidecar.admin")


Answer = tuple[HTTPStatus, str, bytes]
Page = Callable[[str, str, Client], Answer]  # of the Accept header, the query, and who asks
#: Answered to everybody: a kubelet has no token, and they say nothing about anybody.
OPEN: Final = frozenset({"/healthz", "/readyz"})


class _Listener:
    """Serves its pages from threads of its own.

    Raises:
        ConfigurationError: the address cannot be had.
    """

    def __init__(
        self, key: str, listen: Address, pages: Mapping[str, Page], clients: Clients, *, by_any_name: bool
    ) -> None:
        listening, self.address = sockets.listen(listen, key, BACKLOG)
        self._server = _Server(listening)
        self._server.pages = pages
        self._server.clients = clients
        # No web page reaches a Unix socket, whatever its name resolves to.
        self._server.by_any_name = by_any_name or self.address.path is not None
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name=type(self).__name__.lower(),
            daemon=True,
        )

    def start(self) -> None:
        """Serve; to be called once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close every connection."""
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        sockets.leave(self.address)


class Admin(_Listener):
    """Everything, for this machine.

    Args:
        ready: what readiness depends on, by name; ready when all are true.
        hanging: the parts that only a restart will bring back.
        status: the document of `/status`, as JSON knows it, for a client.
        spans: the newest spans that a client may see, of a trace or of all (None), at most so many; None when none are
            kept.
        registry: the metrics of `/metrics`.
        clients: who may ask; everybody when there is no list of them.
    """

    def __init__(
        self,
        listen: Address,
        *,
        ready: Callable[[], Mapping[str, bool]],
        hanging: Callable[[], Sequence[str]] = tuple,
        status: Callable[[Client], Mapping[str, Any]],
        spans: Callable[[Client, str | None, int], list[dict[str, Any]] | None],
        registry: CollectorRegistry,
        clients: Clients | None = None,
    ) -> None:
        pages: dict[str, Page] = {
            **_figures(ready, hanging, registry),
            "/status": lambda _accept, _query, client: _json(HTTPStatus.OK, status(client)),
            "/spans": lambda _accept, query, client: _spans(lambda *asked: spans(client, *asked), query),
        }
        super().__init__("TENANTSCOPE_ADMIN", listen, pages, clients or Clients(None), by_any_name=False)


class Figures(_Listener):
    """Health and metrics, for other machines: no stack, no span, no file's name; tenants as the policy shows them."""

    def __init__(
        self,
        listen: Address,
        *,
        ready: Callable[[], Mapping[str, bool]],
        hanging: Callable[[], Sequence[str]] = tuple,
        registry: CollectorRegistry,
    ) -> None:
        super().__init__(
            "TENANTSCOPE_METRICS", listen, _figures(ready, hanging, registry), Clients(None), by_any_name=True
        )


def _figures(
    ready: Callable[[], Mapping[str, bool]], hanging: Callable[[], Sequence[str]], registry: CollectorRegistry
) -> dict[str, Page]:
    return {
        "/healthz": lambda _accept, _query, _client: _health(hanging()),
        "/readyz": lambda _accept, _query, _client: _readiness(ready()),
        "/metrics": lambda accept, _query, client: _metrics(registry, accept, client),
    }


def _json(status: HTTPStatus, document: Mapping[str, Any]) -> Answer:
    return status, "application/json", json.dumps(document, ensure_ascii=True).encode() + b"\n"


def _health(hanging: Sequence[str]) -> Answer:
    if hanging:
        return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "hangs", "hanging": list(hanging)})
    return _json(HTTPStatus.OK, {"status": "ok"})


def _readiness(parts: Mapping[str, bool]) -> Answer:
    waiting = sorted(name for name, is_ready in parts.items() if not is_ready)
    status = HTTPStatus.SERVICE_UNAVAILABLE if waiting else HTTPStatus.OK
    return _json(status, {"ready": not waiting, "not_ready": waiting})


def _spans(ask: Callable[[str | None, int], list[dict[str, Any]] | None], query: str) -> Answer:
    """`trace_id` of 32 hexadecimal digits and `limit`, both optional; anything else is a mistake worth saying."""
    given = parse_qs(query, keep_blank_values=True)
    repeated = any(len(values) > 1 for values in given.values())
    trace_id = given.pop("trace_id", [""])[0] if "trace_id" in given else None
    limit = given.pop("limit", [str(DEFAULT_SPANS)])[0]
    if given or repeated or (trace_id is not None and not _TRACE_ID.fullmatch(trace_id)):
        return _json(HTTPStatus.BAD_REQUEST, {"error": "the query may have trace_id (32 hexadecimal digits) and limit"})
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 5 and 1 <= int(limit) <= MAX_SPANS):
        return _json(HTTPStatus.BAD_REQUEST, {"error": f"limit must be 1 to {MAX_SPANS}"})
    found = ask(trace_id, int(limit))
    return _json(HTTPStatus.OK, {"kept": found is not None, "spans": found or []})


def _metrics(registry: CollectorRegistry, accept: str, client: Client) -> Answer:
    if client.tenants is not None:
        return _json(HTTPStatus.FORBIDDEN, {"error": "metrics are for clients that speak for all tenants"})
    encode, content_type = choose_encoder(accept)
    return HTTPStatus.OK, content_type, encode(registry)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    pages: Mapping[str, Page]
    clients: Clients
    by_any_name: bool

    def __init__(self, listening: socket.socket) -> None:
        self._places = threading.Lock()
        self._open: dict[socket.socket, None] = {}  # in the order of arrival
        # The base class makes a socket of its own, and looks its own host name up, which can take seconds without DNS.
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if not sockets.is_about_one(error):
                time.sleep(_PAUSE_SECONDS)  # who waits stays there
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._places:
            if len(self._open) >= MAX_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                cut(oldest)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._places:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._places:
            for connection in self._open:
                cut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection broke, or was cut. The base class would print a traceback."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SECONDS
    server_version = "tenantscope"
    sys_version = ""

    def do_GET(self) -> None:
        if not self.server.by_any_name and not _is_loopback_host(self.headers.get("Host", "")):
            return self._answer(*_json(HTTPStatus.FORBIDDEN, {"error": "the Host header must name this machine"}))
        asked = urlsplit(self.path)
        page = self.server.pages.get(asked.path)
        if page is None:
            return self._answer(*_json(HTTPStatus.NOT_FOUND, {"pages": sorted(self.server.pages)}))
        try:
            client = ANYBODY if asked.path in OPEN else self.server.clients.identify(self._authorizations())
            answer = page(self.headers.get("Accept", ""), asked.query, client)
        except Unknown:
            answer = _json(HTTPStatus.UNAUTHORIZED, {"error": "a client's token is needed, as `Authorization: Bearer`"})
        except Exception as error:  # noqa: BLE001  # its text may hold anything
            log.error("admin page failed", error=type(error).__name__)
            answer = _json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "internal error"})
        return self._answer(*answer)

    def _authorizations(self) -> list[str]:
        return self.headers.get_all("Authorization", [])

    do_HEAD = do_GET  # noqa: N815  # http.server's name

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # http.server's name
        """Nothing: request lines come from outside."""


def _is_loopback_host(header: str) -> bool:
    """Whether the Host header names this machine, with or without a port."""
    try:
        host = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
