"""ChromaDB's memory, the real one, with an embedding function that needs no network."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("chromadb", reason="as large as all the rest, so `make test-heavy` alone has it")

from autogen_core.memory import MemoryContent, MemoryMimeType
from autogen_core.model_context import BufferedChatCompletionContext
from autogen_core.models import UserMessage
from autogen_ext.memory.chromadb import (
    ChromaDBVectorMemory,
    CustomEmbeddingFunctionConfig,
    PersistentChromaDBVectorMemoryConfig,
)

from instrumentation import conventions, tenant
from instrumentation.testing import Captured, capture

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def embedding() -> Any:
    """Where a text lies, by its hash: near to itself, and to nothing else."""
    from chromadb import Documents, EmbeddingFunction, Embeddings

    class ByHash(EmbeddingFunction[Documents]):
        def __init__(self) -> None: ...

        def __call__(self, input: Documents) -> Embeddings:  # noqa: A002  # the name is ChromaDB's
            return [[byte / 255 for byte in hashlib.sha256(text.encode()).digest()] for text in input]  # type: ignore[misc]

    return ByHash()


def memory(folder: Path) -> ChromaDBVectorMemory:
    return ChromaDBVectorMemory(
        PersistentChromaDBVectorMemoryConfig(
            collection_name="s3cr3t-collection",
            persistence_path=str(folder),
            k=2,
            embedding_function_config=CustomEmbeddingFunctionConfig(function=embedding),
        )
    )


async def use(folder: Path) -> list[str]:
    """One of each; what came out, without the ids that ChromaDB draws."""
    store = memory(folder)
    context = BufferedChatCompletionContext(
        buffer_size=5, initial_messages=[UserMessage(content="s3cr3t-a", source="u")]
    )
    for text in ("s3cr3t-a", "s3cr3t-b", "s3cr3t-c"):
        await store.add(MemoryContent(content=text, mime_type=MemoryMimeType.TEXT, metadata={"s3cr3t": "s3cr3t"}))
    found = (await store.query("s3cr3t-a")).results
    updated = (await store.update_context(context)).memories.results
    await store.clear()
    empty = (await store.query("s3cr3t-a")).results
    await store.close()
    return [str([entry.content for entry in entries]) for entries in (found, updated, empty)]


def test_every_operation(captured: Captured, tmp_path: Path) -> None:
    """Additions, searches with their hits, the query inside an update; nothing of texts, metadata or collection."""

    async def main() -> None:
        with tenant("acme"):
            await use(tmp_path)

    asyncio.run(main())
    spans = captured.spans()
    told = [(span.name, (span.attributes or {}).get("autogen.memory.hits")) for span in spans]
    assert told == [
        *[("create_memory ChromaDBVectorMemory", None)] * 3,
        ("search_memory ChromaDBVectorMemory", 2),
        ("search_memory ChromaDBVectorMemory", 2),
        ("update_context ChromaDBVectorMemory", 2),
        ("delete_memory ChromaDBVectorMemory", None),
        ("search_memory ChromaDBVectorMemory", 0),
    ]
    assert {(span.attributes or {})["tenant.id"] for span in spans} == {"acme"}
    found = "".join(span.to_json() for span in spans)
    found += "".join(str(captured.points(metric.name)) for metric in conventions.METRICS)
    assert "s3cr3t" not in found
    assert str(tmp_path) not in found


def test_a_watched_memory_does_what_a_bare_one_does(tmp_path: Path) -> None:
    """What is found, in its order."""
    bare = asyncio.run(use(tmp_path / "bare"))
    with capture():
        assert asyncio.run(use(tmp_path / "watched")) == bare
