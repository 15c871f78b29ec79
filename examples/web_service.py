"""A web service that serves many tenants on one AutoGen runtime. Starlette here; FastAPI takes the same middleware.

    python examples/web_service.py --port 8000
    curl -H 'Authorization: Bearer acme-key' http://127.0.0.1:8000/ask?question=hello
    curl -H 'Authorization: Bearer globex-key' http://127.0.0.1:8000/ask?careless=1

The tenant is bound once, where it is known for sure: after the caller's key was checked. `careless=1` does what goes
wrong most often, a blocking call in a handler: with `tenantscope sidecar` beside it, `tenantscope top` names `globex`
and the line.
Needs `starlette` and `uvicorn`.
"""

import argparse
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import uvicorn
from autogen_core import AgentId, MessageContext, RoutedAgent, SingleThreadedAgentRuntime, rpc
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import instrumentation

TENANT_OF_KEY = {"acme-key": "acme", "globex-key": "globex"}


class TenantOfCaller:
    """Binds the tenant for everything that a request causes; who has no key gets no further."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        key = Headers(scope=scope).get("authorization", "").removeprefix("Bearer ")
        tenant = TENANT_OF_KEY.get(key)
        if tenant is None:
            await JSONResponse({"error": "no such key"}, status_code=401)(scope, receive, send)
            return
        with instrumentation.tenant(tenant):
            await self.app(scope, receive, send)


@dataclass
class Question:
    text: str
    careless: bool


class Clerk(RoutedAgent):
    @rpc
    async def on_question(self, message: Question, ctx: MessageContext) -> str:  # noqa: ARG002
        if message.careless:
            time.sleep(0.5)  # noqa: ASYNC251  # the mistake; `await asyncio.to_thread(time.sleep, 0.5)` hurts nobody
        return f"{len(message.text)} letters, answered for {instrumentation.current_tenant()}"


async def ask(request: Request) -> JSONResponse:
    """One request: a message to an agent of the caller's own."""
    question = Question(request.query_params.get("question", ""), "careless" in request.query_params)
    # An agent for each tenant, by its key: one that works for several would remember for several.
    clerk = AgentId("clerk", str(instrumentation.current_tenant()))
    return JSONResponse({"answer": await request.app.state.runtime.send_message(question, clerk)})


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """One runtime for everybody, for as long as the service runs."""
    instrumentation.start(service_name="web-service")
    app.state.runtime = runtime = SingleThreadedAgentRuntime()
    await Clerk.register(runtime, "clerk", lambda: Clerk("a clerk"))
    runtime.start()
    yield
    await runtime.stop_when_idle()
    instrumentation.stop()


app = Starlette(routes=[Route("/ask", ask)], middleware=[Middleware(TenantOfCaller)], lifespan=lifespan)


def main(port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    listener = socket.create_server(("127.0.0.1", port))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A web service that serves two tenants on one AutoGen runtime.")
    parser.add_argument("--port", type=int, default=8000)
    main(parser.parse_args().port)
