"""Files that are read again while requests go on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from otlp_peers import PATIENCE

from sidecar.configuration.renewal import Renewed


def test_nobody_waits_for_a_file_that_another_reads(tmp_path: Path) -> None:
    """A list of thousands of clients takes a second to read: who asks meanwhile goes on with what was there before."""
    file = tmp_path / "file"
    file.write_text("old")
    reading, go_on = threading.Event(), threading.Event()

    def read() -> str:
        found = file.read_text()
        if found != "old":
            reading.set()
            assert go_on.wait(PATIENCE)
        return found

    kept = Renewed("values", [file], read)
    draft = tmp_path / "draft"
    draft.write_text("new")
    draft.replace(file)
    with ThreadPoolExecutor(2) as pool:
        try:
            first = pool.submit(kept.renew)
            assert reading.wait(PATIENCE)
            assert pool.submit(kept.renew).result(PATIENCE / 2) is False
            assert kept.value == "old"
        finally:
            go_on.set()
        assert first.result(PATIENCE) is True
    assert kept.value == "new"
