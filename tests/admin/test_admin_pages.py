"""The admin listener over real HTTP: what it serves, and whom it refuses."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from otlp_peers import PATIENCE
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from sidecar.admin import Admin, Figures
from sidecar.admin.server import MAX_CONNECTIONS
from sidecar.configuration.settings import ConfigurationError
from sidecar.ledger import Ledger
from sidecar.network.address import loopback, tcp_listener
from sidecar.senders.clients import Client


class Pages:
    """An admin listener, and what it is told."""

    def __init__(self) -> None:
        self.parts = {"intake": True, "destination": True}
        self.document: dict[str, Any] = {"version": "1", "tenants": [{"tenant": "\u202eacme\n"}]}
        self.kept: list[dict[str, Any]] | None = [{"name": "process writer"}]
        self.asked: list[tuple[str | None, int]] = []
        registry = CollectorRegistry()
        registry.register(Ledger())
        self.admin = Admin(
            loopback("127.0.0.1:0"), ready=lambda: self.parts, status=self.status, spans=self.spans, registry=registry
        )
        self.admin.start()
        self.port = self.admin.address.port

    def status(self, client: Client) -> dict[str, Any]:
        if self.document is None:
            raise RuntimeError("sk-live-4242")
        return self.document

    def spans(self, client: Client, trace_id: str | None, limit: int) -> list[dict[str, Any]] | None:
        self.asked.append((trace_id, limit))
        return self.kept

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()


@pytest.fixture
def pages() -> Iterator[Pages]:
    made = Pages()
    yield made
    made.admin.stop()


def test_alive_is_told_whatever_is_not_ready(pages: Pages) -> None:
    """A restart would not help against a dead upstream."""
    pages.parts = {"intake": False, "destination": False}
    response, body = pages.ask("/healthz")
    assert (response.status, json.loads(body)) == (200, {"status": "ok"})


def test_readiness_names_what_is_not_ready(pages: Pages) -> None:
    """200 only when every part is."""
    response, body = pages.ask("/readyz")
    assert (response.status, json.loads(body)) == (200, {"ready": True, "not_ready": []})
    pages.parts["destination"] = False
    response, body = pages.ask("/readyz")
    assert (response.status, json.loads(body)) == (503, {"ready": False, "not_ready": ["destination"]})


def test_the_status_is_one_json_document(pages: Pages) -> None:
    """Whatever a tenant is called, it comes back as it is, and nothing prints on a terminal."""
    response, body = pages.ask("/status")
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert json.loads(body) == pages.document
    assert body.strip().isascii()


def test_metrics_come_in_the_format_that_is_asked_for(pages: Pages) -> None:
    """Prometheus' text by default, OpenMetrics for who accepts it."""
    response, body = pages.ask("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain")
    assert "tenantscope_records_received" in {family.name for family in parse_text(body.decode())}
    response, body = pages.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert "tenantscope_records_received" in {family.name for family in parse_openmetrics(body.decode())}


