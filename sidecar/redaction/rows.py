"""Walks a request as `engine.py` does, but for records in a row: those are judged by the hundred (`bulk.py`).

Where it matters whose a record is, they are sorted into lots first: those of one tier, or of one tenant where its own
key goes into what leaves; and those of tenants in debt, of which nothing is judged.

Each outcome is the one that the walk would have, in bytes and in counts; a record for which that is not sure is walked.
A fault in here costs time and nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import compress, repeat
from re import Match
from typing import ClassVar, Final, NamedTuple

from .bounds import Spent
from .bulk import Judged, Verdicts
from .cutting import Frame, cut, framed, is_cut
from .engine import IN_DEBT, Pass
from .forms import Form, Part
from .gates import AttributeGate, TextGate
from .kinds import Row
from .owners import claims, proven, tenant_in
from .plan import TenantPlans
from .questions import is_harmless
from .steps import Action, Plan
from .texts import Refused
from .walk import Outcome, Walk
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


class _Refused:
    """In the place of what becomes of a record: its tenant is in debt."""


_REFUSED: Final = _Refused()
# What is to be done about a record, its head, its fields, and what becomes of those. None: it must be walked.
_Fate = tuple[Row, Match[bytes], list[bytes], Verdicts] | _Refused | None


class RowsPass(Pass):
    """A `Pass` that takes records together. It is the `Judge` of what cannot be judged with others.

    Attributes:
        LEAST: records of a lot for which it pays to be one: to begin with, a lot costs as much as to walk some.
        LEAST_ASKED: the same where the walk has to find out whose each is.
    """

    __slots__ = ()
    LEAST: ClassVar[int] = 32
    LEAST_ASKED: ClassVar[int] = 12

    def run(self, plan: Plan) -> bytes:
        """As `Pass.run`."""
        self._in_rows = True
        return super().run(plan)

    def _row(self, plans: TenantPlans, pos: int, end: int, tag: int) -> tuple[int, bytes | None]:
        """What is to be written for the records in a row from `pos` on, and where they stop; None when all stay."""
        try:
            frames = framed(self._data, pos, end, tag)
            least = self.LEAST_ASKED if self._asks(plans) else self.LEAST
            lots, accounts = self._lots(plans, frames) if len(frames) >= least else ((), repeat(b""))
            fates, verdicts = self._fates([lot for lot in lots if lot.in_debt or len(lot.numbers) >= least], frames)
        except Exception as error:  # noqa: BLE001  # then the long way, which fails for one value at a time
            self._report(error)
            self._in_rows = False
            return pos, None
        # What comes in another form costs more to cut than to walk.
        settled = sum(map(self._count_all, verdicts))
        self._in_rows = 2 * settled >= sum(len(some.words) for some in verdicts)
        data = self._data
        charged: defaultdict[bytes, list[int]] = defaultdict(list)
        pieces: list[bytes] = []
        kept = pos
        outcome: Outcome
        for (begin, start, stop), fate, account in zip(frames, fates, accounts, strict=False):
            pos = stop
            if fate is None:
                outcome = self._record(plans, start, stop)
            elif isinstance(fate, _Refused):
                self._count_records(1)
                self.refused[account] += 1
                outcome = self._lost(IN_DEBT)
            else:
                if account:
                    charged[account].append(stop - start)
                outcome = self._written(fate, start, stop)
            if outcome is None:
                continue
            pieces.append(data[kept:begin])
            if isinstance(outcome, bytes):
                pieces += (data[begin : begin + 1], varint(len(outcome)), outcome)
            kept = stop
        for account, sizes in charged.items():
            self._charge(account, len(sizes), sum(sizes))
        if not pieces:
            return pos, None
        pieces.append(data[kept:pos])
        return pos, b"".join(pieces)

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

    def _fates(self, lots: Iterable[_Lot], frames: list[Frame]) -> tuple[list[_Fate], list[Verdicts]]:
        """What becomes of each record, and all that was found out for it."""
        fates: list[_Fate] = [None] * len(frames)
        found: list[Verdicts] = []
        for lot in lots:
            records = cut(lot.form, self._data, map(frames.__getitem__, lot.numbers))
            if lot.claims:
                records = proven(records, lot.claims)
            if lot.in_debt:
                for number, fields in zip(lot.numbers, records.fields, strict=True):
                    fates[number] = _REFUSED if is_cut(fields) else None
                continue
            self._tenant = lot.tenant
            try:
                verdicts = Verdicts(lot.form, self, records)
            finally:
                self._tenant = b""
            found.append(verdicts)
            rows = map(verdicts.rows.__getitem__, verdicts.words)
            for number, row, head, fields in zip(lot.numbers, rows, records.heads, records.fields, strict=True):
                fates[number] = None if row is None else (row, head, fields, verdicts)
        return fates, found

    def _count_all(self, verdicts: Verdicts) -> int:
        """Count records, by their words, and what was done to their fields; how many need not be walked."""
        before = self.records_out
        for word, times in Counter(verdicts.words).items():
            row = verdicts.rows[word]
            if row is not None:
                self._count_records(times)
                self._count_parts(times * row.parts)
                self.records_out += times
                for done, often in row.actions:
                    self._count(done, times * often)
        return self.records_out - before

    def _written(self, fate: tuple[Row, Match[bytes], list[bytes], Verdicts], start: int, stop: int) -> bytes | None:
        """A record's new content; None when it stays."""
        row, head, fields, verdicts = fate
        beginning = self._head(head, verdicts) if verdicts.texts else None
        if row.actions:
            some = [self._data[start : head.end()] if beginning is None else beginning]
            some += compress(fields, row.leaves)
            for at in row.rewritten:
                some[at + 1] = verdicts.changed[some[at + 1]]
            return b"".join(some)
        return None if beginning is None else beginning + self._data[head.end() : stop]

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
