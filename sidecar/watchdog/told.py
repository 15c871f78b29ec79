"""A loop whose cell cannot be read here: what heartbeats said of it last.

The times in them are of the sender's clock. They are moved to ours by a difference that is taken when the first one
comes, and again when the two clocks have drifted apart; never while one slice runs, or it would look like another. What
is judged are the sender's own times alone: a heartbeat that comes late makes nothing overdue.

What it refuses: heartbeats that are older than one that came, that are from further in the future than time has passed
here, and more slots or longer names than its bounds.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sidecar.wire import cell as layout
from sidecar.wire import stacks

from .cell import LongSlice, ProcessKey, Totals
from .holders import OTHER, UNKNOWN, Shown
from .mode import Mode
from .stacks import Found, shown_stack

MAX_SLOTS: Final = 1024  # of one loop; each may come with a name
_MAX_NAME: Final = layout.NAME_BYTES - 8
_DRIFT_NS: Final = 250_000_000  # a difference of clocks that is wrong by less is kept
_AHEAD_NS: Final = 5_000_000_000  # how much faster than ours a sender's clock may seem to run: heartbeats queue up
_WORD: Final = 2**64 - 1
_NO_STACK: Final = "the heartbeat that told of the slice came without"


class HeartbeatRefusedError(Exception):
    """A heartbeat is not believed. `reason` is one of `HEARTBEAT_REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


HEARTBEAT_REASONS: Final = ("order", "future", "loop", "size")


class Sequence:
    """The order of the heartbeats of one stream."""

    def __init__(self) -> None:
        self._number = 0
        self._sent = 0
        self._came = 0

    def take(self, heartbeat: Any, now: int) -> None:
        """The next one, which came at `now`.

        Raises:
            HeartbeatRefusedError: it came before, or out of order (`order`), or its clock runs away (`future`).
        """
        number, sent = heartbeat.sequence, heartbeat.monotonic_ns
        if number <= self._number or sent <= self._sent:
            raise HeartbeatRefusedError("order")
        if self._sent and sent - self._sent > now - self._came + _AHEAD_NS:
            raise HeartbeatRefusedError("future")
        self._number, self._sent, self._came = number, sent, now


class _Owner(NamedTuple):
    """Who has a slot: how many had it before, since when at the latest, and the tenant's id."""

    number: int
    since: int
    tenant: str


class ToldCell:
    """See `Cell`. One thread takes heartbeats, others may read.

    Args:
        process: whose it is, as it says of itself.
        shown: how a tenant's id is shown to people.
    """

    def __init__(self, process: ProcessKey, loop_id: int, shown: Shown = str) -> None:
        self.mode = Mode.HEARTBEATS
        self.process = process
        self.pid = process[1]
        self.loop_id = loop_id
        self._shown = shown
        self._owners: dict[int, _Owner] = {}
        self._totals: dict[int, tuple[int, ...]] = {}
        self._running = 0  # as the sender wrote it
        self._shift = 0  # from the sender's clock to ours; a multiple of what a RUNNING word can tell
        self._sent = 0
        self._came: int | None = None
        self._facts: Any = None
        self._stack = Found()
        # Replaced as one, so that who reads it sees one heartbeat.
        self._told: tuple[tuple[int, ...], int] = ((0,) * layout.HEADER_WORDS, 0)

    def take(self, facts: Any, sent: int, now: int) -> None:
        """What a heartbeat says that was sent at `sent`, by its sender's clock, and came at `now`.

        Raises:
            HeartbeatRefusedError: it goes beyond the bounds (`size`); nothing of it is taken.
        """
        if any(slot.slot >= MAX_SLOTS or len(slot.tenant.encode()) > _MAX_NAME for slot in facts.slots):
            raise HeartbeatRefusedError("size")
        if len(facts.stack) > stacks.SIZE:
            raise HeartbeatRefusedError("size")
        if self._came is None or (facts.running != self._running and abs(now - sent - self._shift) > _DRIFT_NS):
            self._shift = (now - sent) & ~layout.SLOT_BITS
        for slot in facts.slots:
            if slot.tenant:
                self._given(slot.slot, slot.tenant)
            self._totals[slot.slot] = (
                slot.loop_ns, slot.slices, slot.longest_ns, slot.suffered_ns, slot.caused_ns, slot.waits,
            )  # fmt: skip
        self._facts = facts
        self._running = facts.running
        self._sent, self._came = sent, now
        self._publish()

    def _given(self, slot: int, tenant: str) -> None:
        """A name came: the first of this slot, or of the next tenant who has it.

        When the heartbeat before was sent, no slice of that one ran, or it would have told of it.
        """
        before = self._owners.get(slot)
        if before is None:
            self._owners[slot] = _Owner(0, 0, tenant)
        elif before.tenant != tenant:
            self._owners[slot] = _Owner(before.number + 1, self._sent + self._shift & layout.START_BITS, tenant)

    def _holder(self, slot: int) -> int:
        owner = self._owners.get(slot)
        return layout.holder(slot, 0 if owner is None else owner.number)

    def go_on_from(self, before: ToldCell) -> None:
        """The same loop, told of on another stream until now: a slice that runs on is to look the same."""
        if self._running == before._running:
            self._shift = before._shift
            self._publish()

    def _publish(self) -> None:
        facts = self._facts
        words = [0] * layout.HEADER_WORDS
        words[layout.RUNNING] = self._moved(facts.running & layout.START_BITS, facts.running & layout.SLOT_BITS)
        words[layout.BEAT] = self._moved(facts.beat)
        words[layout.HEARTBEAT] = self._moved(facts.heartbeat)
        words[layout.LATENESS] = facts.lateness
        words[layout.IDENT] = facts.ident
        if facts.stack:
            frames = stacks.frames(facts.stack, facts.ident)
            self._stack = Found(shown_stack(frames), self._sent + self._shift)
        self._told = tuple(words), self._sent + self._shift

    def _moved(self, moment: int, slot: int = 0) -> int:
        return max(0, min(_WORD, moment + self._shift)) | slot if moment else 0

    def header(self) -> tuple[int, ...]:
        """The words that were told: the running slice and the timer; the others are 0."""
        return self._told[0]

    def as_of(self, now: int) -> int:  # noqa: ARG002  # what was told does not grow with time
        """When the last heartbeat was sent."""
        return self._told[1]

    def heard(self) -> int:
        """When the last heartbeat came."""
        return self._came or 0

    def stack(self, since: int) -> Found:
        """As it came with the slice."""
        return self._stack if self._stack.at > since else Found(why_not=_NO_STACK)

    def long_slices(self, first: int, count: int) -> list[LongSlice]:  # noqa: ARG002
        """They are not told."""
        return []

    def abandoned(self) -> bool:
        """Nobody can know."""
        return False

    def suffered(self) -> dict[int, int]:
        """What the holder of each slot has suffered so far, in nanoseconds."""
        return {self._holder(slot): totals[3] for slot, totals in self._totals.copy().items()}

    def totals(self) -> list[Totals]:
        """The totals of every tenant that had the loop or waited for it."""
        return [
            Totals(self.name(self._holder(slot)), *totals)
            for slot, totals in sorted(self._totals.copy().items())
            if any(totals)
        ]

    def name(self, holder: int) -> str:
        """The tenant who has a slot; `unknown` for a slot without a name, `other` for who had it before."""
        slot = holder & layout.SLOT_BITS
        owner = self._owners.get(slot)
        if owner is None:
            return UNKNOWN
        return self._shown(owner.tenant) if layout.holder(slot, owner.number) == holder else OTHER

    def whose(self, running: int) -> str:
        """The tenant of a slice, by the word `RUNNING` as it was while it ran."""
        slot = running & layout.SLOT_BITS
        owner = self._owners.get(slot)
        if owner is not None and running & layout.START_BITS < owner.since:
            return OTHER
        return self.name(self._holder(slot))

    def close(self) -> None:
        """There is nothing to give up."""
