"""AutoGen's MCP workbench and tool adapters against real servers: standard input and output, SSE, streamable HTTP."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_apps import replaying, tool_call
from autogen_core import CancellationToken
from autogen_ext.tools.mcp import (
    McpWorkbench,
    SseServerParams,
    StdioServerParams,
    StreamableHttpServerParams,
    mcp_server_tools,
)
from mcp import ClientSession
from mcp.shared.session import BaseSession
from mcp.types import CallToolResult, RequestParams
from mcp_server import serving_http
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from instrumentation import conventions, tenant
from instrumentation.testing import Captured, capture

TRANSPORTS = ("stdio", "sse", "streamable-http")
pytestmark = [
    # The protocol's own library closes its streams late, and says so.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def over_stdio() -> StdioServerParams:
    script = str(Path(__file__).with_name("mcp_server.py"))
    return StdioServerParams(command=sys.executable, args=[script], read_timeout_seconds=30)


@pytest.fixture(params=TRANSPORTS)
def params(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """How to reach a server: for a process, or over HTTP."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with ExitStack() as stack:
        if request.param == "stdio":
            yield over_stdio()
        elif request.param == "sse":
            yield SseServerParams(url=stack.enter_context(serving_http("sse")))
        else:
            yield StreamableHttpServerParams(url=stack.enter_context(serving_http("streamable-http")))


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def edges(spans: list[ReadableSpan]) -> Counter[tuple[str | None, str]]:
    by_id = {span.context.span_id: span for span in spans}
    return Counter((by_id[span.parent.span_id].name if span.parent is not None else None, span.name) for span in spans)


def everything(captured: Captured) -> str:
    spans = "".join(span.to_json() for span in captured.spans())
    return spans + "".join(str(captured.points(metric.name)) for metric in conventions.METRICS)


async def work(params: Any) -> list[str]:
    """What an application sees of a server: its tools, its answers, its errors, a resource."""
    async with McpWorkbench(params) as workbench:
        seen = [str(await workbench.list_tools())]
        seen += [
            str(await workbench.call_tool(name, {"name": "s3cr3t-ärgument"}))
            for name in ("greet", "fail", "s3cr3t-invented")
        ]
        seen.append(str(await workbench.read_resource("note://s3cr3t")))
        return seen


def test_the_surface_that_is_relied_on() -> None:
    """Fails when AutoGen's workbench or the protocol's library are other than they were: then the hook is to be looked
    at."""
    source = inspect.getsource(McpWorkbench.call_tool)
    assert "tool_name=name," in source
    assert "tool_description" not in source
    assert "send_request" not in vars(ClientSession)
    assert list(inspect.signature(BaseSession.send_request).parameters)[:3] == ["self", "request", "result_type"]
    assert RequestParams.Meta.model_config["extra"] == "allow"
    assert RequestParams.model_fields["meta"].alias == "_meta"
    assert CallToolResult.model_fields.keys() >= {"isError", "content"}


def test_every_request_of_a_session(captured: Captured, params: Any) -> None:
    """The session's begin, lists, calls and resources: tenant, method, outcome, sizes; nothing that was said, and no
    name that was made up."""

    async def main() -> None:
        with tenant("acme"):
            await work(params)

    asyncio.run(main())
    spans = captured.spans()
    assert {attributes(span)["tenant.id"] for span in spans} == {"acme"}
    names = [span.name for span in spans]
    assert names[:2] == ["mcp initialize", "mcp tools/list"]
    calls = [attributes(span) for span in spans if span.name.startswith("execute_tool")]
    arguments = len("name") + len("s3cr3t-ärgument".encode())
    for call in calls:
        assert call["mcp.method.name"] == "tools/call"
        assert call["autogen.tool.arguments.size"] == arguments
    assert [(call["gen_ai.tool.name"], call.get("error.type")) for call in calls] == [
        ("greet", None),
        ("fail", "tool_error"),
        ("unnamed", "tool_error"),
    ]
    assert calls[0]["autogen.tool.result.size"] == len("s3cr3t-result for s3cr3t-ärgument".encode())
    assert "mcp resources/read" in names
    found = everything(captured)
    assert "s3cr3t" not in found
    assert "note:" not in found
    errors = captured.points("autogen.errors")
    assert sum(p.value for p in errors) == 2  # type: ignore[union-attr,misc]
    durations = {(p.attributes or {})["mcp.method.name"]: 0 for p in captured.points("mcp.client.operation.duration")}
    assert set(durations) == {"initialize", "tools/list", "tools/call", "resources/read"}


