"""What is asked of bytes without redacting them: whose a record is, whether it may be named, what a message holds.

What it refuses: to guess. A tenant that cannot be read, or is said twice, is nobody's; and what is no name to us may be
one to somebody else.
"""

from __future__ import annotations

from typing import Final

from .bounds import MAX_GROUPS, MAX_RECORDS, TooMuch
from .detectors import detect
from .gates import TENANT_KEY, VICTIM_KEY, read_entry
from .rules import string_in
from .steps import DROP, INTO, RECORD, Plan, Step
from .texts import Refused
from .wire_format import Broken, read_length, read_varint, skip

_UNKNOWN: Final[Step] = (DROP, 0, "unknown")


def is_harmless(identity: bytes) -> bool:
    """Whether an id is not text with a secret. Raises `Spent`."""
    # Random bytes are hardly ever ASCII; what is may be text.
    return not identity.isascii() or detect(identity.decode("ascii"), numbers=False) is None


def may_name(entry: bytes, tenants: frozenset[str]) -> None:
    """Raises `Refused`: an attribute names a tenant that is not among these."""
    try:
        key, value = read_entry(entry)
        allowed = key not in (TENANT_KEY, VICTIM_KEY) or string_in(value).decode() in tenants
    except (Broken, Refused, ValueError):  # what is no name to us may be one to somebody else
        allowed = False
    if not allowed:
        raise Refused("foreign_tenant")


def whose(data: bytes, attributes: int, pos: int, end: int) -> bytes:
    """The tenant that a record names; nobody's when it names none.

    Raises:
        Refused: it cannot be read, or names two. Nobody knows by whose rules to judge it then.
    """
    found: bytes | None = None
    try:
        while pos < end:
            tag, pos = read_varint(data, pos, end)
            if tag != attributes:
                pos = skip(data, pos, end, tag)
                continue
            start, pos = read_length(data, pos, end)
            if TENANT_KEY not in data[start:pos]:
                continue
            key, value = read_entry(data[start:pos])
            if key == TENANT_KEY:
                tenant = string_in(value)
                if found is not None and found != tenant:
                    raise Refused("tenant")
                found = tenant
    except Broken:
        raise Refused("wire") from None
    return found or b""


def inside(data: bytes, plan: Plan, pos: int, end: int) -> tuple[int, int]:
    """How many records a message holds, and how many groups of them.

    Raises:
        TooMuch: more than a request may.
    """
    records = groups = 0
    while pos < end:
        tag, pos = read_varint(data, pos, end)
        operation, _, operand = plan.get(tag, _UNKNOWN)
        if operation == INTO:
            more = inside(data, operand, *read_length(data, pos, end))
            records, groups = records + more[0], groups + more[1] + 1
        elif operation == RECORD:
            records += 1
        if records > MAX_RECORDS or groups > MAX_GROUPS:
            raise TooMuch
        pos = skip(data, pos, end, tag)
    return records, groups
