"""Walks a request as `engine.py` does, but for records in a row: those are judged by the hundred (`bulk.py`).

Where it matters whose a record is, they are sorted into lots first: those of one tier, or of one tenant where its own
key goes into what leaves; and those of tenants in debt, of which nothing is judged.

Each outcome is the one that the walk would have, in bytes and in counts; a record for which that is not sure is walked.
A fault in here costs time and nothing else.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import repeat
from re import Match
from typing import ClassVar, Final, NamedTuple

from .bounds import Spent
from .bulk import Verdicts
from .columns import Judged
from .cutting import Cut, Frame, cut, framed, is_cut
from .engine import IN_DEBT, Pass
from .forms import Form, Part
from .gates import AttributeGate, TextGate
from .owners import claims, proven, tenant_in
from .plan import TenantPlans
from .questions import is_harmless
from .steps import Action, Plan
from .texts import Refused
from .walk import Outcome, Pieces, Walk
from .wire_format import varint


class _Lot(NamedTuple):
    """Records that are judged together.

    Attributes:
        form: what they look like.
        tenant: whose they are, where that goes into what leaves.
        in_debt: they are not to leave.
        numbers: their places among all.
        claims: of each, the field that is said to name its tenant; none where nobody asks.
    """

    form: Form
    tenant: bytes
    in_debt: bool
    numbers: list[int]
    claims: list[bytes]


class _Found(NamedTuple):
    """What was found out about the records of a lot; no verdicts where they are not to leave."""

    lot: _Lot
    records: Cut
    verdicts: Verdicts | None


class _Refused:
    """In the place of what becomes of a record: its tenant is in debt."""


class _Stays:
    """In the place of a record's new content: it leaves as it stands."""


_REFUSED: Final = _Refused()
_STAYS: Final = _Stays()
# What becomes of a record. None: it must be walked.
_Fate = bytes | _Stays | _Refused | None


@functools.lru_cache(maxsize=4096)
def _header(tag: int, size: int) -> bytes:
    """How a field begins whose content has so many bytes."""
    return varint(tag) + varint(size)


