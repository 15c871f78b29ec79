"""Tools of every kind through AutoGen's workbenches: one span a call, sizes without content, no made-up name."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_apps import replaying, tool_call
from autogen_core import CancellationToken
from autogen_core.tools import (
    BaseStreamTool,
    BaseTool,
    FunctionTool,
    StaticStreamWorkbench,
    StaticWorkbench,
    TextResultContent,
    ToolOverride,
    ToolResult,
    ToolSchema,
    Workbench,
)
from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor
from autogen_ext.tools.code_execution import PythonCodeExecutionTool
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from pydantic import BaseModel

from instrumentation import conventions, tenant
from instrumentation.hooks.workbench import size_of
from instrumentation.testing import Captured, capture


class Word(BaseModel):
    word: str


class Doubling(BaseTool[Word, str]):
    def __init__(self) -> None:
        super().__init__(Word, str, "doubling", "s3cr3t-description")

    async def run(self, args: Word, cancellation_token: CancellationToken) -> str:
        return args.word * 2


class Spelling(BaseStreamTool[Word, str, str]):
    def __init__(self) -> None:
        super().__init__(Word, str, "spelling", "s3cr3t-description")

    async def run(self, args: Word, cancellation_token: CancellationToken) -> str:
        return args.word

    async def run_stream(self, args: Word, cancellation_token: CancellationToken) -> AsyncGenerator[str, None]:
        for letter in args.word:
            yield letter
        if args.word == "s3cr3t-bad":
            raise LookupError("s3cr3t-error")
        yield args.word


def sync_tool(word: str) -> str:
    if word == "s3cr3t-bad":
        raise LookupError("s3cr3t-error")
    return word + "!"


async def async_tool(word: str) -> str:
    await asyncio.sleep(0)
    return sync_tool(word)


TOOLS: tuple[BaseTool[Any, Any], ...] = (
    FunctionTool(sync_tool, "s3cr3t-description"),
    FunctionTool(async_tool, "s3cr3t-description"),
    Doubling(),
    Spelling(),
)


class Own(Workbench):
    """A workbench of the application's own, without AutoGen's tools."""

    component_type = "workbench"

    async def list_tools(self) -> list[ToolSchema]:
        return [ToolSchema(name="own", description="s3cr3t-description")]

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        if name == "raise":
            raise OSError("s3cr3t-error")
        return ToolResult(name=name, result=[TextResultContent(content="s3cr3t-résult")], is_error=name != "own")

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def reset(self) -> None: ...
    async def save_state(self) -> Mapping[str, Any]:
        return {}

    async def load_state(self, state: Mapping[str, Any]) -> None: ...


class Passing(Own):
    """One that passes calls on to another."""

    def __init__(self, inner: Workbench) -> None:
        self._inner = inner

    async def list_tools(self) -> list[ToolSchema]:
        return await self._inner.list_tools()

    async def call_tool(self, *args: Any, **kwargs: Any) -> ToolResult:
        return await self._inner.call_tool(*args, **kwargs)


def calls(captured: Captured) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in captured.spans() if span.name.startswith("execute_tool")]


def named(captured: Captured) -> list[tuple[str, str | None]]:
    return [(call["gen_ai.tool.name"], call.get("error.type")) for call in calls(captured)]


def everything(captured: Captured) -> str:
    spans = "".join(span.to_json() for span in captured.spans())
    return spans + "".join(str(captured.points(metric.name)) for metric in conventions.METRICS)


async def use(workbench: Workbench, name: str, word: str) -> list[str]:
    """A call each way that the workbench has; what came out."""
    arguments = {"word": word}
    seen = [repr(await workbench.call_tool(name, arguments))]
    if isinstance(workbench, StaticStreamWorkbench):
        seen += [repr(item) async for item in workbench.call_tool_stream(name, arguments)]
    return seen


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_kind_of_tool_is_one_call(captured: Captured, tool: BaseTool[Any, Any]) -> None:
    """Functions, classes and streams, through a workbench, as a stream and alone: a span with the tool's own name, and
    one record of its duration."""

    async def main() -> None:
        with tenant("acme"):
            await use(StaticStreamWorkbench([tool]), tool.name, "s3cr3t")
            await tool.run_json({"word": "s3cr3t"}, CancellationToken())

    asyncio.run(main())
    assert named(captured) == [(tool.name, None)] * 3
    assert {call["tenant.id"] for call in calls(captured)} == {"acme"}
    (durations,) = captured.points("gen_ai.execute_tool.duration")
    assert durations.count == 3  # type: ignore[union-attr]
    assert "s3cr3t" not in everything(captured)


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool.name != "doubling"], ids=lambda tool: tool.name)
def test_what_a_tool_raises_is_the_calls_error(captured: Captured, tool: BaseTool[Any, Any]) -> None:
    """The workbench makes a result of it; the span has the class of the exception, and it counts once."""

    async def main() -> None:
        workbench = StaticStreamWorkbench([tool])
        if tool.name == "spelling":
            items = [item async for item in workbench.call_tool_stream(tool.name, {"word": "s3cr3t-bad"})]
            assert items[-1].is_error
        else:
            assert (await workbench.call_tool(tool.name, {"word": "s3cr3t-bad"})).is_error

    asyncio.run(main())
    assert named(captured) == [(tool.name, "LookupError")]
    (errors,) = captured.points("autogen.errors")
    assert errors.value == 1  # type: ignore[union-attr]
    assert "s3cr3t" not in everything(captured)


def test_names_that_a_model_made_up_do_not_leave(captured: Captured) -> None:
    """A tool that nobody has is `unnamed` and an error; an overridden name is the one that was listed; an argument that
    does not fit is the tool's error."""

    async def main() -> None:
        workbench = StaticWorkbench(list(TOOLS), {"sync_tool": ToolOverride(name="renamed")})
        await workbench.call_tool("renamed", {"word": "x"})
        await workbench.list_tools()
        await workbench.call_tool("renamed", {"word": "x"})
        await workbench.call_tool("s3cr3t-invented", {"word": "x"})
        await workbench.call_tool("doubling", {"s3cr3t": "x"})

    asyncio.run(main())
    assert named(captured) == [
        ("sync_tool", None),
        ("renamed", None),
        ("unnamed", "tool_error"),
        ("doubling", "ValidationError"),
    ]
    assert "s3cr3t" not in everything(captured)


