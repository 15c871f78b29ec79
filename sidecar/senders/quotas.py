"""Quotas: how much telemetry a client may send, and how much of it may be of one tenant.

An account is a bucket that fills at the rate of its quota, up to what may come at once. What is taken is paid for
afterwards, since nobody knows before what a request holds; so an account can be in debt, and whoever is in debt is
refused until it is paid back. Over any time, what is taken is the rate times that time, and at most one burst and the
requests of one moment more.

A client in debt is put off with all of its request, before anything of it is read. A tenant in debt loses its records,
those of others in the same request pass.

What it refuses: to remember more than `MAX_TENANTS` tenants. An account that is full again says nothing that a new one
would not, and is forgotten; when all of them are in use, newcomers share the account of `other`.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from sidecar import conventions
from sidecar.wire.limits import MAX_TENANT, Limits, Quota

from .clients import Client
from .debtors import Debtors

MAX_TENANTS: Final = 10_000
MAX_SHOWN: Final = 100
#: Exporters drop at once what they are to wait for longer.
MAX_WAIT_SECONDS: Final = 2.0
OTHER: Final = b"other"
UNKNOWN: Final = b"unknown"
_LOOK_AGAIN_SECONDS: Final = 0.001  # at an account that owes nothing and has nothing
_LOOKS: Final = 8  # at accounts that may be forgotten, for each newcomer


class Account:
    """What one client or tenant may still send.

    Attributes:
        refused: records, or requests of a client, that were refused because of it.
    """

    __slots__ = ("_at", "_bytes", "_records", "quota", "refused")

    def __init__(self, quota: Quota, now: float) -> None:
        self.quota = quota
        self.refused = 0
        self._at = now
        self._records = (quota.records or 0.0) * quota.burst
        self._bytes = (quota.bytes or 0.0) * quota.burst

    def wait(self, now: float) -> float:
        """Seconds until it is out of debt; 0 when it is."""
        self._fill(now)
        waits = [0.0]
        if self.quota.records is not None and self._records <= 0:
            waits.append((1 - self._records) / self.quota.records)
        if self.quota.bytes is not None and self._bytes <= 0:
            waits.append((1 - self._bytes) / self.quota.bytes)
        return max(waits)

    def debt(self, now: float) -> float:
        """Seconds until what it owes is paid; 0 when it owes nothing."""
        self._fill(now)
        debts = [0.0]
        if self.quota.records is not None:
            debts.append(-self._records / self.quota.records)
        if self.quota.bytes is not None:
            debts.append(-self._bytes / self.quota.bytes)
        return max(debts)

    def pay(self, now: float, records: int, size: int) -> None:
        """So much was taken."""
        self._fill(now)
        self._records -= records
        self._bytes -= size

    def is_full(self, now: float) -> bool:
        """Whether it has all that one may have: nothing is lost when it is forgotten."""
        self._fill(now)
        quota = self.quota
        return (quota.records is None or self._records >= quota.records * quota.burst) and (
            quota.bytes is None or self._bytes >= quota.bytes * quota.burst
        )

    def _fill(self, now: float) -> None:
        passed, self._at = max(0.0, now - self._at), max(now, self._at)
        quota = self.quota
        if quota.records is not None:
            self._records = min(self._records + passed * quota.records, quota.records * quota.burst)
        if quota.bytes is not None:
            self._bytes = min(self._bytes + passed * quota.bytes, quota.bytes * quota.burst)


class Quotas(Collector):
    """The accounts of clients and tenants. Thread-safe; a collector of `prometheus_client`.

    Args:
        limits: the table of limits in force, which has the tenants' quotas; asked anew each time.
        shown: how a tenant's id is shown to people.
        clock: seconds, monotonic.
        most: tenants that have accounts of their own.
    """

    def __init__(
        self,
        limits: Callable[[], Limits | None] = lambda: None,
        shown: Callable[[str], str] = str,
        clock: Callable[[], float] = time.monotonic,
        most: int = MAX_TENANTS,
    ) -> None:
        self._limits = limits
        self._shown = shown
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._table: Limits | None = None
        self._clients: dict[str, Account] = {}
        self._tenants: OrderedDict[bytes, Account] = OrderedDict()  # who paid last stands last
        self._debtors: dict[bytes, float] = {}  # in debt until then, or longer
        self._ends: list[tuple[float, bytes]] = []  # the same as a heap, and what was before
        self._said: Debtors | None = None  # what was last said, as long as it holds
        self._crowded = False  # newcomers share the account of `other`
        self._shared: Account | None = None

    # Clients ------------------------------------------------------------------------------------------------
    def wait(self, client: Client) -> float:
        """Seconds that a client has to wait before it may send again; 0: it may now. A wait counts as a refusal."""
        if client.quota is None:
            return 0.0
        with self._lock:
            account = self._client(client, client.quota)
            wait = account.wait(self._clock())
            account.refused += wait > 0
            return min(wait, MAX_WAIT_SECONDS)

    def pay(self, client: Client, records: int, size: int) -> None:
        """A client has sent so much."""
        if client.quota is not None:
            with self._lock:
                self._client(client, client.quota).pay(self._clock(), records, size)

    def _client(self, client: Client, quota: Quota) -> Account:
        account = self._clients.get(client.name)
        if account is None or account.quota != quota:  # as many as the file has
            account = self._clients[client.name] = Account(quota, self._clock())
        return account

    # Tenants ------------------------------------------------------------------------------------------------
    def debtors(self) -> Debtors | None:
        """Whose records are to be refused now; None when no tenant has a quota."""
        limits = self._limits()
        if limits is None or not limits.has_quotas:
            return None
        with self._lock:
            now = self._clock()
            self._renew(limits)
            self._forgive(now)
            together = self._crowded and self._shared is not None and self._shared.wait(now) > 0
            if self._said is None or together != (self._said.known is not None):
                known = {UNKNOWN, *(name.encode() for name in limits.tenants), *self._tenants} if together else None
                self._said = Debtors(frozenset(self._debtors), None if known is None else frozenset(known))
            return self._said

    def _forgive(self, now: float) -> None:
        """Whoever has paid is no debtor any more. Whose time has not come is not looked at: there may be many."""
        while self._ends and self._ends[0][0] <= now:
            until, tenant = heapq.heappop(self._ends)
            if self._debtors.get(tenant) != until:
                continue
            del self._debtors[tenant]
            if self._tenants[tenant].wait(now):  # it has had more since
                self._owes(tenant, now + max(_LOOK_AGAIN_SECONDS, self._tenants[tenant].debt(now)))
            else:
                self._said = None

    def _owes(self, tenant: bytes, until: float) -> None:
        self._debtors[tenant] = until
        heapq.heappush(self._ends, (until, tenant))

    def settle(self, taken: Mapping[bytes, tuple[int, int]], refused: Mapping[bytes, int]) -> None:
        """Put on the tenants' accounts what was taken of them (records and bytes), and what was refused (records)."""
        limits = self._limits()
        if limits is None:
            return
        with self._lock:
            now = self._clock()
            self._renew(limits)
            for tenant, (records, size) in taken.items():
                self._pay(limits, tenant, records, size, now)
            for tenant, records in refused.items():
                account = self._tenants.get(tenant, self._shared)
                if account is not None:
                    account.refused += records

    def _pay(self, limits: Limits, tenant: bytes, records: int, size: int, now: float) -> None:
        account = self._tenants.get(tenant)
        if account is None:
            account = self._opened(limits, tenant, now)
            if account is None:
                return
        else:
            self._tenants.move_to_end(tenant)
        account.pay(now, records, size)
        if account is not self._shared and tenant not in self._debtors and account.wait(now):
            self._owes(tenant, now + account.debt(now))
            self._said = None

    def _opened(self, limits: Limits, tenant: bytes, now: float) -> Account | None:
        """An account for a newcomer; None when its records are not limited."""
        name = tenant.decode("utf-8", "replace")
        tier = limits.of(name)
        if tier is None or tier.quota is None:
            return None
        own = name in limits.tenants or tenant == UNKNOWN  # few, so they are never without an account
        if not own and (len(tenant) > MAX_TENANT or not self._has_room(now)):
            if self._shared is None:
                self._shared = Account(tier.quota, now)
            return self._shared
        account = self._tenants[tenant] = Account(tier.quota, now)
        self._changed_accounts()
        return account

    def _changed_accounts(self) -> None:
        if self._said is not None and self._said.known is not None:
            self._said = None

    def _has_room(self, now: float) -> bool:
        for _ in range(_LOOKS):
            if len(self._tenants) < self._most:
                break
            oldest, account = next(iter(self._tenants.items()))
            if account.is_full(now):
                del self._tenants[oldest]
                self._changed_accounts()
                if self._debtors.pop(oldest, None) is not None:
                    self._said = None
            else:  # it is in the way of those behind it
                self._tenants.move_to_end(oldest)
        self._crowded = len(self._tenants) >= self._most
        return not self._crowded

    def _renew(self, limits: Limits) -> None:
        if limits is not self._table:  # another table: everybody begins anew
            self._table = limits
            self._tenants.clear()
            self._debtors.clear()
            self._ends.clear()
            self._said = None
            self._crowded, self._shared = False, None

    # What an operator asks ----------------------------------------------------------------------------------
    def status(self) -> dict[str, list[dict[str, Any]]]:
        """For `/status`: who was refused, those with the most refusals first, at most 100 of each."""
        with self._lock:
            now = self._clock()
            clients = [(name, account.refused, account.wait(now) > 0) for name, account in _worst(self._clients)]
        return {
            "clients": [{"client": name, "refused_requests": count, "over": over} for name, count, over in clients],
            "tenants": [
                {"tenant": tenant, "refused_records": count, "over": over} for tenant, count, over in self._refused()
            ],
        }

    def collect(self) -> Iterator[Family]:
        """For `/metrics`."""
        family = conventions.QUOTA_REFUSED.family()
        refused: Counter[str] = Counter()
        for tenant, count, _ in self._refused():  # two ids may be shown as one
            refused[tenant] += count
        for tenant, count in refused.items():
            family.add_metric((tenant,), count)
        yield family

    def _refused(self) -> list[tuple[str, int, bool]]:
        with self._lock:
            now = self._clock()
            shared = {} if self._shared is None else {OTHER: self._shared}
            found = [
                (tenant, account.refused, account.wait(now) > 0)
                for tenant, account in _worst({**self._tenants, **shared})
            ]
        return [(self._shown(tenant.decode("utf-8", "replace")), count, over) for tenant, count, over in found]


def _worst(accounts: Mapping[Any, Account]) -> list[tuple[Any, Account]]:
    refused = [(name, account) for name, account in accounts.items() if account.refused]
    return sorted(refused, key=lambda each: -each[1].refused)[:MAX_SHOWN]
