"""Where the documents are, and what stands in their code blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
FOLDERS = ("docs", "dashboards", "deploy")


@dataclass(frozen=True)
class Block:
    """A code block: its document, the line it begins in, its language and text."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    """Every document that users read."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")]
    return sorted([*ROOT.glob("*.md"), *found])


def blocks(*languages: str) -> list[Block]:
    """All code blocks in these languages, document by document."""
    return [
        Block(path, text.count("\n", 0, match.start()) + 1, match["language"], match["text"])
        for path in documents()
        for text in [path.read_text()]
        for match in _BLOCK.finditer(text)
        if match["language"] in languages
    ]
