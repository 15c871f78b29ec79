"""What answers at the admin address may be anything: the question ends in time, with a reason in plain words."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler

import pytest
from recorded_sidecar import CALM, Answer, Listener, body, recorded

from tenantscope.view import client
from tenantscope.view.client import Admin, NoAnswerError

LIMIT = 10.0  # seconds; whatever takes longer hangs


def test_the_status_of_a_sidecar_is_read(listener: Listener) -> None:
    """`host:port` and `http://host:port/` are the same."""
    for address in (listener.url, listener.url + "/", listener.url.removeprefix("http://")):
        assert Admin(address).status().pid == recorded(CALM)["pid"]
    assert listener.asked == 3


def test_every_body_is_heard_even_that_of_a_refusal(listener: Listener) -> None:
    """The demo searches them for secrets."""
    heard: list[tuple[str, bytes]] = []
    admin = Admin(listener.url, heard=lambda path, body: heard.append((path, body)))
    listener.answer = body(b"nope", 404)
    with pytest.raises(NoAnswerError, match=r"it answered 404$"):
        admin.page("/metrics")
    assert heard == [("/metrics", b"nope")]


def trickling(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, for ever: each in time, all of them never."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        threading.Event().wait(0.05)


def trickling_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
    while True:
        handler.wfile.write(b"x")
        threading.Event().wait(0.05)


def broken_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b"{")


def redirecting(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "http://127.0.0.1:1/")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (trickling, "no answer within 0.3 s"),
        (trickling_headers, "no answer within 0.3 s"),
        (broken_off, "the answer broke off"),
        (redirecting, "it answered 302"),
        (body(b"<html>"), "that is no sidecar: its answer is not JSON"),
        (body(b"[]"), "that is no sidecar: its answer is not a JSON object"),
        (
            body(b'{"error": "the Host header must name this machine"}', 403),
            "it answered 403: the Host header must name",
        ),
        (body(b'{"error": "\\u001b[2J"}', 500), r"it answered 500: \\x1b\[2J"),
        (body(b'{"error": ["' + b"x" * 999 + b'"]}', 500), "it answered 500$"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n"), "does not speak HTTP"),
        (lambda handler: None, "hung up without an answer"),
    ],
)
def test_what_is_no_answer_is_told_in_words(listener: Listener, answer: Answer, reason: str) -> None:
    """No way to answer wrongly raises anything else, or takes longer than the limit in all."""
    listener.answer = answer
    with pytest.raises(NoAnswerError, match=reason):
        Admin(listener.url, limit=0.3).status()


def test_an_answer_without_end_is_given_up(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, whatever is sent."""
    monkeypatch.setattr(client, "MAX_BYTES", 1 << 20)
    listener.answer = body(b" " * (3 << 20))
    with pytest.raises(NoAnswerError, match="more than 1 MiB"):
        Admin(listener.url).status()


def test_nobody_there_is_told_at_once() -> None:
    """A closed port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NoAnswerError, match="connection refused"):
        Admin(f"127.0.0.1:{port}").status()


def test_one_who_takes_the_connection_and_says_nothing_is_given_up() -> None:
    """A process that is stopped still has its port."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NoAnswerError, match=r"no answer within 0\.2"):
        Admin(f"127.0.0.1:{silent.getsockname()[1]}", limit=0.2).status()


@pytest.mark.parametrize(
    "address",
    [
        *("", "x", "127.0.0.1", "http://", "https://127.0.0.1:1", "http://h:0", "http://h:99999", "http://u:p@h:1"),
        *("http://h:1/status", "http://h:1?x", "http://h\n:1", "http://é:1", "http://[::1:1", "unix:run/x", "h:1#f"),
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """Before anything is asked; credentials would end up in process lists and are not needed."""
    with pytest.raises(ValueError, match=r"\w"):
        Admin(address)


def test_proxy_settings_are_not_heeded(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A status goes from the sidecar to the one who asks, and nowhere else."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert Admin(listener.url).status().pid
