"""Whose is a slot of a cell, whose was a slice: the names in a cell, which change while they are read.

A slot passes from one tenant to another. What is read of one is never told of the other: a table is read whole between
two looks at `OWNERS`, a name is asked for by holder, that is slot and generation, and the tenant of a slice by when it
began. What it refuses: to guess. Where nobody can tell any more, it is `other`.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from sidecar.wire import cell as layout

#: A tenant's id, as people may see it.
Shown = Callable[[str], str]
OTHER: Final = "other"
UNKNOWN: Final = "unknown"
_READS: Final = 5  # of what changes meanwhile; then it is not known
_MAX_NAME: Final = layout.NAME_BYTES - 8
T = TypeVar("T")


class _Entry(NamedTuple):
    """A slot: how many tenants it was taken from, since when its present one has it, and that one's id."""

    owner: int
    since: int
    tenant: str


class _Known(NamedTuple):
    """A holder: since when, and its id. How that is shown is asked each time: the policy may be another by then."""

    since: int
    tenant: str


_NOBODY: Final = _Known(0, UNKNOWN)
_FORGOTTEN: Final = _Known(0, OTHER)


class Holders:
    """The slots of one cell. Raises what `read` raises.

    Args:
        read: so many bytes of the cell, from so far on.
        slots: how many the cell has.
        shown: how a tenant's id is shown to people.
    """

    def __init__(self, read: Callable[[int, int], bytes], slots: int, shown: Shown) -> None:
        self._read = read
        self._slots = slots
        self._shown = shown
        self._known: dict[int, _Known] = {}  # former ones too, for slices that are looked at late

    def table(self) -> tuple[int, ...]:
        """The slot table, as far as its slots have had names; empty when it changes all the time."""
        return self._steady(lambda: self._words(layout.HEADER_WORDS, self._named() * layout.SLOT_WORDS)) or ()

    def delays(self, holder: int) -> tuple[int, ...] | None:
        """How often the holder's ready work waited, by the bounds of `layout.DELAY_BOUNDS_NS`; None: not known."""
        slot = holder & layout.SLOT_BITS

        def look() -> tuple[int, ...] | None:
            (owner,) = self._words(layout.slot_word(slot) + layout.OWNER, 1)
            found = self._words(layout.delay_word(self._slots, slot), layout.DELAY_WORDS)
            return found if layout.holder(slot, owner) == holder else None

        return self._steady(look)

    def name(self, holder: int) -> str:
        """How its tenant is shown; `unknown` for a slot that never had one."""
        return self._face(self._find(holder))

    def tenant_id(self, holder: int) -> str:
        """The tenant's id itself, to look it up."""
        return self._find(holder).tenant

    def whose(self, running: int) -> str:
        """How the tenant of a slice is shown; `running` is `RUNNING` as it was then."""
        slot, began = running & layout.SLOT_BITS, running & layout.START_BITS
        if slot >= self._named():
            return UNKNOWN
        entry = self._steady(lambda: self._entry(slot))
        if entry is None:
            return OTHER
        if began >= entry.since:
            return self._face(self._find(layout.holder(slot, entry.owner)))
        former = self._known.get(layout.holder(slot, entry.owner - 1))
        return OTHER if former is None or began < former.since else self._face(former)

    def _face(self, known: _Known) -> str:
        return known.tenant if known is _NOBODY or known is _FORGOTTEN else self._shown(known.tenant)

    def _find(self, holder: int) -> _Known:
        known = self._known.get(holder)
        if known is not None:
            return known
        slot = holder & layout.SLOT_BITS
        if slot >= self._named():
            return _NOBODY
        entry = self._steady(lambda: self._entry(slot))
        if entry is None or not entry.tenant or layout.holder(slot, entry.owner) != holder:
            return _FORGOTTEN
        if len(self._known) >= 2 * self._slots:
            self._known.clear()
        known = self._known[holder] = _Known(entry.since, entry.tenant)
        return known

    def _entry(self, slot: int) -> _Entry:
        owner, since = self._words(layout.slot_word(slot) + layout.OWNER, 2)
        raw = self._read(layout.NAME_BYTES, layout.name_offset(self._slots, slot))
        length = min(int.from_bytes(raw[:8], sys.byteorder), _MAX_NAME)
        return _Entry(owner, since, raw[8 : 8 + length].decode("utf-8", "backslashreplace"))

    def _named(self) -> int:
        (names,) = self._words(layout.NAMES, 1)
        return min(names, self._slots)

    def _steady(self, look: Callable[[], T]) -> T | None:
        """What is found while no slot changes hands."""
        for _ in range(_READS):
            (before,) = self._words(layout.OWNERS, 1)
            found = look()
            if not before % 2 and self._words(layout.OWNERS, 1) == (before,):
                return found
        return None

    def _words(self, first: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"={count}Q", self._read(count * 8, first * 8))
