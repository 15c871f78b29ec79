"""A real Chromium, driven as the W3C's WebDriver says: JSON over HTTP, by Debian's chromedriver."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import required

PATIENCE = 30.0
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]


class Browser:
    """One window."""

    def __init__(self, driver: str, binary: str) -> None:
        self._driver = driver
        options = {"binary": binary, "args": _OPTIONS}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._post("/session", {"capabilities": {"alwaysMatch": {"browserName": "chrome", **wanted}}})
        self._session = f"/session/{session['sessionId']}"

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self._driver}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def _post(self, path: str, body: Any) -> Any:
        return self._call("POST", path, body)

    def open(self, url: str) -> None:
        """Go there; returns when the page is loaded."""
        self._post(f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of a function returns in the page."""
        return self._post(f"{self._session}/execute/sync", {"script": script, "args": arguments})

    def until(self, script: str, *arguments: Any) -> Any:
        """What an expression of the page is, as soon as it is true."""
        end = time.monotonic() + PATIENCE
        pause = threading.Event()
        while not (value := self.run(f"return {script}", *arguments)):
            if time.monotonic() > end:
                pytest.fail(f"not within {PATIENCE:g} s: {script}\n{self.run('return document.body.innerText')}")
            pause.wait(0.05)
        return value

    def press(self, *keys: str) -> None:
        """Keys, one after the other, as a keyboard sends them; no mouse."""
        strokes = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._post(f"{self._session}/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def size(self, width: int, height: int) -> None:
        """The window's size in CSS pixels, also below the least that a window may have."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._post(
            f"{self._session}/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        )

    def prefers(self, theme: str) -> None:
        """What the system is set to: `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self._post(
            f"{self._session}/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}}
        )

    def forget(self) -> None:
        """Empty the cache."""
        self._post(f"{self._session}/goog/cdp/execute", {"cmd": "Network.clearBrowserCache", "params": {}})

    def picture(self, path: Path) -> None:
        """A screenshot of the window."""
        path.write_bytes(base64.b64decode(self._call("GET", f"{self._session}/screenshot")))

    def complaints(self) -> list[str]:
        """What the browser's log has since the last call."""
        return [entry["message"] for entry in self._post(f"{self._session}/se/log", {"type": "browser"})]

    def close(self) -> None:
        """Close the window."""
        self._call("DELETE", self._session)


@contextlib.contextmanager
def browser(give_up: Callable[[str], Any]) -> Iterator[Browser]:
    """A browser, for a while; `give_up` is told how to get one where there is none."""
    driver, binary = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or binary is None:
        give_up("no chromium or chromedriver in PATH: on Debian `apt-get install chromium chromium-driver`")
        raise AssertionError
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        port = next(found[1] for line in process.stdout if (found := re.search(r"on port (\d+)\.", line)))
        window = Browser(f"http://127.0.0.1:{port}", binary)
        try:
            yield window
        finally:
            window.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()


def skip_or_fail(why: str) -> None:
    """Skips on a user's machine, fails where REQUIRE_CHROMIUM is 1."""
    required.give_up("REQUIRE_CHROMIUM", why)
