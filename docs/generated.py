"""Files that are written from the code's tables: written, or with `--check` compared with what is there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path


def write_or_compare(files: Iterable[tuple[Path, str]]) -> int:
    """Write each text into its file, or compare them all; the exit code, 1 when a file is not what it should be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is not up to date")
    check = parser.parse_args().check
    stale = 0
    for path, text in files:
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.is_file() or path.read_text() != text:
            print(f"{path} is not up to date: run `make docs`", file=sys.stderr)
            stale = 1
    return stale


def page(lines: Iterable[str]) -> str:
    """A document of these lines."""
    return "\n".join(lines).rstrip("\n") + "\n"
