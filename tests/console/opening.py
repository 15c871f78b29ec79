"""How long does the console take to open? From the address to the first drawn table, in a real Chromium.

    python tests/console/opening.py [ROUNDS]

The application and the sidecar of the tests run beside it. Each round starts from an empty page and an empty cache;
printed are milliseconds of the browser's own clock.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
from pathlib import Path

from browser import browser
from scene import playing

DRAWN = "document.querySelectorAll('tbody tr').length > 0 && performance.now()"


def main(rounds: int) -> None:
    """Open it that often."""
    took = []
    with tempfile.TemporaryDirectory() as scratch, playing(Path(scratch)) as scene, browser(sys.exit) as window:
        window.open(scene.url)
        window.until("document.querySelectorAll('tbody tr').length > 2")
        threading.Event().wait(20)  # a curve's worth of moments
        for _ in range(rounds):
            window.open("about:blank")
            window.forget()
            window.open(scene.url)
            took.append(float(window.until(DRAWN)))
    took.sort()
    print(f"{rounds} times opened: median {statistics.median(took):.0f} ms, slowest {took[-1]:.0f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
