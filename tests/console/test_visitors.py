"""One console for an operator and for tenants' engineers: each shows a token of his own, and sees his own."""

from __future__ import annotations

import http.client
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from browser import Browser
from console_application import EVIL
from hypothesis import given
from hypothesis import strategies as st
from scene import Scene, doing, playing

from sidecar.senders.clients import new_token
from tenantscope.console import visitors
from tenantscope.console.visitors import RefusedError, Visitors
from tenantscope.view.client import Admin

TOKENS = {name: new_token() for name in ("operator", "acme", "hog", "leaving")}
OPERATOR, ACME, HOG, LEAVING = (TOKENS[name][0] for name in TOKENS)
PATIENCE = 30.0


def clients(*names: str) -> str:
    """The list, with these in it."""
    tenants = {"operator": "all", "hog": "[hog]"}
    entries = [f'{name}: {{tokens: ["{TOKENS[name][1]}"], tenants: {tenants.get(name, "[acme]")}}}' for name in names]
    return f"clients: {{{', '.join(entries)}}}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("visitors")


@pytest.fixture(scope="module")
def scene(folder: Path) -> Iterator[Scene]:
    """Three tenants, of which one has held the loop; the sidecar has a list of clients."""
    with playing(folder, clients(*TOKENS), OPERATOR) as scene:
        with doing(lambda: scene.say("hold"), lambda: scene.say("let go")):
            until(lambda: any(stall["tenant"] == "hog" for stall in now(scene, own(scene)).get("stalls", [])))
        until(lambda: {"acme", "hog", EVIL} <= {each["tenant"] for each in traces(scene, own(scene))})
        yield scene


def until(what: Any) -> Any:
    """What it says, as soon as it is true."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.05)):
        if found := what():
            return found
        pause.wait(0.05)
    return pytest.fail("not in time")


def ask(
    scene: Scene, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection(urlsplit(scene.url).netloc, timeout=PATIENCE)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def sign_in(scene: Scene, token: str, **headers: str) -> tuple[http.client.HTTPResponse, str]:
    return ask(scene, "/", "POST", urlencode({"token": token}), **headers)


def session(scene: Scene, token: str) -> dict[str, str]:
    """The headers of a browser that signed in."""
    answer, _ = sign_in(scene, token)
    assert (answer.status, answer.getheader("location")) == (303, "/")
    return {"cookie": (answer.getheader("set-cookie") or "").split(";")[0]}


def own(scene: Scene) -> dict[str, str]:
    """The headers of whoever has the console's own token."""
    return {"authorization": f"Bearer {urlsplit(scene.url).query.removeprefix('token=')}"}


def now(scene: Scene, who: dict[str, str]) -> Any:
    answer, text = ask(scene, "/api/now", **who)
    assert answer.status == 200
    return json.loads(text)


def traces(scene: Scene, who: dict[str, str]) -> Any:
    return json.loads(ask(scene, "/api/traces", **who)[1])["conversations"]


def everything(scene: Scene, who: dict[str, str]) -> str:
    """All that the console tells somebody, of every trace that there is."""
    every = [each["trace_id"] for each in traces(scene, own(scene))][:200]
    paths = ["/api/now", "/api/traces", *(f"/api/traces/{each}" for each in every)]
    return "\n".join(ask(scene, path, **who)[1] for path in paths)


def test_each_sees_his_own(scene: Scene) -> None:
    """The operator all, a tenant's engineer his tenant and no trace of others, in whatever order they ask."""
    acme, hog = session(scene, ACME), session(scene, HOG)
    operator = session(scene, OPERATOR)
    everybody = {"acme", "hog", EVIL}
    for who, sees, exactly in (
        (own(scene), everybody, False),
        (operator, everybody, False),
        (acme, {"acme"}, True),
        (hog, {"hog"}, True),
    ):
        until(lambda who=who, sees=sees: sees <= set(now(scene, who)["moments"][-1]["tenants"]))
        document = now(scene, who)
        told = {
            "rows": {row["tenant"] for row in document["tenants"]},
            "moments": {tenant for moment in document["moments"] for tenant in moment["tenants"]},
            "traces": {each["tenant"] for each in traces(scene, who)},
        }
        assert all(named == sees if exactly else named >= sees for named in told.values()), told
    for who, hidden in ((acme, ("hog", "<img", "render_report")), (hog, ("acme", "<img"))):
        told = everything(scene, who)
        assert [each for each in hidden if each in told] == []
    assert now(scene, hog)["stalls"]


