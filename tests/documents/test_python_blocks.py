"""Every block of Python in a document runs, as it stands there."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import types
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from autogen_apps import Answer, Ask, Asked, two_agent_team
from autogen_core import AgentId, SingleThreadedAgentRuntime
from reading import Block, blocks

import instrumentation


@pytest.fixture(autouse=True)
def unwatched(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    """What a block starts is stopped, what it configures is put back; nothing is sent anywhere."""
    before, configured = structlog.get_config(), structlog.is_configured()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"unix:{tmp_path}/nobody.sock")
    monkeypatch.setenv("TENANTSCOPE_CELL_DIR", str(tmp_path))
    yield
    instrumentation.stop()
    structlog.reset_defaults()
    if configured:
        structlog.configure(**before)
    logging.getLogger("billing").handlers.clear()


def look_up() -> str:
    """A tool."""
    return "found"


@asynccontextmanager
async def readers_application() -> AsyncIterator[dict[str, Any]]:
    """What a reader has already, by the names that the documents call it."""
    runtime = SingleThreadedAgentRuntime()
    await Asked.register(runtime, "asked", Asked)
    runtime.start()
    agent = AgentId("asked", "1")
    names = {"team": two_agent_team(look_up), "task": "go", "runtime": runtime, "agent": agent, "address": agent}
    names |= {"question": Ask("how much?"), "tenant_id": "acme", "asyncio": asyncio, "instrumentation": instrumentation}
    yield names
    await runtime.stop_when_idle()


async def my_application() -> None:
    """A reader's application, which binds its tenant."""
    with instrumentation.tenant("acme"):
        await two_agent_team(look_up).run(task="go")


async def run(code: types.CodeType) -> dict[str, Any]:
    """Run a block that may await, then each function that it defines and that the reader's names suffice for."""
    async with readers_application() as names:
        made = eval(code, names)
        if inspect.iscoroutine(made):
            await made
        for function in [each for each in names.values() if inspect.isfunction(each) and each.__module__ == __name__]:
            wanted = inspect.signature(function).parameters
            if set(wanted) <= set(names):
                result = function(*(names[name] for name in wanted))
                if inspect.iscoroutine(result):
                    await result
        return names


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_it_runs(block: Block) -> None:
    """As a reader would paste it: beside a team, a runtime and an agent of their own."""
    tree = ast.parse(block.text, str(block))
    code = compile(tree, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if "asyncio.run(" in block.text:  # brings its own loop
        names = {"asyncio": asyncio, "my_application": my_application, "__name__": __name__}
        exec(code, names)
    else:
        asyncio.run(run(code))


def test_the_reader_has_what_the_blocks_need() -> None:
    """The names stand for something real: the agent answers."""

    async def ask() -> object:
        async with readers_application() as names:
            return await names["runtime"].send_message(names["question"], names["agent"])

    assert isinstance(asyncio.run(ask()), Answer)
