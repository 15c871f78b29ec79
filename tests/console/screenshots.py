"""Pictures of the console for README and documentation: `make screenshots`. Takes a minute; writes docs/images.

A real demo runs, and a real Chromium looks at its console while a tenant holds the loop, in both themes. Then at a
conversation of that run, and at what a phone shows.

    python tests/console/screenshots.py [FOLDER]
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from browser import Browser, browser

TARGET = Path(__file__).parents[2] / "docs" / "images"
SECONDS = 90
STALLED = "document.querySelector('.card.bad .stack li') && document.querySelectorAll('svg .curve').length > 8"
HISTORY = "document.querySelectorAll('.card').length > 9"
DEEP = "[...document.querySelectorAll('tbody tr')].find((row) => +row.children[4].innerText > 15)"


@contextlib.contextmanager
def demo() -> Iterator[str]:
    """The console's address while a demo runs."""
    command = [sys.executable, "-u", "-m", "tenantscope", "demo", "--seconds", str(SECONDS), "--headless"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield next(
            found[0] for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line))
        )
    finally:
        process.terminate()
        process.communicate(timeout=60)


def theme(window: Browser, name: str) -> None:
    """As its button does it."""
    if window.run("return document.documentElement.dataset.theme") != name:
        window.run("document.querySelector('#theme').click()")


def main(folder: Path) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    with demo() as url, browser(sys.exit) as window:
        window.size(1280, 1180)
        window.open(url)
        window.until(HISTORY)
        for name in ("light", "dark"):
            theme(window, name)
            window.run("for (const each of document.querySelectorAll('details')) each.open = false")
            window.until(STALLED)
            window.run("document.querySelector('.card.bad details').open = true")
            window.picture(folder / f"console-{name}.png")
        theme(window, "light")
        window.run("location.hash = '#/conversations'")
        window.until(DEEP)
        window.run(f"{DEEP}.querySelector('a').click()")
        window.until("document.querySelectorAll('.tree tbody tr').length > 15")
        window.run("document.querySelectorAll('.tree details')[3].open = true")
        window.size(1280, 760)
        window.picture(folder / "console-trace.png")
        window.run("location.hash = '#/'")
        window.until("document.querySelectorAll('.card').length > 3")
        window.size(390, 900)
        window.picture(folder / "console-narrow.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
