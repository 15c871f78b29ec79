"""Which line is an instruction of? The line table of a code object (`co_linetable`), as CPython 3.11 to 3.13 write it.

An entry starts with a byte whose high bit is set, and covers 1 to 8 code units; what follows in it has that bit clear.
Bits 3 to 6 of the first byte say how the line differs from the one before (source of the format: CPython's
`Objects/locations.md`).

What it refuses: to fail. A table that is cut off or is none gives some line, or none; never an exception.
"""

from __future__ import annotations

import re
from typing import Final

_ENTRY: Final = re.compile(rb"[\x80-\xff][\x00-\x7f]*")
_NO_LINE: Final = 15
_SIGNED: Final = (13, 14)  # the difference is a signed number of variable length
_ONE_LINE: Final = (10, 11, 12)  # it is 0, 1 or 2
_LONGEST_NUMBER: Final = 6  # bytes, 6 bits in each
_UNIT: Final = 2  # bytes of a code unit


def line_at(table: bytes, first_line: int, offset: int) -> int:
    """The line of the instruction `offset` bytes after the code's first; 0 when it has none.

    An instruction before the first one, where a frame stands that has not begun, is on the first line of the code.
    """
    if offset < 0:
        return first_line
    line, end = first_line, 0
    for entry in _ENTRY.findall(table):
        head = entry[0]
        kind = head >> 3 & 15
        if kind in _SIGNED:
            line += _signed(entry[1 : 1 + _LONGEST_NUMBER])
        elif kind in _ONE_LINE:
            line += kind - _ONE_LINE[0]
        end += ((head & 7) + 1) * _UNIT
        if offset < end:
            return line if kind != _NO_LINE and line > 0 else 0
    return 0


def _signed(digits: bytes) -> int:
    value = 0
    for place, digit in enumerate(digits):
        value |= (digit & 63) << 6 * place
        if not digit & 64:
            break
    return -(value >> 1) if value & 1 else value >> 1