def test_head_is_get_without_a_body(pages: Pages) -> None:
    """For load balancers."""
    response, body = pages.ask("/readyz", "HEAD")
    assert (response.status, body) == (200, b"")
    assert int(response.headers["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_there_is_nothing_to_change(pages: Pages, method: str) -> None:
    """Other methods do not exist."""
    response, _ = pages.ask("/status", method)
    assert response.status == 501


def test_unknown_pages_list_the_known_ones(pages: Pages) -> None:
    """And repeat nothing of what was asked."""
    response, body = pages.ask("/../etc/passwd")
    assert response.status == 404
    assert json.loads(body) == {"pages": ["/healthz", "/metrics", "/readyz", "/spans", "/status"]}


@pytest.mark.parametrize("host", ["localhost", "localhost:8889", "127.0.0.1:1", "[::1]:8889", "127.0.0.53"])
def test_this_machine_is_let_in_by_its_names(pages: Pages, host: str) -> None:
    """With or without a port."""
    response, _ = pages.ask("/status", Host=host)
    assert response.status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", "", "[::", "10.0.0.1", "0x7f.1"]
)
@pytest.mark.parametrize("path", ["/status", "/metrics", "/healthz"])
def test_other_names_for_it_are_refused(pages: Pages, host: str, path: str) -> None:
    """A web page whose name resolves to 127.0.0.1 reads nothing through a visitor's browser."""
    response, body = pages.ask(path, Host=host)
    assert response.status == 403
    assert b"tenant" not in body


def test_a_page_that_fails_tells_no_reason(pages: Pages, capfd: pytest.CaptureFixture[str]) -> None:
    """500, and nothing of the exception's text anywhere; the listener goes on."""
    pages.document = None
    response, body = pages.ask("/status")
    assert (response.status, json.loads(body)) == (500, {"error": "internal error"})
    output = capfd.readouterr()
    assert "sk-live-4242" not in output.out + output.err
    assert pages.ask("/healthz")[0].status == 200


def test_idle_connections_cannot_keep_others_out(pages: Pages) -> None:
    """With every place taken the oldest connection is cut off, and the next request is answered."""
    idle = [socket.create_connection(("127.0.0.1", pages.port), PATIENCE) for _ in range(MAX_CONNECTIONS * 3)]
    try:
        assert pages.ask("/healthz")[0].status == 200
        assert idle[0].recv(1) == b""
    finally:
        for connection in idle:
            connection.close()


def test_a_connection_that_no_file_is_left_for_costs_no_core(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays where it is until there is one: between two tries the listener rests, and then it is served."""
    accept, rest = socket.socket.accept, time.sleep
    missing, said = 5, []

    def short_of_files(listening: socket.socket) -> Any:
        if said.count("tried") < missing:
            said.append("tried")
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(listening)

    def resting(seconds: float) -> None:
        if threading.current_thread().name == "admin":
            said.append("rested")
        rest(seconds)

    monkeypatch.setattr(socket.socket, "accept", short_of_files)
    monkeypatch.setattr(time, "sleep", resting)
    assert pages.ask("/healthz")[0].status == 200
    assert said == missing * ["tried", "rested"]


@pytest.mark.parametrize(
    "line", [b"\0\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000 + b"\r\n\r\n"]
)
def test_what_is_no_http_ends_its_own_connection(pages: Pages, capfd: pytest.CaptureFixture[str], line: bytes) -> None:
    """Nothing is printed, and the listener goes on."""
    with socket.create_connection(("127.0.0.1", pages.port), PATIENCE) as connection:
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(4096):
                pass
    assert pages.ask("/healthz")[0].status == 200
    output = capfd.readouterr()
    assert output.out + output.err == ""


def test_an_address_in_use_is_told_by_name(pages: Pages) -> None:
    """One line that names the key."""
    with pytest.raises(ConfigurationError, match=f"TENANTSCOPE_ADMIN: cannot listen on 127.0.0.1:{pages.port}"):
        Admin(
            loopback(f"127.0.0.1:{pages.port}"),
            ready=dict,
            status=dict,
            spans=lambda *_: None,
            registry=CollectorRegistry(),
        )


@pytest.mark.parametrize(
    ("query", "asked"),
    [("", (None, 100)), ("?limit=7", (None, 7)), (f"?trace_id={'a1' * 16}&limit=5000", ("a1" * 16, 5000))],
)
def test_spans_are_those_that_were_asked_for(pages: Pages, query: str, asked: tuple[str | None, int]) -> None:
    """Of a trace or of all, the newest, as many as wanted."""
    response, body = pages.ask(f"/spans{query}")
    assert (response.status, json.loads(body)) == (200, {"kept": True, "spans": [{"name": "process writer"}]})
    assert pages.asked == [asked]


@pytest.mark.parametrize(
    "query",
    ["?limit=0", "?limit=5001", "?limit=-1", "?limit=", "?limit=1&limit=2", "?limit=\u0663", "?trace_id=",
     "?tenant=acme", f"?trace_id={'A' * 32}", f"?trace_id={'a' * 31}", "?trace_id=%27%3B--"],
)  # fmt: skip
def test_a_question_about_spans_that_makes_no_sense_is_refused(pages: Pages, query: str) -> None:
    """It never reaches the store; the answer says what may be asked."""
    response, body = pages.ask(f"/spans{quote(query, safe='?=&%')}")
    assert response.status == 400
    assert "error" in json.loads(body)
    assert pages.asked == []


def test_without_a_store_no_spans_are_kept(pages: Pages) -> None:
    """That is something else than a store without spans."""
    pages.kept = None
    _, body = pages.ask("/spans")
    assert json.loads(body) == {"kept": False, "spans": []}


@pytest.fixture
def figures(pages: Pages) -> Iterator[Pages]:
    """The same sidecar, asked at its listener for other machines."""
    registry = CollectorRegistry()
    registry.register(Ledger())
    listener = Figures(tcp_listener("127.0.0.1:0"), ready=lambda: pages.parts, registry=registry)
    listener.start()
    pages.port = listener.address.port
    yield pages
    listener.stop()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize("host", ["10.1.2.3:8890", "sidecar", "sidecar.billing.svc:8890"])
def test_other_machines_read_health_and_figures(figures: Pages, path: str, host: str) -> None:
    """By any name: a kubelet and Prometheus use an address that nobody knew before."""
    assert figures.ask(path, Host=host)[0].status == 200


@pytest.mark.parametrize("path", ["/status", "/spans", "/status/", "/"])
def test_other_machines_read_nothing_else(figures: Pages, path: str) -> None:
    """Stacks, names of files and spans stay on this one."""
    response, body = figures.ask(path)
    assert response.status == 404
    assert json.loads(body) == {"pages": ["/healthz", "/metrics", "/readyz"]}
    assert figures.asked == []


def test_readiness_is_told_to_other_machines_too(figures: Pages) -> None:
    """The same as here."""
    figures.parts["destination"] = False
    assert figures.ask("/readyz")[0].status == 503
    assert figures.ask("/healthz")[0].status == 200
