"""The console's pages, as an ASGI application: the page itself, and JSON below `/api`.

Who may read: whoever has the token, on this machine. The address that the console prints has the token in it; the
first visit turns it into a cookie that no other page can use, and takes it out of the address. What it refuses: another
`Host`, so that no foreign name can be made to point here; scripts, styles and pictures from anywhere but here; methods
that change something.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from tenantscope.view.client import Admin, NoAnswerError

from .memory import Memory
from .traces import conversations, tree

COOKIE: Final = "tenantscope-console"
SPANS: Final = 2000  # of the newest, to find conversations in
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_MODULES: Final = ("console", "charts", "elements", "incidents", "tenants", "traces", "words")
_FILES: Final = ("index.html", "console.css", "icon.svg", *(f"{name}.js" for name in _MODULES))
_TRACE: Final = re.compile(r"[0-9a-f]{32}")
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STRANGER: Final = "This console wants the token that it printed when it started: open the address that stands there.\n"

Next = Callable[[Request], Awaitable[Response]]


def application(admin: Admin, memory: Memory, token: str) -> Starlette:
    """The pages on this sidecar, for whoever has the token."""

    async def guard(request: Request, call_next: Next) -> Response:
        given = request.query_params.get("token")
        if given is not None and request.url.path == "/" and _same(given, token):
            response: Response = RedirectResponse("/", status_code=303)
            # Cookies are of a host, not of a port: the name tells consoles on one machine apart.
            response.set_cookie(_cookie(request), token, httponly=True, samesite="strict")
        elif _same(request.cookies.get(_cookie(request), ""), token) or _same(_bearer(request), token):
            response = await call_next(request)
        else:
            response = PlainTextResponse(STRANGER, status_code=401)
        response.headers.update(_HEADERS)
        return response

    async def spans(**query: str | int) -> Any:
        """What the sidecar has; None when it keeps none."""
        page = await run_in_threadpool(admin.page, f"/spans?{urlencode(query)}")
        document = json.loads(page)
        return [span for span in document["spans"] if isinstance(span, dict)] if document["kept"] else None

    async def now(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(memory.document))

    async def traces(_: Request) -> Response:
        found = await spans(limit=SPANS)
        return JSONResponse({"kept": found is not None, "conversations": conversations(found or [])})

    async def trace(request: Request) -> Response:
        trace_id = request.path_params["trace_id"]
        if not _TRACE.fullmatch(trace_id):
            return JSONResponse({"error": "that is no trace id"}, status_code=404)
        found = await spans(trace_id=trace_id, limit=SPANS)
        return JSONResponse({"kept": found is not None, "trace_id": trace_id, "spans": tree(found or [])})

    async def unavailable(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status_code=502)

    async def nonsense(_: Request, __: Exception) -> Response:
        return JSONResponse({"error": "that is no sidecar: what it says of spans cannot be read"}, status_code=502)

    pages = [Route("/" if name == "index.html" else f"/{name}", _file(name), methods=["GET"]) for name in _FILES]
    app = Starlette(
        routes=[
            *pages,
            Route("/api/now", now, methods=["GET"]),
            Route("/api/traces", traces, methods=["GET"]),
            Route("/api/traces/{trace_id}", trace, methods=["GET"]),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"], www_redirect=False),
            Middleware(BaseHTTPMiddleware, dispatch=guard),
        ],
        exception_handlers={NoAnswerError: unavailable, ValueError: nonsense, KeyError: nonsense, TypeError: nonsense},
    )
    app.router.redirect_slashes = False  # an address is right or it is not
    return app


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    body = files(__package__).joinpath("static", name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(body, media_type=_TYPES[name.rpartition(".")[2]])

    return answer


def _cookie(request: Request) -> str:
    return f"{COOKIE}-{request.url.port or 80}"


def _bearer(request: Request) -> str:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    return given if kind.lower() == "bearer" else ""


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())