def test_a_server_that_dies_in_the_middle_of_a_call(captured: Captured) -> None:
    """The call has failed, and so has the next one: AutoGen's workbench raises nothing."""

    async def main() -> None:
        with tenant("acme"):
            async with McpWorkbench(over_stdio()) as workbench:
                await workbench.list_tools()
                assert not (await workbench.call_tool("greet", {"name": "s3cr3t"})).is_error
                assert (await workbench.call_tool("die", {"name": "s3cr3t"})).is_error
                assert (await workbench.call_tool("greet", {"name": "s3cr3t"})).is_error

    asyncio.run(asyncio.wait_for(main(), 60))
    found = [(span.name, attributes(span).get("error.type")) for span in captured.spans() if "tool" in span.name]
    assert found == [
        ("mcp tools/list", None), ("execute_tool greet", None), ("execute_tool die", "tool_error"),
        ("execute_tool greet", "tool_error"),
    ]  # fmt: skip
    (errors,) = captured.points("autogen.errors")
    assert ((errors.attributes or {})["tenant.id"], errors.value) == ("acme", 2)  # type: ignore[union-attr]
    assert "s3cr3t" not in everything(captured)


def test_the_trace_goes_on_in_the_server(captured: Captured, params: Any) -> None:
    """`traceparent` is in the request's `_meta`: the span of the tool call is the server's parent."""

    async def main() -> str:
        async with McpWorkbench(params) as workbench:
            return (await workbench.call_tool("trace_of")).to_text()

    told = asyncio.run(main())
    (call,) = [span for span in captured.spans() if span.name.startswith("execute_tool")]
    assert told == f"00-{call.context.trace_id:032x}-{call.context.span_id:016x}-01"


def test_a_team_with_tools_of_a_server_is_one_tree(captured: Captured, params: Any) -> None:
    """Three tenants at once, each with a workbench of his own: one tree each, with the calls under their agents."""

    async def conversation(who: str) -> None:
        with tenant(who):
            async with McpWorkbench(params) as workbench:
                await workbench.list_tools()
                client = replaying(tool_call("greet", '{"name": "s3cr3t"}'), "done")
                agent = AssistantAgent("greeter", client, workbench=workbench, reflect_on_tool_use=True)
                await RoundRobinGroupChat([agent], max_turns=1).run(task="s3cr3t-task")

    async def main() -> None:
        await asyncio.gather(*(conversation(who) for who in ("acme", "globex", "initech")))

    asyncio.run(main())
    spans = captured.spans()
    for who in ("acme", "globex", "initech"):
        runs = [s for s in spans if s.name.startswith("invoke_workflow") and attributes(s)["tenant.id"] == who]
        assert len(runs) == 1
        tree = [span for span in spans if span.context.trace_id == runs[0].context.trace_id]
        assert {attributes(span)["tenant.id"] for span in tree} == {who}
        found = edges(tree)
        assert found["invoke_agent greeter", "execute_tool greet"] == 1
        assert found["invoke_agent greeter", "chat unnamed"] == 2
        assert [edge for edge in found if edge[0] is None] == [(None, "invoke_workflow RoundRobinGroupChat")]
    assert "s3cr3t" not in everything(captured)


def test_tool_adapters_are_calls_of_their_own_session(captured: Captured, params: Any) -> None:
    """A tool that opens a session for each call: the session's requests hang under the call."""

    async def main() -> None:
        tools = await mcp_server_tools(params)
        greet = next(tool for tool in tools if tool.name == "greet")
        with tenant("acme"):
            await greet.run_json({"name": "s3cr3t"}, CancellationToken())

    asyncio.run(main())
    spans = [span for span in captured.spans() if attributes(span)["tenant.id"] == "acme"]
    found = edges(spans)
    assert found[None, "execute_tool greet"] == 1
    assert found["execute_tool greet", "mcp initialize"] == 1
    (call,) = [attributes(span) for span in spans if span.name == "execute_tool greet"]
    assert call["mcp.method.name"] == "tools/call"


def test_watched_sessions_do_what_bare_ones_do(params: Any) -> None:
    """Tools, results, errors and resources, to the letter."""
    bare = asyncio.run(work(params))
    with capture():
        assert asyncio.run(work(params)) == bare


def test_a_context_of_the_applications_own_stays(captured: Captured, params: Any) -> None:
    """What it has put into `_meta` itself, and a span of its own that is current: the server gets that."""
    from autogen_ext.tools.mcp import create_mcp_server_session

    own = TracerProvider(shutdown_on_exit=False).get_tracer("application")

    async def main() -> list[str]:
        async with create_mcp_server_session(params) as session:
            await session.initialize()
            told = await session.call_tool("trace_of", meta={"traceparent": "00-1-2-03", "note": "kept"})
            with own.start_as_current_span("application") as span:
                theirs = await session.call_tool("trace_of")
                trace_id = f"{span.get_span_context().trace_id:032x}"
        return [told.content[0].text, theirs.content[0].text.split("-")[1], trace_id]  # type: ignore[union-attr]

    told, theirs, trace_id = asyncio.run(main())
    assert told == "00-1-2-03"
    assert theirs == trace_id
    assert trace.get_current_span().get_span_context().is_valid is False
