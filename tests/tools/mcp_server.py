"""A real server of the Model Context Protocol, over standard input and output, or over HTTP in a thread of the test."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from mcp.server.fastmcp import Context, FastMCP


def make_server() -> FastMCP[Any]:
    """One tool that answers, one that fails, one that says which trace its request is part of."""
    server: FastMCP[Any] = FastMCP("test", log_level="ERROR")

    @server.tool()
    def greet(name: str) -> str:
        """A tool with a s3cr3t-description."""
        return f"s3cr3t-result for {name}"

    @server.tool()
    def fail(name: str) -> str:
        """A tool."""
        raise ValueError(f"s3cr3t-error for {name}")

    @server.tool()
    def die(name: str) -> str:
        """A tool; only for a server that is a process of its own."""
        os._exit(3)

    @server.tool()
    def trace_of(context: Context[Any, Any, Any]) -> str:
        """A tool."""
        meta = context.request_context.meta
        return str((meta.model_extra or {}).get("traceparent") if meta is not None else None)

    @server.resource("note://s3cr3t")
    def note() -> str:
        """A resource."""
        return "s3cr3t-note"

    return server


@contextmanager
def serving_http(kind: str) -> Iterator[str]:
    """A server over `sse` or `streamable-http`, for a while; yields its URL."""
    server = make_server()
    app, path = (server.sse_app(), "/sse") if kind == "sse" else (server.streamable_http_app(), "/mcp")
    listener = socket.create_server(("127.0.0.1", 0))
    web = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
    finally:
        web.should_exit = True
        thread.join(10)
        listener.close()


if __name__ == "__main__":
    make_server().run("stdio")
