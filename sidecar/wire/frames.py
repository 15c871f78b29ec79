"""Where is a thread of a Python process? Its frames, found in the process's memory: file, line, function, no more.

From the thread's state (CPython's `PyThreadState`) to the running frame, from frame to frame, and from each to its code
object. The process runs meanwhile, so whatever is read may have changed before it is used. Hence: a thread state must
say that it is this thread's; a code object, a string, a line table must have the type of one, by the name that the type
has in memory and not by an address that somebody told; every length is bounded; and the frames are read twice: only
those that both times were there, with the same code and the same caller, are believed.

The structs keep their layout within a minor version of CPython; `LAYOUTS` has those that are known. An application
proves on itself that the one of its version holds before it offers its memory. Builds without the global lock, and
debug builds that trace references, have other layouts and fail that proof.

What it refuses: locals, arguments, source text, constants; and to raise anything but `TornError`, whatever it reads.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from .linetable import line_at
from .memory import TornError

#: Reads so many bytes at an address, or raises `TornError`.
Read = Callable[[int, int], bytes]
#: File, line (0: none) and function.
Frame = tuple[str, int, str]

MAX_FRAMES: Final = 64
MAX_TEXT: Final = 512  # characters of a name; of a longer one the last
_ROUNDS: Final = 4
_LONGEST_TEXT: Final = 1 << 20
_LONGEST_TABLE: Final = 1 << 16
_TABLES: Final = 1 << 17  # bytes of line tables that are looked through for one stack: some milliseconds
_LONGEST_CODE: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets in the structs of a minor version of CPython, in bytes.

    Attributes:
        ident, native_id: in the thread state: `threading.get_ident()` and `threading.get_native_id()` of its thread.
        running: in the thread state: what leads to the running frame, pointer by pointer.
        code, previous, instruction, owner: in the frame; the instruction is the one that runs, or the call that does.
        first_line, file, function, lines, instructions: in the code object.
        text, wide_text: where the characters of a string begin, if they are ASCII, and if not.
    """

    ident: int
    native_id: int
    running: tuple[int, ...]
    code: int
    previous: int
    owner: int
    first_line: int
    instructions: int
    text: int
    wide_text: int
    instruction: int = 56
    file: int = 112
    function: int = 128
    lines: int = 136


#: By `sys.hexversion >> 16`.
LAYOUTS: Final[dict[int, Layout]] = {
    0x030B: Layout(
        ident=152, native_id=160, running=(56, 8), code=32, previous=48, owner=69,
        first_line=72, instructions=184, text=48, wide_text=72,
    ),
    0x030C: Layout(
        ident=136, native_id=144, running=(56, 0), code=0, previous=8, owner=70,
        first_line=68, instructions=192, text=40, wide_text=56,
    ),
    0x030D: Layout(
        ident=152, native_id=160, running=(72,), code=0, previous=8, owner=70,
        first_line=68, instructions=200, text=40, wide_text=56,
    ),
}  # fmt: skip

