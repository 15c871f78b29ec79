"""One Collector for all tests of this folder: it starts once, every test looks for its own marks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import required
from collector_process import Collector, running


@pytest.fixture(scope="session")
def binary() -> Path:
    """The Collector's binary, or skip."""
    return required.collector()


@pytest.fixture(scope="session")
def collector(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """A running Collector with the repository's configuration."""
    with running(binary, tmp_path_factory.mktemp("collector") / "log") as running_collector:
        yield running_collector
