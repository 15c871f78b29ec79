"""Memories: every operation an activity, hits counted, nothing of what they hold."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_apps import replaying
from autogen_core import CancellationToken
from autogen_core.memory import (
    ListMemory,
    Memory,
    MemoryContent,
    MemoryMimeType,
    MemoryQueryResult,
    UpdateContextResult,
)
from autogen_core.model_context import BufferedChatCompletionContext, ChatCompletionContext
from autogen_core.models import UserMessage

from instrumentation import conventions, tenant
from instrumentation.testing import Captured, capture

ENTRY = MemoryContent(content="s3cr3t-entry", mime_type=MemoryMimeType.TEXT, metadata={"s3cr3t-key": "s3cr3t-value"})


class Own(Memory):
    """A memory of the application's own, in front of another; fails when it is asked to."""

    def __init__(self, inner: Memory) -> None:
        self._inner = inner

    async def update_context(self, model_context: ChatCompletionContext) -> UpdateContextResult:
        return UpdateContextResult(memories=await self.query("s3cr3t-query"))

    async def query(
        self, query: str | MemoryContent, cancellation_token: CancellationToken | None = None, **kwargs: Any
    ) -> MemoryQueryResult:
        if query == "fail":
            raise LookupError("s3cr3t-error")
        return await self._inner.query(query, cancellation_token, **kwargs)

    async def add(self, content: MemoryContent, cancellation_token: CancellationToken | None = None) -> None:
        await self._inner.add(content, cancellation_token)

    async def clear(self) -> None:
        await self._inner.clear()

    async def close(self) -> None: ...


async def use(memory: Memory) -> list[str]:
    """One of each; what came out."""
    context = BufferedChatCompletionContext(buffer_size=5, initial_messages=[UserMessage(content="s3cr3t", source="u")])
    for _ in range(2):
        await memory.add(ENTRY)
    seen = [repr(await memory.query("s3cr3t-query")), repr(await memory.update_context(context))]
    await memory.clear()
    seen.append(repr(await memory.query("s3cr3t-query")))
    seen.append(repr(await context.get_messages()))
    return seen


def told(captured: Captured) -> list[tuple[str, int | None]]:
    """(name, hits) of every span, in the order in which they ended."""
    return [(span.name, (span.attributes or {}).get("autogen.memory.hits")) for span in captured.spans()]  # type: ignore[misc]


def everything(captured: Captured) -> str:
    spans = "".join(span.to_json() for span in captured.spans())
    return spans + "".join(str(captured.points(metric.name)) for metric in conventions.METRICS)


def test_every_operation_of_a_list_memory(captured: Captured) -> None:
    """Tenant, operation, class of the memory, hits; nothing of its entries."""

    async def main() -> None:
        with tenant("acme"):
            await use(ListMemory("s3cr3t-name"))

    asyncio.run(main())
    assert told(captured) == [
        ("create_memory ListMemory", None),
        ("create_memory ListMemory", None),
        ("search_memory ListMemory", 2),
        ("update_context ListMemory", 2),
        ("delete_memory ListMemory", None),
        ("search_memory ListMemory", 0),
    ]
    abouts = [span.attributes or {} for span in captured.spans()]
    assert {about["tenant.id"] for about in abouts} == {"acme"}
    assert [about.get("gen_ai.operation.name") for about in abouts] == [
        "create_memory", "create_memory", "search_memory", None, "delete_memory", "search_memory",
    ]  # fmt: skip
    (found,) = captured.points("autogen.memory.entries")
    assert found.value == 2  # type: ignore[union-attr]
    durations = {(p.attributes or {})["autogen.activity"]: p.count for p in captured.points("autogen.memory.duration")}  # type: ignore[union-attr]
    assert durations == {"create_memory": 2, "search_memory": 2, "update_context": 1, "delete_memory": 1}
    assert "s3cr3t" not in everything(captured)


def test_a_memory_of_the_applications_own(captured: Captured) -> None:
    """In front of another: one activity for each operation; the query that an update makes hangs under it."""

    async def main() -> None:
        memory = Own(ListMemory())
        await use(memory)
        with pytest.raises(LookupError, match="s3cr3t"):
            await memory.query("fail")

    asyncio.run(main())
    assert told(captured)[2:5] == [
        ("search_memory Own", 2),
        ("search_memory Own", 2),
        ("update_context Own", 2),
    ]
    assert not [name for name, _ in told(captured) if "ListMemory" in name]
    inner, outer = captured.spans()[3:5]
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    failed = captured.spans()[-1].attributes or {}
    assert failed["error.type"] == "LookupError"
    (errors,) = captured.points("autogen.errors")
    assert (errors.attributes or {})["autogen.activity"] == "search_memory"
    assert "s3cr3t" not in everything(captured)


def test_an_agent_that_remembers(captured: Captured) -> None:
    """Three tenants at once, each with a memory: the update of the context hangs under the agent."""

    async def conversation(who: str) -> None:
        with tenant(who):
            memory = ListMemory()
            await memory.add(ENTRY)
            await AssistantAgent("rememberer", replaying("s3cr3t-answer"), memory=[memory]).run(task="s3cr3t-task")

    async def main() -> None:
        await asyncio.gather(*(conversation(who) for who in ("acme", "globex", "initech")))

    asyncio.run(main())
    spans = captured.spans()
    by_id = {span.context.span_id: span for span in spans}
    updates = [span for span in spans if span.name == "update_context ListMemory"]
    assert sorted(str((span.attributes or {})["tenant.id"]) for span in updates) == ["acme", "globex", "initech"]
    for span in updates:
        assert span.parent is not None
        above = by_id[span.parent.span_id]
        assert above.name == "invoke_agent rememberer"
        assert (above.attributes or {})["tenant.id"] == (span.attributes or {})["tenant.id"]
    assert "s3cr3t" not in everything(captured)


@pytest.mark.parametrize("make", [ListMemory, lambda: Own(ListMemory())], ids=["ListMemory", "own"])
def test_watched_memories_do_what_bare_ones_do(make: Any) -> None:
    """Entries found, the model's context afterwards, to the letter."""
    bare = asyncio.run(use(make()))
    with capture():
        assert asyncio.run(use(make())) == bare


def test_what_a_memory_leaves_behind_is_its_own(captured: Captured) -> None:
    """A task that writes on when the memory has taken its entry is not a part of that any more."""

    class Leaving(ListMemory):
        left: asyncio.Task[None]

        async def add(self, content: MemoryContent, cancellation_token: CancellationToken | None = None) -> None:
            await super().add(content, cancellation_token)
            self.left = asyncio.create_task(self.later(content))

        async def later(self, content: MemoryContent) -> None:
            await added.wait()
            await ListMemory().add(content)

    async def main() -> None:
        memory = Leaving()
        await memory.add(ENTRY)
        added.set()
        await memory.left

    added = asyncio.Event()
    asyncio.run(main())
    assert [span.name for span in captured.spans()] == ["create_memory Leaving", "create_memory ListMemory"]
