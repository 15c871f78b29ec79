"""The console's pages, as an ASGI application: the page itself, and JSON below `/api`.

Who may read, and what: `entrance.py`. Every answer is made of the view of whoever asks, and of nothing else. What it
refuses: another `Host`, so that no foreign name can be made to point here; scripts, styles and pictures from anywhere
but here; methods that change something.
"""

from __future__ import annotations

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
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tenantscope.view.client import NoAnswerError

from .entrance import Entrance
from .traces import conversations, tree
from .visitors import View, Visitors

SPANS: Final = 2000  # of the newest, to find conversations in
_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_MODULES: Final = ("console", "charts", "elements", "incidents", "tenants", "traces", "words")
_FILES: Final = ("index.html", "console.css", "icon.svg", "theme.js", *(f"{name}.js" for name in _MODULES))
_TRACE: Final = re.compile(r"[0-9a-f]{32}")


def application(own: View, token: str, visitors: Visitors) -> Starlette:
    """The pages: `own` for whoever has the token, and for each visitor his."""
    entrance = Entrance(own, token, visitors)

    async def spans(view: View, **query: str | int) -> Any:
        """What the sidecar has; None when it keeps none."""
        page = await run_in_threadpool(view.admin.page, f"/spans?{urlencode(query)}")
        document = json.loads(page)
        return [span for span in document["spans"] if isinstance(span, dict)] if document["kept"] else None

    async def now(request: Request) -> Response:
        view: View = request.state.view
        return JSONResponse({"visitor": view.name, **await run_in_threadpool(view.memory.document)})

    async def traces(request: Request) -> Response:
        found = await spans(request.state.view, limit=SPANS)
        return JSONResponse({"kept": found is not None, "conversations": conversations(found or [])})

    async def trace(request: Request) -> Response:
        trace_id = request.path_params["trace_id"]
        if not _TRACE.fullmatch(trace_id):
            return JSONResponse({"error": "that is no trace id"}, status_code=404)
        found = await spans(request.state.view, trace_id=trace_id, limit=SPANS)
        return JSONResponse({"kept": found is not None, "trace_id": trace_id, "spans": tree(found or [])})

    async def unavailable(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status_code=502)

    async def nonsense(_: Request, __: Exception) -> Response:
        return JSONResponse({"error": "that is no sidecar: what it says of spans cannot be read"}, status_code=502)

    pages = [Route("/" if name == "index.html" else f"/{name}", _file(name), methods=["GET"]) for name in _FILES]
    app = Starlette(
        routes=[
            *pages,
            Route("/", entrance.sign_in, methods=["POST"]),
            Route("/leave", entrance.leave, methods=["POST"]),
            Route("/api/now", now, methods=["GET"]),
            Route("/api/traces", traces, methods=["GET"]),
            Route("/api/traces/{trace_id}", trace, methods=["GET"]),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"], www_redirect=False),
            Middleware(BaseHTTPMiddleware, dispatch=entrance.guard),
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