class RowsPass(Pass):
    """A `Pass` that takes records together. It is the `Judge` of what cannot be judged with others.

    Attributes:
        LEAST: records of a lot for which it pays to be one: to begin with, a lot costs as much as to walk some.
        LEAST_ASKED: the same where the walk has to find out whose each is.
        LEAST_ALIKE: records of a lot with equally many fields for which it pays to be judged by the column.
    """

    __slots__ = ()
    LEAST: ClassVar[int] = 32
    LEAST_ASKED: ClassVar[int] = 12
    LEAST_ALIKE: ClassVar[int] = 24

    def run(self, plan: Plan) -> bytes:
        """As `Pass.run`."""
        self._in_rows = True
        return super().run(plan)

    def _row(self, plans: TenantPlans, pos: int, end: int, tag: int) -> tuple[int, Pieces | None]:
        """What is to be written for the records in a row from `pos` on, and where they stop; None when all stay."""
        try:
            frames = framed(self._data, pos, end, tag)
            least = self.LEAST_ASKED if self._asks(plans) else self.LEAST
            lots, accounts = self._lots(plans, frames) if len(frames) >= least else ((), repeat(b""))
            found = [self._find(lot, frames) for lot in lots if lot.in_debt or len(lot.numbers) >= least]
        except Exception as error:  # noqa: BLE001  # then the long way, which fails for one value at a time
            self._report(error)
            self._in_rows = False
            return pos, None
        # What comes in another form costs more to cut than to walk.
        seen = [some.verdicts for some in found if some.verdicts is not None]
        self._in_rows = 2 * sum(map(self._count_all, seen)) >= sum(len(verdicts.words) for verdicts in seen)
        fates: list[_Fate] = [None] * len(frames)
        for some in found:
            if len(some.lot.numbers) == len(frames):
                fates = self._fates(some, frames)
                continue
            for number, fate in zip(some.lot.numbers, self._fates(some, frames), strict=True):
                fates[number] = fate
        return self._spliced(plans, pos, tag, zip(frames, fates, accounts, strict=False))

    def _spliced(
        self, plans: TenantPlans, pos: int, tag: int, records: Iterable[tuple[Frame, _Fate, bytes]]
    ) -> tuple[int, Pieces | None]:
        """The same from what becomes of each record, and whom it is charged to."""
        data, began, kept = self._data, pos, pos
        charged: defaultdict[bytes, list[int]] = defaultdict(list)
        pieces: Pieces = []
        outcome: Outcome
        for (begin, start, stop), fate, account in records:
            pos = stop
            if isinstance(fate, bytes):
                outcome = fate
            elif fate is _STAYS:
                outcome = None
            elif fate is None:
                outcome, account = self._record(plans, start, stop), b""
            else:
                self._count_records(1)
                self.refused[account] += 1
                outcome, account = self._lost(IN_DEBT), b""
            if account:
                charged[account].append(stop - start)
            if outcome is None:
                continue
            if kept < begin:
                pieces.append(data[kept:begin])
            if isinstance(outcome, bytes):
                pieces += (_header(tag, len(outcome)), outcome)
            kept = stop
        for account, sizes in charged.items():
            self._charge(account, len(sizes), sum(sizes))
        if kept == began:
            return pos, None
        pieces.append(data[kept:pos])
        return pos, pieces

    def _lots(self, plans: TenantPlans, frames: list[Frame]) -> tuple[Iterable[_Lot], Iterable[bytes]]:
        """Records, by what is to be done about them, except those that must be walked; and whom each is charged to."""
        if not self._asks(plans):
            return [_Lot(plans.everybody.form, b"", False, [*range(len(frames))], [])], repeat(b"")
        claimed = [*claims(self._data, frames)]
        lots: dict[tuple[str | None, bytes, bool], _Lot] = {}
        lot_of: dict[bytes | None, _Lot | None] = {}
        account_of: dict[bytes | None, bytes] = {}
        for claim in {*claimed}:
            tenant = None if claim is None else tenant_in(claim, plans.attributes)
            if tenant is None:
                lot_of[claim], account_of[claim] = None, b""
                continue
            account_of[claim] = account = self._account(tenant)
            plan, in_debt = plans.of(tenant), self._is_in_debt(account)
            key = plans.membership.tier_of(tenant), tenant if plan.keyed else b"", in_debt
            lot_of[claim] = lots.setdefault(key, _Lot(plan.form, key[1], in_debt, [], []))
        for number, claim in enumerate(claimed):
            lot = lot_of[claim]
            if lot is not None and claim is not None:
                lot.numbers.append(number)
                lot.claims.append(claim)
        return lots.values(), map(account_of.__getitem__, claimed)

    def _find(self, lot: _Lot, frames: list[Frame]) -> _Found:
        """What is found out about the records of a lot."""
        records = cut(lot.form, self._data, map(frames.__getitem__, lot.numbers))
        if lot.claims:
            records = proven(records, lot.claims)
        if lot.in_debt:
            return _Found(lot, records, None)
        self._tenant = lot.tenant
        try:
            return _Found(lot, records, Verdicts(lot.form, self, records, self.LEAST_ALIKE))
        finally:
            self._tenant = b""

    def _count_all(self, verdicts: Verdicts) -> int:
        """Count records and what was done to their fields; how many need not be walked."""
        records, parts, actions = verdicts.counts()
        self._count_records(records)
        self._count_parts(parts)
        self.records_out += records
        for done, times in actions.items():
            self._count(done, times)
        return records

    def _fates(self, found: _Found, frames: list[Frame]) -> list[_Fate]:
        """What becomes of each record of a lot."""
        lot, records, verdicts = found
        if verdicts is None:
            return [_REFUSED if is_cut(fields) else None for fields in records.fields]
        fates: list[_Fate] = []
        data, changed, texts = self._data, verdicts.changed, verdicts.texts
        rows = map(verdicts.rows.__getitem__, verdicts.words)
        where = map(frames.__getitem__, lot.numbers)
        for row, (_, start, stop), head, behind, fields in zip(rows, where, *records, strict=True):
            if row is None:
                fates.append(None)
                continue
            beginning = self._head(head, verdicts) if texts else None
            rewritten, gone = row
            if rewritten or gone:
                leaving = [data[start:behind] if beginning is None else beginning, *fields]
                for at in rewritten:
                    leaving[at] = changed[leaving[at]]
                for at in gone:
                    del leaving[at]
                fates.append(b"".join(leaving))
            else:
                fates.append(_STAYS if beginning is None else beginning + data[behind:stop])
        return fates

    def _head(self, head: Match[bytes], verdicts: Verdicts) -> bytes | None:
        """A record's new head; None when it stays."""
        pieces: list[bytes] = []
        kept = head.start()
        for number, text in enumerate(head.groups(), 1):
            if text in verdicts.texts:
                begin, stop = head.span(number)
                to, done = verdicts.texts[text]
                pieces += (self._data[kept:begin], to)
                self._count(done, 1)
                kept = stop
        return b"".join((*pieces, self._data[kept : head.end()])) if pieces else None

    @property
    def asks_for_names(self) -> bool:
        """As `Judge`."""
        return self._tenants is not None

    def judge_value(self, gate: AttributeGate | TextGate, content: bytes) -> tuple[int, Judged] | None:
        """As `Judge`."""
        try:
            bit, outcome, done = self._verdict(gate, content, 0)
        except Refused:
            return None
        return bit, (outcome if isinstance(outcome, bytes) else None, done)

    def judge_id(self, identity: bytes) -> bool:
        """As `Judge`."""
        try:
            return is_harmless(identity)
        except Spent:
            return False

    def judge_part(self, part: Part, content: bytes) -> tuple[bytes | None, Mapping[Action, int]] | None:
        """As `Judge`."""
        inside = Walk(content, self._report, self._tenants, self._tenant)
        try:
            outcome = inside.part(part.plan, 0, len(content))
        except Exception:  # noqa: BLE001  # it is seen again, and dealt with, when the record is walked
            return None
        return outcome if isinstance(outcome, bytes) else None, inside.actions
