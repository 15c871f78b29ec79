"""One Collector for all tests of this folder: it starts once, every test looks for its own marks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from collector_process import Collector, find_binary, running


@pytest.fixture(scope="session")
def binary() -> Path:
    """The Collector's binary, or skip."""
    return find_binary()


@pytest.fixture(scope="session")
def collector(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A running Collector with the repository's configuration."""
    with running(binary, tmp_path_factory.mktemp("collector") / "log") as running_collector:
        yield running_collector
