"""How a stall's frames read: `function file:line`, the application's own first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

_SLICE_BEGINS: Final = " Handle._run"  # asyncio's frame that calls back; outside of it is whoever started the loop
# Where an interpreter keeps what is not the application: its library, installed packages, frozen modules.
_FOREIGN: Final = re.compile(r"/(site|dist)-packages/|/lib/python\d|^<")


def frame(text: str, parts: int = 2) -> str:
    """`/a/b/demo/stage.py:176 render` as `render demo/stage.py:176`, with the last `parts` of the path."""
    place, _, function = text.rpartition(" ")
    return f"{function} {'/'.join(PurePath(place).parts[-parts:])}"


def application_frames(stack: Sequence[str], most: int) -> list[str]:
    """The innermost frames of the application in this slice, at most so many, innermost last.

    When the very innermost frame is a library's, it comes last, after the application's: what was called, from where.
    A stack without a frame of the application is cut to its innermost ones.
    """
    begins = max((at for at, text in enumerate(stack) if text.endswith(_SLICE_BEGINS)), default=-1)
    stack = stack[begins + 1 :] or stack  # a callback without Python code has no frame
    own = [text for text in stack if not _FOREIGN.search(text)]
    if not own:
        return list(stack[-most:])
    called = [] if own[-1] == stack[-1] else [stack[-1]]
    return own[-max(1, most - len(called)) :] + called
