from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_servers import ModelServer, running_model_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """A model server, with nothing of a proxy between it and the clients."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with running_model_server() as running:
        yield running
    gc.collect()  # while the warnings about what the clients have left open are ignored


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Some of AutoGen's clients leave their connections to the garbage collector, also after `close()`."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