def test_workbenches_of_the_applications_own(captured: Captured) -> None:
    """Seen like AutoGen's: names that are listed or went well, errors that come back, errors that are raised."""

    async def main() -> None:
        workbench = Own()
        await workbench.call_tool("own")
        await workbench.call_tool("s3cr3t")
        await workbench.list_tools()
        await workbench.call_tool(name="own", arguments={"a": "ä"})
        with pytest.raises(OSError, match="s3cr3t"):
            await workbench.call_tool("raise")

    asyncio.run(main())
    assert named(captured) == [("own", None), ("unnamed", "tool_error"), ("own", None), ("unnamed", "OSError")]
    assert calls(captured)[2]["autogen.tool.arguments.size"] == 3
    assert calls(captured)[2]["autogen.tool.result.size"] == len("s3cr3t-résult".encode())
    assert "s3cr3t" not in everything(captured)


def test_a_workbench_in_front_of_another_is_one_call(captured: Captured) -> None:
    """However many stand in a row; a tool that calls a tool is two."""
    inner = FunctionTool(sync_tool, "x", name="inner")

    async def outer(word: str) -> str:
        await inner.run_json({"word": word}, CancellationToken())
        return str(await StaticWorkbench([inner]).call_tool("inner", {"word": word}))

    async def main() -> None:
        workbench = Passing(Passing(StaticWorkbench([FunctionTool(outer, "x", name="outer")])))
        await workbench.call_tool("outer", {"word": "x"})

    asyncio.run(main())
    spans = captured.spans()
    assert [span.name for span in spans] == ["execute_tool inner", "execute_tool inner", "execute_tool outer"]
    assert {span.parent.span_id if span.parent else None for span in spans} == {spans[2].context.span_id, None}


def test_a_cancelled_tool_is_no_error(captured: Captured) -> None:
    """A token that is cancelled while the tool works."""
    begun = asyncio.Event()

    async def endless() -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    async def main() -> None:
        token = CancellationToken()
        workbench = StaticWorkbench([FunctionTool(endless, "x")])
        work = asyncio.ensure_future(workbench.call_tool("endless", {}, token))
        await begun.wait()
        token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(main())
    assert named(captured) == [("endless", "CancelledError")]
    assert captured.points("autogen.errors") == []


class Retrying(StaticWorkbench):
    """One that asks its own base class until it has an answer."""

    async def call_tool(self, *args: Any, **kwargs: Any) -> ToolResult:
        for _ in range(2):
            result = await super().call_tool(*args, **kwargs)
            if not result.is_error:
                break
        return result


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_workbench_that_tries_again_is_at_one_call(captured: Captured, failures: int) -> None:
    """How the last attempt ended is how the call ended."""
    left = failures

    def flaky(word: str) -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            raise LookupError("s3cr3t-error")
        return word

    asyncio.run(Retrying([FunctionTool(flaky, "x")]).call_tool("flaky", {"word": "s3cr3t"}))
    assert named(captured) == [("flaky", "LookupError" if failures == 2 else None)]


def test_a_call_that_a_call_leaves_behind_is_its_own(captured: Captured) -> None:
    """A task that goes on when the workbench has answered is not a part of that call any more."""

    class Leaving(Own):
        left: asyncio.Task[ToolResult]

        async def call_tool(self, *args: Any, **kwargs: Any) -> ToolResult:
            result = await super().call_tool(*args, **kwargs)
            self.left = asyncio.create_task(self.later())
            return result

        async def later(self) -> ToolResult:
            await answered.wait()
            return await Own().call_tool("own")

    async def main() -> None:
        workbench = Leaving()
        await workbench.call_tool("own")
        answered.set()
        await workbench.left

    answered = asyncio.Event()
    asyncio.run(main())
    assert named(captured) == [("own", None)] * 2