def test_a_session_is_no_token(scene: Scene) -> None:
    """The browser gets a name that is good here only, out of scripts' and other sites' reach, while it is open."""
    answer, text = sign_in(scene, ACME)
    cookie = answer.getheader("set-cookie") or ""
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "expires" not in cookie.lower()
    assert "max-age" not in cookie.lower()
    told = [str(answer.getheaders()), text]
    for path in ("/", "/api/now", "/api/traces", "/nowhere"):
        answer, text = ask(scene, path, cookie=cookie.split(";")[0])
        told += [str(answer.getheaders()), text]
    assert ACME not in "".join(told)


@pytest.mark.parametrize(
    "token", ["", "wrong", f"{ACME} {ACME}", f"x{ACME}", "a\r\nX-Evil: 1", "\u00e4", "x" * 5000, "x" * 20000]
)
def test_a_wrong_token_is_told_in_one_line(scene: Scene, token: str) -> None:
    """No session, and a line that repeats nothing of what was shown."""
    answer, text = sign_in(scene, token)
    assert answer.status == 401
    assert answer.getheader("set-cookie") is None
    assert f'role="alert">{visitors.WRONG}</p>' in text
    assert len(token) < 6 or token not in text


def test_a_script_shows_its_token_as_bearer(scene: Scene) -> None:
    """As to the sidecar, and sees the same; a wrong one is told in a line."""
    answer, text = ask(scene, "/api/now", authorization=f"Bearer {ACME}")
    assert answer.status == 200
    assert {row["tenant"] for row in json.loads(text)["tenants"]} == {"acme"}
    answer, text = ask(scene, "/api/now", authorization="Bearer wrong")
    assert (answer.status, text) == (401, f"{visitors.WRONG}\n")


def test_a_token_in_an_address_opens_nothing(scene: Scene) -> None:
    """Addresses are kept in histories and passed on."""
    answer, text = ask(scene, f"/?{urlencode({'token': ACME})}")
    assert answer.status == 401
    assert answer.getheader("set-cookie") is None
    assert ACME not in text


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://127.0.0.1:1"])
def test_another_page_signs_nobody_in_or_out(scene: Scene, origin: str) -> None:
    """A form on another page, also on another port of this machine, is refused."""
    answer, _ = sign_in(scene, ACME, origin=origin)
    assert (answer.status, answer.getheader("set-cookie")) == (403, None)
    browser = session(scene, ACME)
    assert ask(scene, "/leave", "POST", origin=origin, **browser)[0].status == 403
    assert now(scene, browser)["visitor"]


def test_who_leaves_is_forgotten(scene: Scene) -> None:
    """His session opens nothing any more; another browser of the same client goes on."""
    one, other = session(scene, LEAVING), session(scene, LEAVING)
    assert one != other
    assert ask(scene, "/leave", "POST", **one)[0].status == 204
    assert ask(scene, "/api/now", **one)[0].status == 401
    until(lambda: len(now(scene, other)["moments"]) > 2)
    before = now(scene, other)
    ask(scene, "/leave", "POST", **other)
    after = now(scene, session(scene, LEAVING))
    assert after["visitor"] != before["visitor"]
    assert after["moments"][0]["at"] >= before["moments"][2]["at"]


