"""Where is a thread now? File, line and function of its frames: never locals, arguments or source text.

What it refuses: to answer for another slice than the one that was asked about. An interpreter that was held (a regular
expression that backtracks for seconds) answers late, and by then another tenant may have the loop.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Final

from sidecar.wire import cell as layout
from sidecar.wire import watchdog_pb2 as wire

from .account import Account

MAX_FRAMES: Final = 64
_MAX_TEXT: Final = 512
_OUR_FILES: Final = str(Path(__file__).parent)


def answer(stall_id: int, running: int, account: Account | None) -> wire.Report:
    """The stack of the loop's thread while the slice `running` (the cell's word) lasts, or why there is none."""
    if account is None:
        return _unavailable(stall_id, "the loop is gone")
    words = account.words
    frame = sys._current_frames().get(account.thread)  # noqa: SLF001  # documented, and the only way
    frames = _frames(frame)
    # Asked after the frames were taken: what was taken before the slice's end is of this slice.
    if words[layout.RUNNING] != running:
        return _unavailable(stall_id, "the slice had ended")
    if not frames:
        return _unavailable(stall_id, "the thread has no Python frame")
    return wire.Report(stack=wire.Stack(stall_id=stall_id, frames=frames))


def _unavailable(stall_id: int, why: str) -> wire.Report:
    return wire.Report(stack=wire.Stack(stall_id=stall_id, unavailable=why))


def _frames(frame: FrameType | None) -> list[wire.Frame]:
    """Outermost first, without our own wrapper; of a deep stack the innermost part."""
    found: list[wire.Frame] = []
    while frame is not None and len(found) < MAX_FRAMES:
        code = frame.f_code
        if not code.co_filename.startswith(_OUR_FILES):
            line = frame.f_lineno or 0
            found.append(wire.Frame(file=_text(code.co_filename), line=line, function=_text(code.co_qualname)))
        frame = frame.f_back
    found.reverse()
    return found


def _text(name: str) -> str:
    # A name may hold lone surrogates, which protobuf refuses.
    return name[-_MAX_TEXT:].encode("utf-8", "backslashreplace").decode()