def tree(spans: list[ReadableSpan]) -> Counter[tuple[str | None, str]]:
    by_id = {span.context.span_id: span for span in spans}
    return Counter((by_id[span.parent.span_id].name if span.parent is not None else None, span.name) for span in spans)


@pytest.mark.parametrize("kind", ["agent", "team"])
@pytest.mark.parametrize("streamed", [False, True], ids=["run", "run_stream"])
def test_a_conversation_inside_a_tool_nests_under_the_call(captured: Captured, kind: str, streamed: bool) -> None:
    """AgentTool and TeamTool, for three tenants at once: one tree each, the inner conversation under the tool."""

    async def conversation(who: str) -> None:
        lookup = FunctionTool(sync_tool, "x")
        writer = AssistantAgent(
            "writer", replaying(tool_call("sync_tool", '{"word": "s3cr3t"}'), "s3cr3t-inner"), tools=[lookup],
            description="s3cr3t-description",
        )  # fmt: skip
        inner: Any = (
            AgentTool(writer)
            if kind == "agent"
            else TeamTool(RoundRobinGroupChat([writer], max_turns=1), "inner_team", "s3cr3t-description")
        )
        client = replaying(tool_call(inner.name, '{"task": "s3cr3t-task"}'), "s3cr3t-outer")
        outer = AssistantAgent("outer", client, tools=[inner], reflect_on_tool_use=True)
        with tenant(who):
            if streamed:
                async for _ in outer.run_stream(task="s3cr3t-task"):
                    pass
            else:
                await outer.run(task="s3cr3t-task")

    async def main() -> None:
        await asyncio.gather(*(conversation(who) for who in ("acme", "globex", "initech")))

    asyncio.run(main())
    spans = captured.spans()
    for who in ("acme", "globex", "initech"):
        own = [span for span in spans if (span.attributes or {})["tenant.id"] == who]
        assert len({span.context.trace_id for span in own}) == 1
        edges = tree(own)
        assert [edge for edge in edges if edge[0] is None] == [(None, "invoke_agent outer")]
        tool = "execute_tool writer" if kind == "agent" else "execute_tool inner_team"
        assert edges["invoke_agent outer", tool] == 1
        below = "invoke_agent writer" if kind == "agent" else "invoke_workflow RoundRobinGroupChat"
        assert edges[tool, below] == 1
        assert edges["invoke_agent writer", "execute_tool sync_tool"] == 1
    assert "s3cr3t" not in everything(captured)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_code_that_a_tool_runs_is_a_call_of_its_own(captured: Captured, tmp_path: Path) -> None:
    """The tool gives back what was printed, and went well; that the code has failed is told by its executor's call."""
    tool = PythonCodeExecutionTool(LocalCommandLineCodeExecutor(work_dir=tmp_path))

    async def main() -> None:
        with tenant("acme"):
            code = {"code": "raise LookupError('s3cr3t')"}
            assert not (await StaticWorkbench([tool]).call_tool(tool.name, code)).is_error

    asyncio.run(main())
    assert tree(captured.spans()) == Counter({
        (None, f"execute_tool {tool.name}"): 1,
        (f"execute_tool {tool.name}", "execute_tool LocalCommandLineCodeExecutor"): 1,
    })  # fmt: skip
    (errors,) = captured.points("autogen.errors")
    assert (errors.attributes or {})["error.type"] == "nonzero_exit"
    assert "s3cr3t" not in everything(captured)


async def outcomes() -> list[str]:
    """What an application sees of every tool, through every workbench."""
    seen = []
    for tool in TOOLS:
        for workbench in (StaticWorkbench([tool]), StaticStreamWorkbench([tool]), Passing(StaticWorkbench([tool]))):
            for name, word in ((tool.name, "word"), (tool.name, "s3cr3t-bad"), ("invented", "word")):
                seen += await use(workbench, name, word)
            seen.append(repr(await workbench.list_tools()))
    return seen


def test_watched_tools_do_what_bare_ones_do() -> None:
    """Results, pieces of streams and errors, to the letter."""
    bare = asyncio.run(outcomes())
    with capture():
        assert asyncio.run(outcomes()) == bare


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=JSON)
def test_sizes_of_whatever_a_model_sends(value: Any) -> None:
    """Never raises, never negative; of text, exactly its bytes in UTF-8."""
    size = size_of(value)
    assert size is None or size >= 0
    if isinstance(value, str):
        assert size == len(value.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    "value",
    [
        object(), {"a": b"bytes"}, ["x"] * 300, {"a": ["x"] * 300}, "ä" * 100_000, ["ä" * 10_000] * 2,
        {1: {2: {3: object()}}},
    ],
    ids=["object", "bytes", "many", "many below", "long", "long in all", "deep"],
)  # fmt: skip
def test_what_is_not_measured(value: Any) -> None:
    """What is no text or plain collection of it, and what would take long."""
    assert size_of(value) is None


def test_a_value_that_holds_itself_ends() -> None:
    """Arguments come from JSON, but a workbench may be called by anybody."""
    value: dict[str, Any] = {}
    value["self"] = value
    assert size_of(value) is None
