"""The console on a running sidecar, and a Chromium that looks at it; once for each file of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import Browser, browser, skip_or_fail
from scene import Scene, playing


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Three tenants at work on one loop."""
    with playing(tmp_path_factory.mktemp("console")) as scene:
        yield scene


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """A Chromium."""
    with browser(skip_or_fail) as window:
        yield window


@pytest.fixture
def page(scene: Scene, window: Browser) -> Iterator[Browser]:
    """The console, open; the browser had nothing to complain about in the end."""
    window.size(1280, 900)
    window.open("about:blank")
    window.complaints()
    window.open(scene.url)
    window.until("document.querySelectorAll('table tbody tr').length >= 3")
    yield window
    assert window.complaints() == []
