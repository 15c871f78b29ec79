"""Who had one loop, and for how long: the numbers of an event loop, by tenant slot.

Written by the loop's own thread alone and without locks; any thread may read. The totals are plain lists, which cost
less than half of shared memory; what a watchdog needs at once (the running slice) goes into the cell immediately, the
totals follow every few milliseconds and after each long slice.

What it refuses: to keep its loop alive. It knows the loop by a weak reference only.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import compress
from operator import ne
from typing import Any, Final

from instrumentation import tenancy
from instrumentation.tenancy import OTHER_SLOT, Binding
from sidecar.wire import cell as layout

from .cell import Cell
from .cpu_time import CpuTime
from .delays import Delays
from .offer import Offer
from .pairs import Pairs
from .run_delay import RunDelay, own
from .victims import Queued, waits

LONG_NS: Final = layout.LONG_NS  # a slice from here on is worth a look at who waited for it
PUBLISH_NS: Final = 20_000_000
STILL_NS: Final = 60_000_000_000  # after which a loop that is not run is not waited for
NEAR_NS: Final = 5_000_000  # how long before a slice its thread's run delay may have been read: the error, at most
_RUNNING: Final = layout.RUNNING
_START_BITS: Final = layout.START_BITS
_MAX_WORD: Final = 2**64 - 1


class Account:
    """The account of one loop.

    Attributes:
        loop: weak reference to the loop.
        thread: `threading.get_ident()` of the thread that runs it.
        start: when the running slice began, 0 while there is none. Nanoseconds of `clock`, as all times here.
        slot: whose the running slice is.
        active, slices, longest, caused: totals by slot.
        suffered: waits by slot, for those who waited.
        cpu: CPU time of the slices that ended, up to the last time that the account was settled.
        pairs: who made whom wait.
        publish_at, read_at: when the cell, and the run delay of the thread, are due again.
        turn: of the running slice, when it has a budget: told how long the slice was.
        delay: how late the loop ran the heartbeat.
        ended: when the loop ended, None while it lives.
    """

    __slots__ = (
        "_offer",
        "_published",
        "_published_active",
        "_queued",
        "_run_delay",
        "_vacated",
        "active",
        "adopted",
        "caused",
        "cell",
        "clock",
        "cpu",
        "delay",
        "ended",
        "heartbeat",
        "longest",
        "loop",
        "loop_id",
        "pairs",
        "publish_at",
        "read_at",
        "slices",
        "slot",
        "start",
        "suffered",
        "thread",
        "turn",
        "words",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        loop_id: int,
        slots: int,
        cell: Cell,
        clock: Callable[[], int],
        cpu_clock: Callable[[], int] = time.thread_time_ns,
        queued: Queued = lambda _: (),
        offer: Offer | None = None,
        run_delay: Callable[[], int | None] = own,
        generations: Sequence[int] = (),
    ) -> None:
        self.loop = weakref.ref(loop)
        self.loop_id = loop_id
        self.thread = threading.get_ident()
        self.cell = cell
        self.words = cell.words
        self.clock = clock
        self.start = 0
        self.slot = 0
        self.active = [0] * slots
        self.slices = [0] * slots
        self.longest = [0] * slots
        self.caused = [0] * slots
        self.suffered: dict[int, Delays] = {}
        self.pairs = Pairs(generations)
        self.turn: Any = None
        self.delay = Delays()
        self.heartbeat: Callable[[], asyncio.Handle | None] = _no_heartbeat
        self.adopted = clock()
        self.ended: int | None = None
        self.cpu = CpuTime(slots, self.adopted, cpu_clock)
        self._published = [0] * slots
        self._published_active = [0] * slots
        self._vacated: dict[int, tuple[int, int]] = {}  # active and slices of former owners: in no cell any more
        self._queued = queued
        self._run_delay = RunDelay(run_delay)
        self._offer = offer
        self.publish_at = 0
        self.read_at = 0
        self._place()

    def begin(self, now: int, binding: Binding | None) -> None:
        """A slice begins, of code in whose context this is bound."""
        if now >= self.read_at:
            now = self.read(now)
        if binding is None:
            self.turn, slot = None, 0
        else:
            self.turn, slot = binding.turn, binding.tenant.slot
        self.slot = slot
        self.start = now
        self.words[_RUNNING] = now & _START_BITS | slot

    def end(self, now: int, loop: asyncio.AbstractEventLoop) -> None:
        """The running slice, if there is one, is over. `slices` has the same lines written out, for speed."""
        start = self.start
        if start:
            # First: a reader that finds no running slice and old totals sees too little for a moment, never too much.
            self.start = 0
            slot = self.slot
            elapsed = now - start
            self.active[slot] += elapsed
            self.slices[slot] += 1
            if elapsed > self.longest[slot]:
                self.longest[slot] = elapsed
            if elapsed >= LONG_NS or now >= self.publish_at:
                self.settle(now, slot, elapsed, loop, tenancy.BOUND.get())
            # Last: who sees the slice gone also sees what it did.
            self.words[_RUNNING] = 0
            if self.turn is not None:
                self.turn.hold(elapsed, loop)

    def switch(
        self, now: int, slot: int, turn: Any, loop: asyncio.AbstractEventLoop, binding: Binding | None = None
    ) -> None:
        """The running slice is over and another begins at once: `end` and `begin`, for what changes hands often.

        `binding` was bound in the one that is over.
        """
        before, over = self.slot, self.turn
        elapsed = now - self.start
        self.start = 0
        self.active[before] += elapsed
        self.slices[before] += 1
        if elapsed > self.longest[before]:
            self.longest[before] = elapsed
        if elapsed >= LONG_NS or now >= self.publish_at:
            self.settle(now, before, elapsed, loop, binding)
        if now >= self.read_at:
            now = self.read(now)
        self.slot = slot
        self.turn = turn
        self.start = now
        self.words[_RUNNING] = now & _START_BITS | slot
        if over is not None:
            over.hold(elapsed, loop)

    def read(self, now: int) -> int:
        """A slice is to begin, and what its thread lacked so far was not read of late. Returns the time afterwards."""
        self._run_delay.since_last()
        self.read_at = now + NEAR_NS
        return self.clock()

    def settle(
        self, now: int, slot: int, elapsed: int, loop: asyncio.AbstractEventLoop, binding: Binding | None = None
    ) -> None:
        """What not every slice needs: after a long one see who waited, and bring the cell up to date.

        Args:
            binding: what was bound in the slice, to know whose it was even when its tenant has no slot.
        """
        if elapsed >= LONG_NS:
            if slot == OTHER_SLOT and binding is not None:
                tenancy.TABLE.weigh(binding.tenant, elapsed / 1e6)
            lacked = self._run_delay.since_last()  # first: what the thread lacks from here on is not the slice's
            self.read_at = now + NEAR_NS
            self._suffer(now, slot, elapsed, loop)
            self._note(now, slot, elapsed, lacked)
            self._publish(now, (slot, elapsed))
        else:
            self._publish(now, None)

    def _note(self, now: int, slot: int, elapsed: int, lacked: int | None) -> None:
        """A long slice has ended: a watchdog that had no time to look while it ran finds it in the cell."""
        words = self.words
        count = words[layout.LONG_SLICES]
        at = layout.long_word(len(self.active), count % layout.MAX_LONG)
        words[at] = now - elapsed & _START_BITS | slot
        words[at + 1] = now
        words[at + 2] = layout.NOT_KNOWN if lacked is None else lacked
        words[layout.LONG_SLICES] = count + 1

    def _suffer(self, now: int, culprit: int, elapsed: int, loop: asyncio.AbstractEventLoop) -> None:
        words, slots = self.words, len(self.active)
        caused = 0
        found = waits(loop, culprit, now - elapsed, now, self.heartbeat(), self._queued)
        for (slot, wait), times in found.items():
            delays = self.suffered.get(slot)
            if delays is None:
                delays = self.suffered[slot] = Delays()
            bucket = delays.record(wait, times)
            words[layout.delay_word(slots, slot) + bucket] += times
            self.pairs.add(words, slots, culprit, slot, wait * times)
            caused += wait * times
            at = layout.slot_word(slot)
            words[at + layout.SUFFERED_NS] += wait * times
            words[at + layout.WAITS] += times
        self.caused[culprit] += caused
        words[layout.slot_word(culprit) + layout.CAUSED_NS] += caused

    def _publish(self, now: int, long: tuple[int, int] | None) -> None:
        """Divide the CPU time that was taken meanwhile, and bring the cell's slot table up to date."""
        self.publish_at = now + PUBLISH_NS
        words, published = self.words, self._published
        had = []
        ended = 0
        # Of thousands of slots, it may be, few have changed.
        for slot in compress(range(len(published)), map(ne, self.slices, published)):
            slices, active = self.slices[slot], self.active[slot]
            ended += slices - published[slot]
            had.append((slot, active - self._published_active[slot]))
            self._published_active[slot] = active
            at = layout.slot_word(slot)
            active_before, slices_before = self._vacated.get(slot, (0, 0))
            words[at + layout.LOOP_NS] = active - active_before
            words[at + layout.SLICES] = slices - slices_before
            words[at + layout.LONGEST_NS] = self.longest[slot]
        self.cpu.settle(now, had, ended, long)
        for slot, _ in had:  # last: what is published is settled
            published[slot] = self.slices[slot]
        words[layout.BEAT] = now

    def is_quiet(self, slot: int, since: int) -> bool:
        """Whether all is counted that ever will be in this slot, if its tenant left it at `since`; from any thread.

        That takes a moment at which the loop's thread had no slot in hand: its timer ran since, or the loop does not
        run. And what was counted has to be published, for its CPU time is divided then; for a loop that stands still
        that is waited for a minute. An account that has ended is not quiet: its sums are still to be moved.
        """
        loop = self.loop()
        if self.ended is not None or loop is None:
            return False
        runs = loop.is_running()
        if runs and self.words[layout.HEARTBEAT] <= since:
            return False
        return self.slices[slot] == self._published[slot] or not (runs or self.clock() - since < STILL_NS)

    def give_up(self, slot: int) -> None:
        """What CPU time was not divided yet of this quiet slot's is nobody's; from any thread."""
        self._published_active[slot], self._published[slot] = self.active[slot], self.slices[slot]

    def vacate(self, slot: int) -> None:
        """A quiet slot is to be another tenant's, whose totals begin at 0 in the cell; from any thread."""
        self._vacated[slot] = self.active[slot], self.slices[slot]
        self.longest[slot] = 0
        self.pairs.outdated = True
        self.cell.vacate(slot)

    def overran(self, slot: int, budget: str) -> None:
        """A turn of this tenant's is over its budget, `turn` or `loop`. On the loop's thread."""
        word = layout.LOOP_OVERRUNS if budget == "loop" else layout.TURN_OVERRUNS
        self.words[layout.slot_word(slot) + word] += 1

    def queued(self, slot: int, wait_ns: int) -> None:
        """The handler of a message of this tenant's begins, which was sent so long ago. On the loop's thread."""
        words, at = self.words, layout.slot_word(slot)
        # Another process has said when: what it adds up to need not fit.
        words[at + layout.QUEUED_NS] = min(words[at + layout.QUEUED_NS] + wait_ns, _MAX_WORD)
        words[at + layout.QUEUED] += 1

    def late(self, now: int, lateness: int) -> None:
        """The heartbeat ran, so late."""
        self.delay.record(lateness)
        thread = threading.get_ident()
        if thread != self.thread:  # a loop may run in one thread now and in another later
            self.thread = thread
            self._place()
        self.words[layout.LATENESS] = lateness
        self.words[layout.HEARTBEAT] = now

    def _place(self) -> None:
        """Say which thread this is: the loop's."""
        words = self.words
        words[layout.IDENT] = self.thread
        words[layout.THREAD] = threading.get_native_id()
        if self._offer is not None:
            words[layout.PYTHON] = self._offer.python
            words[layout.THREAD_STATE] = self._offer.thread_state()

    def interrupted(self) -> None:
        """No slice runs any more, whatever was written: an exception came through in the middle of our own code."""
        self.start = 0
        with suppress(Exception):
            self.words[_RUNNING] = 0

    def finish(self) -> bool:
        """The loop is gone, or we leave it. False when that was known. Takes no lock: a finalizer may call it."""
        if self.ended is not None:
            return False
        self.ended = self.clock()
        start, self.start = self.start, 0
        if start:
            self.active[self.slot] += max(0, self.ended - start)
            self.slices[self.slot] += 1
        if threading.get_ident() == self.thread:  # a loop may live for less than a settlement
            with suppress(Exception):
                self._publish(self.ended, None)
        self.cell.close()
        self.words = self.cell.words
        return True

    def forget(self) -> None:
        """In a forked child: leave everything that is shared with the parent alone."""
        self.ended = self.clock()
        self.start = 0
        self.cell.forget()
        self.words = self.cell.words

    def let_go(self) -> None:
        """It has ended, and nothing more is asked of it: it is gone without the garbage collector."""
        self.heartbeat = _no_heartbeat

    def active_now(self) -> list[int]:
        """Active time by slot, the running slice included; from any thread."""
        for _ in range(100):
            start, slot, active = self.start, self.slot, self.active.copy()
            # Unchanged: the copy holds either none of the running slice, or there was none.
            if self.start == start:
                if start:
                    active[slot] += max(0, self.clock() - start)
                break
        return active


def _no_heartbeat() -> None:
    return None
