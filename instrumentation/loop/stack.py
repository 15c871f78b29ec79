"""Where is a loop's thread now? File, line and function of its frames: never locals, arguments or source text.

What it refuses: to answer for another slice than the one that was asked about. An interpreter that was held (a regular
expression that backtracks for seconds) answers late, and by then another tenant may have the loop.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Final

from sidecar.wire import cell as layout
from sidecar.wire import stacks
from sidecar.wire import watchdog_pb2 as wire

from .account import Account

MAX_FRAMES: Final = stacks.MAX_FRAMES
_MAX_TEXT: Final = 512
_MAX_NAME: Final = 200  # in the stacks file, where the loops of a process share the room
_OUR_FILES: Final = str(Path(__file__).parent)


def answer(stall_id: int, running: int, account: Account | None) -> wire.Report:
    """The stack of the loop's thread while the slice `running` (the cell's word) lasts, or why there is none."""
    if account is None:
        return _unavailable(stall_id, "the loop is gone")
    words = account.words
    frames = [
        wire.Frame(file=_text(file), line=line, function=_text(function))
        for file, line, function in reversed(_frames(account.thread))
    ]
    # Asked after the frames were taken: what was taken before the slice's end is of this slice.
    if words[layout.RUNNING] != running:
        return _unavailable(stall_id, "the slice had ended")
    if not frames:
        return _unavailable(stall_id, "the thread has no Python frame")
    return wire.Report(stack=wire.Stack(stall_id=stall_id, frames=frames))


def text_of(account: Account) -> bytes:
    """The stack of the loop's thread as the stacks file wants it; empty when there is none."""
    lines = [
        f'  File "{_ascii(file)}", line {line} in {_ascii(function)}\n'
        for file, line, function in _frames(account.thread)
    ]
    return (stacks.heading(account.thread) + "".join(lines) + "\n").encode("ascii") if lines else b""


def _unavailable(stall_id: int, why: str) -> wire.Report:
    return wire.Report(stack=wire.Stack(stall_id=stall_id, unavailable=why))


def _frames(thread: int) -> list[tuple[str, int, str]]:
    """Innermost first, without our own wrapper; of a deep stack the innermost part."""
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001  # documented, and the only way
    found: list[tuple[str, int, str]] = []
    while frame is not None and len(found) < MAX_FRAMES:
        code = frame.f_code
        if not code.co_filename.startswith(_OUR_FILES):
            found.append((code.co_filename, frame.f_lineno or 0, code.co_qualname))
        frame = frame.f_back
    return found


def _text(name: str) -> str:
    # A name may hold lone surrogates, which protobuf refuses.
    return name[-_MAX_TEXT:].encode("utf-8", "backslashreplace").decode()


def _ascii(name: str) -> str:
    """A name in one line of ASCII."""
    return "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in name[-_MAX_NAME:])
