"""Walks one request: the groups of records in it, and the records, each along its plan (`walk.py`).

It fails closed, at the smallest place that can be taken out: a part, a record, the request. Whatever goes wrong
inside a record costs that record. Where it matters whose a record is, that is found out first: by whose rules it
is judged, and whether it is taken at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from sidecar.senders.debtors import Debtors

from .bounds import MAX_SCANNED, TooMuch, allowance
from .plan import TenantPlans
from .questions import inside, whose
from .steps import INTO, RECORD, Plan
from .texts import Refused
from .walk import GONE, Gone, Handler, Outcome, Walk
from .wire_format import Broken

#: Why the records of a tenant in debt do not leave.
IN_DEBT: Final = "quota"
#: Whose records are that name nobody.
UNKNOWN: Final = b"unknown"


class Pass(Walk):
    """One pass over one request.

    Args:
        data: the request.
        report: is told of an exception that nobody expected.
        tenants: the ids that the sender may name; None when it may name all. What names another is
            refused: a record whole, the resource of many records without them.
        debtors: the tenants whose records are not taken now; None when it does not matter whose they are.

    What it saw and did is its `Tally`.
    """

    __slots__ = ("_debtors",)

    def __init__(
        self,
        data: bytes,
        report: Callable[[Exception], None],
        tenants: frozenset[str] | None = None,
        debtors: Debtors | None = None,
    ) -> None:
        super().__init__(data, report, tenants)
        self._debtors = debtors

    def run(self, plan: Plan) -> bytes:
        """What may leave of the request. Raises `Broken` or `TooMuch`."""
        with allowance(MAX_SCANNED):
            pieces = self._walk(plan, 0, len(self._data))
        return self._data if pieces is None else b"".join(pieces)

    def _record(self, plans: TenantPlans, start: int, stop: int) -> Outcome:
        self._count_records(1)
        if not self._asks(plans):
            return self._walked(plans.everybody.plan, start, stop)
        try:
            tenant = whose(self._data, plans.attributes, start, stop)
        except Refused as refused:
            return self._lost(refused.reason)
        account = self._account(tenant)
        if self._is_in_debt(account):
            self.refused[account] += 1
            return self._lost(IN_DEBT)
        self._tenant = tenant
        outcome = self._walked(plans.of(tenant).plan, start, stop)
        self._tenant = b""
        if account and outcome is not GONE:
            self._charge(account, 1, stop - start)
        return outcome

    def _walked(self, plan: Plan, start: int, stop: int) -> Outcome:
        """The new content of a record under a plan."""
        try:
            pieces = self._walk(plan, start, stop)
        except Refused as refused:
            return self._lost(refused.reason)
        except Broken:
            return self._lost("wire")
        except TooMuch:
            raise
        except Exception as error:  # noqa: BLE001  # what cannot be redacted does not leave
            self._report(error)
            return self._lost("error")
        self.records_out += 1
        return None if pieces is None else b"".join(pieces)

    def _lost(self, reason: str) -> Gone:
        """A record does not leave."""
        self.dropped[reason] += 1
        return GONE

    def _asks(self, plans: TenantPlans) -> bool:
        """Whether it matters whose a record is."""
        return plans.asks or self._debtors is not None

    def _account(self, tenant: bytes) -> bytes:
        """Whose account a record is charged to; empty: nobody's. What a tenant that the sender does not speak for is
        said to have sent is refused as such, by the walk."""
        if self._debtors is None or (
            self._tenants is not None and tenant.decode("utf-8", "replace") not in self._tenants
        ):
            return b""
        return tenant or UNKNOWN

    def _is_in_debt(self, account: bytes) -> bool:
        return bool(account) and self._debtors is not None and self._debtors(account)

    def _into(self, plan: Plan, start: int, stop: int) -> Outcome:
        self._count_groups(1)
        records_in, records_out = self.records_in, self.records_out
        try:
            return self._walk(plan, start, stop)
        except Refused as refused:
            # Of its records, those that were walked by now are counted already, and some of them dropped.
            walked, kept = self.records_in - records_in, self.records_out - records_out
            self.records_in, self.records_out = self.records_in - walked, self.records_out - kept
            self._lose(refused.reason, plan, start, stop, walked - kept)
            return self._drop(refused.reason)

    def _lose(self, reason: str, plan: Plan, start: int, stop: int, counted: int = 0) -> None:
        """Count the records of a message that goes as a whole, except `counted` ones: dropped before."""
        records, groups = inside(self._data, plan, start, stop)
        self._count_groups(groups)
        self.records_in += records
        if records > counted:
            self.dropped[reason] += records - counted

    HANDLERS: ClassVar[Mapping[int, Handler]] = {**Walk.HANDLERS, RECORD: _record, INTO: _into}