def test_nothing_of_a_token_is_logged(
    scene: Scene, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Right or wrong, at any level."""
    with caplog.at_level(logging.DEBUG):
        wrong = new_token()[0]
        sign_in(scene, wrong)
        now(scene, session(scene, HOG))
        ask(scene, "/api/now", authorization=f"Bearer {wrong}")
    said = caplog.text + "".join(capfd.readouterr())
    assert [each for each in (wrong, HOG) if each in said] == []


def test_a_token_that_was_taken_out_of_the_list_shows_nothing_any_more(scene: Scene, folder: Path) -> None:
    """Also of what was remembered: the session ends with the next look. The others' go on."""
    browser, other = session(scene, LEAVING), session(scene, ACME)
    now(scene, browser)
    try:
        (folder / "clients.yaml").write_text(clients("operator", "acme", "hog"))
        until(lambda: ask(scene, "/api/now", **browser)[0].status == 401)
        assert now(scene, other)["tenants"]
    finally:
        (folder / "clients.yaml").write_text(clients(*TOKENS))


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def door(scene: Scene) -> Iterator[tuple[Visitors, Clock]]:
    """Visitors of the same sidecar, by a clock of our own."""
    clock = Clock()
    made = Visitors(Admin(scene.sidecar.admin_address.target, token=OPERATOR), clock, interval=0.01)
    yield made, clock
    made.close()


def test_who_asks_nothing_for_an_hour_is_forgotten(door: tuple[Visitors, Clock]) -> None:
    """Token, session and what was remembered; who asks stays."""
    made, clock = door
    silent, asking = made.sign_in(ACME), made.sign_in(HOG)
    clock.time = visitors.IDLE / 2
    assert made.of(asking)
    clock.time = visitors.IDLE + 1
    until(lambda: len(made._by_token) == 1)
    assert made.of(silent) is None
    assert made.of(asking)
    assert len(made._by_session) == 1


def test_browsers_of_one_client_share_what_is_remembered(door: tuple[Visitors, Clock]) -> None:
    """And are bounded: the oldest has to sign in again."""
    made, _ = door
    names = [made.sign_in(ACME) for _ in range(visitors.SESSIONS + 1)]
    assert made.of(names[0]) is None
    views = [made.of(name) for name in names[1:]]
    assert len({id(view) for view in views}) == 1
    assert len(made._by_session) == visitors.SESSIONS


def test_places_are_bounded(door: tuple[Visitors, Clock], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who looks is pushed out by a newcomer; who has been away for a minute is."""
    monkeypatch.setattr(visitors, "MOST", 2)
    made, clock = door
    away = made.sign_in(ACME)
    made.sign_in(HOG)
    with pytest.raises(RefusedError, match="Too many"):
        made.sign_in(LEAVING)
    clock.time = visitors.AWAY + 1
    made.enter(HOG)
    assert made.sign_in(LEAVING)
    assert made.of(away) is None


def test_without_a_list_of_clients_no_token_opens_anything(tmp_path: Path) -> None:
    """Such a sidecar answers whatever is shown: the console's own token is all that counts."""
    with playing(tmp_path) as scene:
        until(lambda: not now(scene, own(scene))["error"])
        answer, text = sign_in(scene, "anything")
        assert (answer.status, answer.getheader("set-cookie")) == (401, None)
        assert visitors.OPEN in text
        assert ask(scene, "/api/now", authorization="Bearer anything")[0].status == 401


def test_a_sidecar_that_does_not_answer(folder: Path) -> None:
    """Nobody can be told from a stranger then: the reason is given, and no session."""
    from tenantscope.console.server import Console

    with Console(Admin("127.0.0.1:1")).running() as url:
        answer, text = sign_in(Scene(url, None, None), ACME)  # type: ignore[arg-type]
        assert (answer.status, answer.getheader("set-cookie")) == (502, None)
        assert "The sidecar does not answer: connection refused." in text


@given(st.text())
def test_whatever_is_called_a_session_is_nobodys(name: str) -> None:
    """Unless it was given out."""
    assert Visitors(Admin("127.0.0.1:1")).of(name) is None


def test_a_tenants_engineer_in_a_browser(scene: Scene, window: Browser) -> None:
    """Asked for a token, told when it is wrong, led to what he came for; he sees his tenant only, until he leaves."""
    base = scene.url.partition("?")[0]
    window.open("about:blank")
    window.complaints()
    window.open(f"{base}#/tenants/acme")
    enter = (
        "const field = document.querySelector('#token'); field.value = arguments[0];"
        "document.querySelector('form button').click()"
    )
    assert window.run("return document.querySelector('#state').hidden")
    window.run(enter, "wrong")
    window.until(f"document.querySelector('#state')?.innerText.includes('{visitors.WRONG}')")
    window.run(enter, ACME)
    window.until("document.querySelectorAll('table tbody tr').length > 0")
    assert window.run("return location.href") == f"{base}#/tenants/acme"
    assert ACME not in window.run(
        "return JSON.stringify([document.cookie, localStorage, sessionStorage, location.href])"
    )
    seen = []
    for view in ("", "conversations", "alerts", "tenants/acme", "tenants/hog", "stalls/1"):
        window.run(f"location.hash = '#/{view}'")
        window.until("document.querySelectorAll('section').length > 0 && document.querySelectorAll('nav a').length > 0")
        if view in ("", "conversations", "tenants/acme"):
            window.until("[...document.querySelectorAll('tbody tr')].some((each) => each.innerText.includes('acme'))")
        if view != "tenants/hog":  # its heading says what the address said
            seen.append(window.run("return document.documentElement.outerHTML"))
    assert [each for each in ("hog", "img src", "render_report") if each in "".join(seen)] == []
    window.run("document.querySelector('#leave').click()")
    window.until("document.querySelector('form.sign-in')")
    assert window.run("return (await fetch('/api/now')).status") == 401
    window.run(enter, OPERATOR)
    window.until("document.querySelector('.card')?.innerText.includes('hog')")  # the address of the stall has stayed
    assert [each for each in window.complaints() if "401" not in each] == []