# The same in all of them.
_TYPE: Final = 8  # of an object
_SIZE: Final = 16  # of a string, of bytes, of a code object (in code units)
_STRING_STATE: Final = 32
_BYTES: Final = 32  # where the content of bytes begins
_TYPE_NAME: Final = 24
_FRAME_BYTES: Final = 72
_OBJECT_BYTES: Final = 40
_C_FRAME: Final = 3  # an owner: a frame that only marks where C called Python
_WORD: Final = struct.Struct("=Q")
_INT: Final = struct.Struct("=i")
_END: Final = "-le" if sys.byteorder == "little" else "-be"
_WIDTHS: Final = {1: "latin-1", 2: "utf-16" + _END, 4: "utf-32" + _END}


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread of a Python process, as the process announces it.

    Attributes:
        python: `sys.hexversion >> 16` of the process; 0 when it offers nothing.
        state: address of the thread's `PyThreadState`.
        ident, native_id: what Python and the system call the thread.
    """

    python: int
    state: int
    ident: int
    native_id: int


def stack(read: Read, thread: Thread) -> list[Frame]:
    """The thread's frames, innermost first, at most `MAX_FRAMES`; empty when it runs no Python code.

    The innermost are missing if they changed too fast to be believed.

    Raises:
        TornError: this is not such a thread, its Python is not known, or nothing stood still for long enough.
    """
    layout = LAYOUTS.get(thread.python)
    if layout is None:
        raise TornError("its version of Python is not known here")
    best: list[Frame] | None = None
    for _ in range(_ROUNDS):
        try:
            found, whole = _attempt(_Reader(read, layout), thread)
        except TornError:
            continue
        if whole:
            return found
        if best is None or len(found) > len(best):
            best = found
    if not best:
        raise TornError("its frames did not stand still")
    return best


def _attempt(reader: _Reader, thread: Thread) -> tuple[list[Frame], bool]:
    """The frames that stood still while they were read, and whether those are all."""
    places = reader.places(thread)
    described = [(place, reader.frame(place)) for place in places]
    # What a code object's memory held before this second look was that code: the frame has kept it alive.
    stood = {place[:3] for place in reader.places(thread)}
    # From the outermost on, up to the first that did not stand: one further in may be of another call than its caller.
    found = list(takewhile(lambda one: one[0][:3] in stood, reversed(described)))
    return [frame for _, frame in reversed(found) if frame is not None], len(found) == len(places)


#: Of a frame: its address, its code's, its caller's, and the instruction's. No code: it only marks a call from C.
_Place = tuple[int, int, int, int]


class _Reader:
    """Reads frames for one attempt; what it learned of code objects and types holds no longer."""

    def __init__(self, read: Read, layout: Layout) -> None:
        self._read = read
        self._layout = layout
        self._types: dict[int, bytes] = {}
        self._codes: dict[int, tuple[str, str, int, int, bytes]] = {}
        self._tables = 0

    def places(self, thread: Thread) -> list[_Place]:
        """The frames of the thread, innermost first."""
        layout = self._layout
        state = self._read(thread.state, max(layout.native_id, layout.ident) + 8)
        if _word(state, layout.ident) != thread.ident or _word(state, layout.native_id) != thread.native_id:
            raise TornError("not the state of this thread")
        at = _word(state, layout.running[0])
        for offset in layout.running[1:]:
            at = self._word(at + offset)
        places: list[_Place] = []
        while at and len(places) < MAX_FRAMES:
            raw = self._read(at, _FRAME_BYTES)
            code = 0 if raw[layout.owner] == _C_FRAME else _word(raw, layout.code)
            previous = _word(raw, layout.previous)
            places.append((at, code, previous, _word(raw, layout.instruction)))
            at = previous
        return places

    def frame(self, place: _Place) -> Frame | None:
        """What a person calls it; None for one that is no function's."""
        _, code, _, instruction = place
        if not code:
            return None
        found = self._codes.get(code)
        if found is None:
            found = self._codes[code] = self._code(code)
        file, function, first_line, size, table = found
        offset = instruction - code - self._layout.instructions
        if not -2 <= offset < size:
            raise TornError("its instruction is not one of its code's")
        self._tables += len(table)
        return file, line_at(table, first_line, offset) if self._tables <= _TABLES else 0, function

    def _code(self, address: int) -> tuple[str, str, int, int, bytes]:
        """File, function, first line, bytes of instructions, line table."""
        layout = self._layout
        raw = self._read(address, layout.lines + 8)
        self._check(raw, b"code")
        units, first_line = _word(raw, _SIZE), _INT.unpack_from(raw, layout.first_line)[0]
        if units > _LONGEST_CODE or first_line < 0:
            raise TornError("not a code object")
        return (
            self._text(_word(raw, layout.file)),
            self._text(_word(raw, layout.function)),
            first_line,
            units * 2,
            self._bytes(_word(raw, layout.lines)),
        )

    def _text(self, address: int) -> str:
        raw = self._read(address, _OBJECT_BYTES)
        self._check(raw, b"str")
        length, state = _word(raw, _SIZE), raw[_STRING_STATE]
        width, compact, ascii_only = state >> 2 & 7, state >> 5 & 1, state >> 6 & 1
        if length > _LONGEST_TEXT or not compact or width not in _WIDTHS:
            raise TornError("not a string")
        skipped = max(0, length - MAX_TEXT)
        start = address + (self._layout.text if ascii_only else self._layout.wide_text) + skipped * width
        shown = (length - skipped) * width
        # A name may hold lone surrogates.
        try:
            return (self._read(start, shown) if shown else b"").decode(_WIDTHS[width], "surrogatepass")
        except UnicodeDecodeError:
            raise TornError("not a string") from None

    def _bytes(self, address: int) -> bytes:
        raw = self._read(address, _OBJECT_BYTES)
        self._check(raw, b"bytes")
        length = _word(raw, _SIZE)
        return self._read(address + _BYTES, length) if 0 < length <= _LONGEST_TABLE else b""

    def _check(self, raw: bytes, name: bytes) -> None:
        """That an object has the type of this name, and that this is a type."""
        address = _word(raw, _TYPE)
        if self._types.get(address) == name:
            return
        meta = self._word(address + _TYPE)
        if self._name(address, name) and self._name(meta, b"type") and self._word(meta + _TYPE) == meta:
            self._types[address] = name
        else:
            raise TornError("not of its type")

    def _name(self, address: int, name: bytes) -> bool:
        return self._read(self._word(address + _TYPE_NAME), len(name) + 1) == name + b"\0"

    def _word(self, address: int) -> int:
        return _word(self._read(address, _WORD.size), 0)


def _word(raw: bytes, offset: int) -> int:
    word: int = _WORD.unpack_from(raw, offset)[0]
    return word
