"""Who may read the console, and what it answers."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from scene import Scene

from tenantscope.console.traces import conversations, tree


def ask(scene: Scene, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(urlsplit(scene.url).netloc, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def token(scene: Scene) -> str:
    return urlsplit(scene.url).query.removeprefix("token=")


@pytest.mark.parametrize(
    "path", ["/", "/console.js", "/api/now", "/api/traces", "/?token=wrong", "/api/now?token=wrong"]
)
def test_a_stranger_gets_nothing(scene: Scene, path: str) -> None:
    """Without the token there is one answer to everything, and it says how to get in."""
    answer, body = ask(scene, path)
    assert answer.status == 401
    assert b"printed" in body
    assert answer.getheader("set-cookie") is None


def test_the_token_becomes_a_cookie_and_leaves_the_address(scene: Scene) -> None:
    """The first visit is sent on to an address without it; the cookie is out of other pages' reach."""
    answer, _ = ask(scene, f"/?token={token(scene)}")
    assert (answer.status, answer.getheader("location")) == (303, "/")
    cookie = answer.getheader("set-cookie") or ""
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    answer, body = ask(scene, "/", cookie=cookie.split(";")[0])
    assert answer.status == 200
    assert b"<!doctype html>" in body


def test_a_script_uses_the_token_as_bearer(scene: Scene) -> None:
    """`curl -H "Authorization: Bearer ..."` gets the figures as JSON."""
    answer, body = ask(scene, "/api/now", authorization=f"Bearer {token(scene)}")
    assert answer.status == 200
    assert {"error", "tenants", "moments"} <= set(json.loads(body))


def test_a_foreign_name_gets_nothing(scene: Scene) -> None:
    """A page whose name resolves to this machine cannot read it through a browser."""
    answer, _ = ask(scene, "/api/now", authorization=f"Bearer {token(scene)}", host="evil.example")
    assert answer.status == 400


def test_every_answer_forbids_what_is_not_from_here(scene: Scene) -> None:
    """Scripts and styles from here only, no frames, nothing kept."""
    answer, _ = ask(scene, "/", authorization=f"Bearer {token(scene)}")
    policy = answer.getheader("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.getheader("cache-control") == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(scene: Scene, method: str) -> None:
    """It is for reading."""
    answer, _ = ask(scene, "/api/now", method, authorization=f"Bearer {token(scene)}")
    assert answer.status == 405


@pytest.mark.parametrize("trace_id", ["x", "0" * 31, "0" * 33, "..%2f", "A" * 32])
def test_what_is_no_trace_id_is_not_passed_on(scene: Scene, trace_id: str) -> None:
    """Only 32 hexadecimal digits reach the sidecar."""
    answer, _ = ask(scene, f"/api/traces/{trace_id}", authorization=f"Bearer {token(scene)}")
    assert answer.status == 404


def span(number: int, parent: int = 0, **changed: Any) -> dict[str, Any]:
    """A span as the sidecar's store has it."""
    about = {
        "trace_id": "1" * 32, "span_id": f"{number:016x}", "parent_span_id": f"{parent:016x}" if parent else "",
        "name": "process worker", "tenant": "acme", "start_ns": number * 1000, "end_ns": number * 1000 + 500,
        "status": "ok", "attributes": {},
    }  # fmt: skip
    return {**about, **changed}


def depths(lines: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(int(line["span_id"], 16), line["depth"]) for line in lines]


def test_a_tree_is_in_the_order_of_cause_and_time() -> None:
    """Children stand below their parent, earlier ones first; a span without its parent stands at the top."""
    lines = tree([span(4, 2), span(3, 1), span(2, 1), span(1), span(9, 7)])
    assert depths(lines) == [(1, 0), (2, 1), (4, 2), (3, 1), (9, 0)]


def test_a_circle_ends() -> None:
    """Spans that claim to be each other's parent, or their own, are shown once."""
    assert depths(tree([span(1, 2), span(2, 1), span(3, 3)])) == [(3, 0), (1, 0), (2, 1)]


def test_a_conversation_is_what_it_began_with() -> None:
    """Name and tenant of the span without a parent, though another one began earlier by its clock."""
    (found,) = conversations(
        [span(1, 2, name="child"), span(2, name="invoke_workflow Team", tenant="hog", status="error")]
    )
    assert (found["name"], found["tenant"], found["spans"], found["errors"]) == ("invoke_workflow Team", "hog", 2, 1)


@pytest.mark.parametrize("broken", [{"trace_id": 1}, {"start_ns": "x"}, {"name": None}, {"status": []}])
def test_a_span_that_is_none_is_left_out(broken: dict[str, Any]) -> None:
    """What the sidecar says is not believed blindly."""
    assert tree([span(1), span(2, **broken)]) == tree([span(1)])
    assert len(conversations([span(2, **broken)])) == 0
