"""Protobuf's wire format: reading tags, varints and lengths from bytes, writing fields back.

Strict where parsers are lenient, for leniency is where two readers of the same bytes disagree. A varint that
is longer than it needs to be, a field number of zero, an end-group without its group, a length beyond the
end: `Broken`.
"""

from __future__ import annotations

from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
GROUP: Final = 3
END_GROUP: Final = 4
FIXED32: Final = 5

#: Groups inside unknown groups that are skipped before the message is given up.
MAX_GROUPS: Final = 16

_ONE_BYTE: Final = tuple(bytes((value,)) for value in range(0x80))


class Broken(ValueError):  # noqa: N818  # a finding about bytes, part of ordinary work
    """Not a protobuf message, or not one that every parser reads the same way. Holds no content."""


def read_varint(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """The unsigned number of 64 bits at `pos`, and the position behind it.

    Raises:
        Broken: cut off at `end`, above 64 bits, or padded with zero groups (an overlong form).
    """
    value = shift = 0
    while pos < end:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if (byte == 0 and shift) or value >= 1 << 64:
                break
            return value, pos
        shift += 7
        if shift > 63:
            break
    raise Broken


def read_length(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Where the content of a length-delimited field starts and stops; `pos` is at its length."""
    length, start = read_varint(data, pos, end)
    stop = start + length
    if stop > end:
        raise Broken
    return start, stop


def skip(data: bytes, pos: int, end: int, tag: int) -> int:
    """The position behind the value of a field with this tag, groups included.

    Raises:
        Broken: the value is cut off, the wire type does not exist, groups are nested too deep or don't match.
    """
    open_groups: list[int] = []
    while True:
        number, wire_type = tag >> 3, tag & 7
        if number == 0 or number >= 1 << 29:
            raise Broken
        if wire_type == LENGTH:
            pos = read_length(data, pos, end)[1]
        elif wire_type == VARINT:
            pos = read_varint(data, pos, end)[1]
        elif wire_type == FIXED64:
            pos += 8
        elif wire_type == FIXED32:
            pos += 4
        elif wire_type == GROUP and len(open_groups) < MAX_GROUPS:
            open_groups.append(number)
        elif not (wire_type == END_GROUP and open_groups and open_groups.pop() == number):
            raise Broken
        if pos > end:
            raise Broken
        if not open_groups:
            return pos
        tag, pos = read_varint(data, pos, end)


def varint(value: int) -> bytes:
    """`value`, at least 0, in its shortest form."""
    if value < 0x80:
        return _ONE_BYTE[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def tag_of(number: int, wire_type: int) -> int:
    """The tag of a field, as the number that a varint holds."""
    return number << 3 | wire_type


def delimited(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(tag_of(number, LENGTH)) + varint(len(content)) + content
