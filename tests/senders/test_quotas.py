"""Quotas of telemetry: what a client or a tenant may send, on a clock that is moved by hand."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from sidecar.senders.clients import ANYBODY, Client
from sidecar.senders.debtors import Debtors
from sidecar.senders.quotas import MAX_WAIT_SECONDS, Account, Quotas
from sidecar.wire.limits import Limits, LimitsError, Quota, parse

TABLE = """
default = "standard"
[tiers.standard]
records = 10
burst = 2
[tiers.gold]
records = 1000
[tiers.free]
[tenants]
acme = "gold"
boss = "free"
"""


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def quotas(table: str = TABLE, most: int = 10_000) -> tuple[Quotas, Clock]:
    limits, clock = parse(table.encode()), Clock()
    return Quotas(lambda: limits, str.upper, clock, most), clock


def took(accounts: Quotas, records: int, *tenants: bytes, size: int = 0) -> None:
    accounts.settle(dict.fromkeys(tenants, (records, size)), {})


def test_a_quota_is_stated_with_the_tier() -> None:
    """Records, bytes, seconds of burst; a tier without the first two has none."""
    table = parse(TABLE.encode())
    assert table.of("globex").quota == Quota(records=10, bytes=None, burst=2)
    assert table.of("acme").quota == Quota(records=1000, bytes=None, burst=10.0)
    assert table.of("boss").quota is None


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("records = 0", "tiers.a.records: must be a number a second"),
        ("records = '500'", "tiers.a.records: must be a number a second"),
        ("bytes = -1", "tiers.a.bytes: must be a number a second"),
        ("bytes = inf", "tiers.a.bytes: must be a number a second"),
        ("records = true", "tiers.a.records: must be a number a second"),
        ("records = 1\nburst = 0", "tiers.a.burst: must be a number of seconds"),
        ("burst = 5", "tiers.a.burst: does nothing without `records` or `bytes`"),
        ("recrods = 5", "tiers.a.recrods: unknown; did you mean records?"),
    ],
)
def test_a_wrong_quota_is_told_by_its_key(line: str, mistake: str) -> None:
    """As every other limit."""
    with pytest.raises(LimitsError) as refused:
        parse(f"[tiers.a]\n{line}".encode())
    assert [told for told in refused.value.mistakes if told.startswith(mistake)]


def test_a_tenant_in_debt_is_refused_until_it_has_paid() -> None:
    """A burst may come at once; after that it waits for as long as it has sent too much."""
    accounts, clock = quotas()
    took(accounts, 19, b"globex", b"initech")
    assert not accounts.debtors()(b"globex")
    took(accounts, 31, b"globex")
    assert accounts.debtors()(b"globex")
    assert not accounts.debtors()(b"initech")
    clock.now += 2.9
    assert accounts.debtors()(b"globex")
    clock.now += 0.2
    assert not accounts.debtors()(b"globex")


def test_bytes_count_as_records_do() -> None:
    """Whichever is used up first."""
    accounts, clock = quotas("default = 'a'\n[tiers.a]\nrecords = 100\nbytes = 1000\nburst = 1")
    took(accounts, 1, b"globex", size=1500)
    assert accounts.debtors()(b"globex")
    clock.now += 0.6
    assert not accounts.debtors()(b"globex")


def test_who_has_no_quota_has_no_account() -> None:
    """Nothing is remembered of it, and nothing refused."""
    accounts, _ = quotas()
    took(accounts, 10**9, b"boss")
    assert not accounts.debtors()(b"boss")
    assert not accounts._tenants


@pytest.mark.parametrize("table", ["", "[tiers.a]\nturn = 1\n[tenants]\nacme = 'a'"])
def test_without_quotas_nobody_asks_whose_a_record_is(table: str) -> None:
    """It would cost a look at each."""
    assert quotas(table)[0].debtors() is None
    assert Quotas().debtors() is None


def test_another_table_is_a_new_beginning() -> None:
    """Who was in debt under the old one is not under the new."""
    tables: list[Limits] = [parse(TABLE.encode())]
    accounts = Quotas(lambda: tables[-1], clock=Clock())
    took(accounts, 1000, b"globex")
    assert accounts.debtors()(b"globex")
    tables.append(parse(TABLE.replace("= 10\n", "= 20\n").encode()))
    assert not accounts.debtors()(b"globex")


def test_a_million_tenants_take_the_room_of_some() -> None:
    """Those beyond the bound share one account; whom the file names has its own nevertheless."""
    accounts, _ = quotas(most=100)
    for number in range(5_000):
        took(accounts, 1, f"made-up-{number}".encode())
    assert len(accounts._tenants) == 100
    refuses = accounts.debtors()
    assert refuses(b"made-up-4999")
    assert refuses(b"a newcomer")
    assert not refuses(b"made-up-0")
    assert not refuses(b"acme")
    assert not refuses(b"boss")
    assert not refuses(b"unknown")
    took(accounts, 1, b"acme")
    assert b"acme" in accounts._tenants


_TENANTS = [b"acme", b"globex", b"initech", b"umbrella", b"unknown"]


@given(
    st.lists(
        st.tuples(st.integers(-16, 128), st.sampled_from(_TENANTS), st.integers(0, 60)),
        max_size=60,
    ),
    st.sampled_from([2, 10_000]),
)
def test_debtors_are_those_whose_accounts_say_so(steps: list[tuple[int, bytes, int]], most: int) -> None:
    """However many there are, and although each verdict begins with the last one: at every moment, every account."""
    accounts, clock = quotas(most=most)
    for pause, tenant, records in steps:
        clock.now += pause / 16  # a debtor that has just paid may wait for a millisecond more
        took(accounts, records, tenant)
        verdict = accounts.debtors()
        shared = accounts._shared
        together = accounts._crowded and shared is not None and shared.wait(clock.now) > 0
        for each in _TENANTS:
            account = accounts._tenants.get(each)
            own = each in accounts._tenants or each in (b"acme", b"unknown")
            owes = account.wait(clock.now) > 0 if account is not None else together and not own
            assert verdict(each) == owes


def test_a_verdict_is_made_anew_only_when_it_differs() -> None:
    """With ten thousand tenants in debt, a request would cost more for asking than for all the rest."""
    accounts, clock = quotas()
    took(accounts, 1_000, *(f"t-{number}".encode() for number in range(1_000)))
    verdict = accounts.debtors()
    clock.now += 1
    took(accounts, 5, b"acme")
    took(accounts, 5, b"t-7")
    assert accounts.debtors() is verdict
    took(accounts, 1_000, b"globex")
    assert accounts.debtors() is not verdict
    clock.now += 1_000
    assert accounts.debtors() == Debtors(frozenset())


def test_accounts_that_are_full_again_make_room() -> None:
    """Who has not sent for a while is forgotten without a loss, also behind one that is in debt."""
    accounts, clock = quotas(most=3)
    took(accounts, 10_000, b"debtor")
    took(accounts, 1, b"a", b"b")
    clock.now += 5
    took(accounts, 25, b"newcomer")
    assert b"newcomer" in accounts._tenants
    assert accounts.debtors()(b"debtor")
    assert accounts.debtors()(b"newcomer")


def test_ids_that_are_no_ids_share_an_account() -> None:
    """Neither length nor bad UTF-8 costs memory."""
    accounts, _ = quotas()
    took(accounts, 5, b"x" * 100_000, b"\xff" * 70_000)
    took(accounts, 5, b"\xff\xfe")
    assert all(len(tenant) <= 255 for tenant in accounts._tenants)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 200)), max_size=80))
def test_over_any_time_no_more_is_taken_than_the_quota_has_it(steps: list[tuple[float, int]]) -> None:
    """At most the rate times the time, one burst, and the last request."""
    account, now, taken, last = Account(Quota(records=10, bytes=None, burst=3), 0.0), 0.0, 0, 0
    for pause, records in steps:
        now += pause
        if not account.wait(now):
            account.pay(now, records, 0)
            taken, last = taken + records, records
    assert taken <= 10 * now + 30 + last + 1e-6


@given(st.lists(st.floats(-3, 5), max_size=50))
def test_a_clock_that_stands_or_goes_back_gives_nothing_away(steps: list[float]) -> None:
    """An account is never more than full."""
    account, now = Account(Quota(records=10, bytes=5, burst=3), 0.0), 0.0
    for step in steps:
        now += step
        account.pay(now, 1, 1)
        assert account._records <= 30
        assert account._bytes <= 15


def test_a_client_waits_as_long_as_exporters_have_patience() -> None:
    """However deep in debt it is: a longer time would make them drop."""
    accounts, clock = quotas()
    client = Client("billing", None, Quota(records=10, bytes=None, burst=1))
    assert accounts.wait(client) == 0
    accounts.pay(client, 1000, 10**6)
    assert accounts.wait(client) == MAX_WAIT_SECONDS
    clock.now += 98.9
    assert 0 < accounts.wait(client) < MAX_WAIT_SECONDS
    clock.now += 1
    assert accounts.wait(client) == 0
    assert accounts.wait(Client("other")) == accounts.wait(ANYBODY) == 0


def test_a_clients_new_quota_counts_from_now() -> None:
    """The file was changed: the account begins anew."""
    accounts, _ = quotas()
    accounts.pay(Client("billing", None, Quota(10, None)), 10_000, 0)
    assert accounts.wait(Client("billing", None, Quota(10, None)))
    assert not accounts.wait(Client("billing", None, Quota(20, None)))


def test_the_status_names_who_was_refused() -> None:
    """As the policy shows them; who never was is not there."""
    accounts, _ = quotas()
    took(accounts, 1000, b"globex", b"initech")
    accounts.settle({}, {b"globex": 7})
    client = Client("billing", None, Quota(10, None))
    accounts.pay(client, 1000, 0)
    accounts.wait(client)
    assert accounts.status() == {
        "clients": [{"client": "billing", "refused_requests": 1, "over": True}],
        "tenants": [{"tenant": "GLOBEX", "refused_records": 7, "over": True}],
    }


def test_two_tenants_that_are_shown_as_one_are_one_series() -> None:
    """A scrape with a series twice would be refused as a whole."""
    limits = parse(TABLE.encode())
    accounts = Quotas(lambda: limits, lambda _: "redacted", Clock())
    took(accounts, 1000, b"globex", b"initech")
    accounts.settle({}, {b"globex": 7, b"initech": 3})
    registry = CollectorRegistry()
    registry.register(accounts)
    assert registry.get_sample_value("tenantscope_quota_refused_total", {"tenant_id": "redacted"}) == 10


def test_a_verdict_can_go_to_another_process() -> None:
    """It is a value, whatever becomes of the accounts."""
    for debtors in (Debtors(frozenset({b"a"})), Debtors(frozenset(), frozenset({b"a"}))):
        assert pickle.loads(pickle.dumps(debtors)) == debtors
