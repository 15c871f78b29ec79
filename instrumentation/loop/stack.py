"""Where is a loop's thread now? File, line and function of its frames, as the stacks file wants them.

What it refuses: locals, arguments, source text, and any character that is not printable ASCII.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Final

from sidecar.wire import stacks

from .account import Account

_MAX_NAME: Final = 200  # the loops of a process share the room
_OUR_FILES: Final = str(Path(__file__).parent)


def text_of(account: Account) -> bytes:
    """The stack of the loop's thread, innermost first; empty when there is none."""
    lines = [
        f'  File "{_ascii(file)}", line {line} in {_ascii(function)}\n'
        for file, line, function in _frames(account.thread)
    ]
    return (stacks.heading(account.thread) + "".join(lines) + "\n").encode("ascii") if lines else b""


def _frames(thread: int) -> list[tuple[str, int, str]]:
    """Without our own wrapper; of a deep stack the innermost part."""
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001  # documented, and the only way
    found: list[tuple[str, int, str]] = []
    while frame is not None and len(found) < stacks.MAX_FRAMES:
        code = frame.f_code
        if not code.co_filename.startswith(_OUR_FILES):
            found.append((code.co_filename, frame.f_lineno or 0, code.co_qualname))
        frame = frame.f_back
    return found


def _ascii(name: str) -> str:
    """A name in one line of ASCII."""
    return "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in name[-_MAX_NAME:])
