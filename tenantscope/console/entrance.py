"""Who may look at the console, and at what: whoever has its own token at what the console sees, and a client of the
sidecar, where there is a list of them, at what that client may see.

The address that the console prints has its own token in it; the first visit turns it into a cookie that no other page
can use, and takes it out of the address. A client's token comes from the form at `/`, in the body of a request, and is
never part of an address, nor of a cookie: cookies are of a host and go to every port of it. What it refuses: to be
written to by another page, which has another `Origin`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from html import escape
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from tenantscope.view.client import NoAnswerError

from .visitors import RefusedError, View, Visitors

COOKIE: Final = "tenantscope-console"
STRANGER: Final = "This console wants the token that it printed when it started: open the address that stands there.\n"
FOREIGN: Final = "That came from another page.\n"
#: What a stranger's browser needs to draw the form; nothing in it is about anybody.
PLAIN: Final = frozenset({"/console.css", "/icon.svg", "/theme.js"})
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with none at all, a browser would not say where the form came from
    "Cache-Control": "no-store",
}
_BODY: Final = 16384  # bytes of a form
_SECONDS: Final = 5.0  # that it may take to come
_AT_ONCE: Final = 4  # tokens that are shown to the sidecar; more wait
_FORM: Final = files(__package__).joinpath("static", "sign-in.html").read_text("utf-8")

Next = Callable[[Request], Awaitable[Response]]


class Entrance:
    """The door of one console.

    Args:
        own: what whoever has `token` looks at.
    """

    def __init__(self, own: View, token: str, visitors: Visitors) -> None:
        self._own = own
        self._token = token
        self._visitors = visitors
        self._asking = asyncio.Semaphore(_AT_ONCE)

    async def guard(self, request: Request, call_next: Next) -> Response:
        """Middleware: what goes on has the `view` of whoever asks in its state."""
        response = await self._admit(request, call_next)
        response.headers.update(_HEADERS)
        return response

    async def sign_in(self, request: Request) -> Response:
        """The form: a client's token, for a session. The answer leads to the page."""
        try:
            async with asyncio.timeout(_SECONDS):
                body = await _body(request)
        except (TimeoutError, ClientDisconnect):
            return PlainTextResponse("", status_code=408)
        given = parse_qs(body.decode("ascii", "replace")).get("token", [""])[0].strip()
        try:
            async with self._asking:
                session = await run_in_threadpool(self._visitors.sign_in, given)
        except RefusedError as error:
            return _form(str(error), 401)
        except NoAnswerError as error:
            return _form(f"The sidecar does not answer: {error}.", 502)
        self._forget(request)
        return _entered(request, session)

    async def leave(self, request: Request) -> Response:
        """Ends the session of whoever asks, and takes the cookie away."""
        self._forget(request)
        response = Response(status_code=204)
        response.delete_cookie(_cookie(request), httponly=True, samesite="strict")
        return response

    def _forget(self, request: Request) -> None:
        self._visitors.leave(request.cookies.get(_cookie(request), ""))

    async def _admit(self, request: Request, call_next: Next) -> Response:
        origin = request.headers.get("origin")
        if request.method not in ("GET", "HEAD") and origin not in (None, f"http://{request.headers['host']}"):
            return PlainTextResponse(FOREIGN, status_code=403)
        path = request.url.path
        given = request.query_params.get("token")
        if given is not None and path == "/" and _same(given, self._token):
            self._forget(request)
            return _entered(request, self._token)
        if path in PLAIN or (path == "/" and request.method == "POST"):
            return await call_next(request)
        try:
            view = await self._view(request)
        except RefusedError as error:
            return PlainTextResponse(f"{error}\n", status_code=401)
        except NoAnswerError as error:
            return PlainTextResponse(f"The sidecar does not answer: {error}.\n", status_code=502)
        if view is None:
            return _form("", 401) if path == "/" else PlainTextResponse(STRANGER, status_code=401)
        request.state.view = view
        return await call_next(request)

    async def _view(self, request: Request) -> View | None:
        """Of whoever asks: a browser by its cookie, a script by its bearer token; None: nobody's.

        Raises:
            RefusedError: the bearer token opens nothing.
            NoAnswerError: whether it does cannot be found out.
        """
        cookie, bearer = request.cookies.get(_cookie(request), ""), _bearer(request)
        if _same(cookie, self._token) or _same(bearer, self._token):
            return self._own
        if not bearer:
            return self._visitors.of(cookie)
        async with self._asking:
            return await run_in_threadpool(self._visitors.enter, bearer)


def _form(said: str, status: int) -> Response:
    """The page of a stranger; `said` is why he is one still."""
    hidden = "" if said else " hidden"
    return HTMLResponse(_FORM.replace("{hidden}", hidden).replace("{said}", escape(said)), status)


def _entered(request: Request, cookie: str) -> Response:
    response = RedirectResponse("/", status_code=303)
    # Cookies are of a host, not of a port: the name tells consoles on one machine apart.
    response.set_cookie(_cookie(request), cookie, httponly=True, samesite="strict")
    return response


async def _body(request: Request) -> bytes:
    """As much of it as a form has; what is longer is no token."""
    body = b""
    async for part in request.stream():
        if len(body) + len(part) > _BODY:
            return b""
        body += part
    return body


def _cookie(request: Request) -> str:
    return f"{COOKIE}-{request.url.port or 80}"


def _bearer(request: Request) -> str:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if kind.lower() == "bearer" else ""


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())
