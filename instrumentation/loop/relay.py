"""Heartbeats: that the process lives, and for a watchdog that cannot read its cells, what is in them.

The cell is looked at from the thread that sends, so the loop itself has no more to do than without. A slice that comes
to be overdue, or that was and ends, is told at once; all else several times a second.

What it refuses: to be believed for more than it is. While the interpreter is held this thread does not run either, and
the watchdog hears nothing: that silence is all it can tell.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

from sidecar.wire import cell as layout
from sidecar.wire import watchdog_pb2 as wire

from .account import Account
from .stack import text_of

ALIVE_NS: Final = 1_000_000_000  # between two heartbeats without facts
FACTS_NS: Final = 250_000_000  # between two with facts, when there is nothing new
MAX_SLOTS: Final = 256  # in one heartbeat; what is left over is in the next
_SHORTEST_NS: Final = 5_000_000  # between two looks


class Relay:
    """The heartbeats of one stream. Not for more than one thread, but for `ask`.

    Args:
        accounts: the loops of this process, by id.
        clock: nanoseconds, monotonic.
    """

    def __init__(
        self, accounts: Callable[[], dict[int, Account]], clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._stall_ns = FACTS_NS
        self._asked: dict[int, _Told] = {}
        self._sequence = 0
        self._due = clock() + ALIVE_NS

    def ask(self, loop_id: int, stall_ns: int) -> None:
        """The watchdog wants to be told of this loop, and takes an older slice for overdue; from any thread."""
        self._stall_ns = max(_SHORTEST_NS, stall_ns)
        self._asked.setdefault(loop_id, _Told())
        self._due = 0

    def pause(self) -> float:
        """Seconds until there may be something to tell."""
        now = self._clock()
        wake = self._due
        for account, told in self._loops():
            running = account.words[layout.RUNNING]
            if told.overdue:  # its end is awaited
                wake = min(wake, now + self._stall_ns // 4)
            elif running and running != told.running:
                wake = min(wake, (running & layout.START_BITS) + self._stall_ns)
            else:
                wake = min(wake, now + self._stall_ns)  # no slice that begins later is overdue before
        return max(wake - now, _SHORTEST_NS if self._asked and self._sequence else 0) / 1e9

    def heartbeat(self) -> wire.Report | None:
        """What is to be told now; None when nothing is."""
        now = self._clock()
        loops = self._loops()
        if now < self._due and not any(self._news(account, told, now) for account, told in loops):
            return None
        self._due = now + (FACTS_NS if self._asked else ALIVE_NS)
        facts = []
        for account, told in loops:
            facts.append(self._facts(account.loop_id, told, account.words, now))
            if told.overdue and not told.stack_sent:
                facts[-1].stack = told.stack_of(account)
        return self._report(now, facts)

    def goodbye(self, loop_id: int) -> wire.Report | None:
        """The last facts of a loop that was closed; None when it was not told of."""
        told = self._asked.pop(loop_id, None)
        if told is None or told.words is None:
            return None
        now = self._clock()
        return self._report(now, [self._facts(loop_id, told, told.words, now)])

    def _report(self, now: int, facts: list[wire.Facts]) -> wire.Report:
        self._sequence += 1
        return wire.Report(heartbeat=wire.Heartbeat(monotonic_ns=now, sequence=self._sequence, loops=facts))

    def _loops(self) -> list[tuple[Account, _Told]]:
        if not self._asked:
            return []
        accounts = self._accounts()
        loops = [(accounts[loop_id], told) for loop_id, told in self._asked.copy().items() if loop_id in accounts]
        return [(account, told) for account, told in loops if account.ended is None]

    def _news(self, account: Account, told: _Told, now: int) -> bool:
        running = account.words[layout.RUNNING]
        if running == told.running:
            return False
        # The one that was told as overdue is over, or another one has become overdue.
        return told.overdue or (running != 0 and now - (running & layout.START_BITS) >= self._stall_ns)

    def _facts(self, loop_id: int, told: _Told, words: memoryview, now: int) -> wire.Facts:
        if told.words is None:
            told.words = words
        words = told.words
        slots, running = told.changed(words)
        told.stack_sent = told.stack_sent and told.running == running
        told.running = running
        told.overdue = running != 0 and now - (running & layout.START_BITS) >= self._stall_ns
        return wire.Facts(
            loop_id=loop_id,
            running=running,
            beat=words[layout.BEAT],
            heartbeat=words[layout.HEARTBEAT],
            lateness=words[layout.LATENESS],
            ident=words[layout.IDENT],
            slots=slots,
        )


class _Told:
    """What was told of one loop.

    Attributes:
        running: the RUNNING word; what runs now is news only when it differs.
        overdue: whether that slice was told as overdue.
        stack_sent: whether its stack was told.
        words: the cell's; they outlast the loop here, for the goodbye.
    """

    def __init__(self) -> None:
        self.running = 0
        self.overdue = False
        self.stack_sent = False
        self.words: memoryview | None = None
        self._slots: dict[int, list[int]] = {}  # with who had the slot

    def stack_of(self, account: Account) -> bytes:
        """The stack of the slice that was told last; empty when that is over."""
        text = text_of(account)
        # Asked after the frames were taken: what was taken before the slice's end is of this slice.
        if account.words[layout.RUNNING] != self.running:
            return b""
        self.stack_sent = True
        return text

    def changed(self, words: memoryview) -> tuple[list[wire.Slot], int]:
        """The slots that say something else than when they were told, the running slice's first; and that slice.

        While a slot changes hands, which another thread is about, none is told of.
        """
        before = words[layout.OWNERS]
        running = words[layout.RUNNING]
        slot = running & layout.SLOT_BITS
        if running & layout.START_BITS < words[layout.slot_word(slot) + layout.SINCE]:
            running = 0  # it is over: somebody else has the slot by now
        found = self._changed(words, slot) if not before % 2 else []
        if words[layout.OWNERS] != before:
            return [], 0
        self._slots.update((slot, state) for slot, state, _ in found)
        return [told for _, _, told in found], running

    def _changed(self, words: memoryview, running: int) -> list[tuple[int, list[int], wire.Slot]]:
        found: list[tuple[int, list[int], wire.Slot]] = []
        names = words[layout.NAMES]
        first = min(running, max(0, names - 1))
        for slot in (first, *(slot for slot in range(names) if slot != first)):
            at = layout.slot_word(slot)
            state = [*words[at : at + 6], words[at + layout.OWNER]]
            before = self._slots.get(slot)
            totals = state[:6]
            if state == before or (slot != running and not any(totals)):
                continue
            if len(found) == MAX_SLOTS:
                break
            loop_ns, slices, longest, suffered, caused, waits = totals
            is_named = before is not None and before[6] == state[6]
            told = wire.Slot(
                slot=slot, tenant="" if is_named else _name(words, slot), loop_ns=loop_ns, slices=slices,
                longest_ns=longest, suffered_ns=suffered, caused_ns=caused, waits=waits,
            )  # fmt: skip
            found.append((slot, state, told))
        return found


def _name(words: memoryview, slot: int) -> str:
    at = layout.name_offset(words[layout.SLOTS], slot)
    memory = words.cast("B")
    length = int.from_bytes(memory[at : at + 8], sys.byteorder)
    return bytes(memory[at + 8 : at + 8 + length]).decode("utf-8", "replace")
