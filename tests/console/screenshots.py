"""Pictures of the console for the documentation: `python tests/console/screenshots.py FOLDER`, from the root.

One of a stall while it goes on, wide and dark; one as on a phone, light; one of a conversation's tree.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from browser import browser
from scene import doing, playing

ROWS = "document.querySelectorAll('table tbody tr').length >= 3"
TWO = "[...document.querySelectorAll('tbody tr')].find((row) => row.children[4].innerText === '2')"


def main(folder: Path) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, playing(Path(scratch)) as scene, browser(sys.exit) as window:
        window.size(1280, 1400)
        window.open(scene.url)
        window.until(ROWS)
        window.run("localStorage.setItem('theme', 'dark'); document.documentElement.dataset.theme = 'dark'")
        for _ in range(2):
            with doing(lambda: scene.say("hold"), lambda: scene.say("let go")):
                window.until("document.querySelectorAll('.card.bad .stack li').length > 0")
                window.run("document.querySelector('.card.bad details').open = true")
                window.until("document.querySelectorAll('svg .curve').length > 2")
                window.picture(folder / "console.png")
            window.until("!document.querySelector('.card.bad')")
        window.run("localStorage.setItem('theme', 'light'); document.documentElement.dataset.theme = 'light'")
        window.size(390, 1400)
        window.picture(folder / "console-narrow.png")
        window.size(1280, 700)
        window.run("location.hash = '#/conversations'")
        window.until(TWO)
        window.picture(folder / "console-conversations.png")
        window.run(f"{TWO}.querySelector('a').click()")
        window.until("document.querySelectorAll('.tree tbody tr').length === 2")
        window.run("document.querySelector('.tree details').open = true")
        window.picture(folder / "console-trace.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
