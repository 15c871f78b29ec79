"""Whatever alerts do and receivers refuse: what was taken is told, dropped with a reason, or waits; nothing else."""

from __future__ import annotations

from datetime import timedelta

from alert_receiver import BEGAN, firing, resolved, unhurried
from hypothesis import given
from hypothesis import strategies as st

from sidecar.alerts import Alert
from sidecar.alerts.allowance import Allowance
from sidecar.alerts.outbox import MAX_ITEMS, Notice, Outbox

TENANTS = ("acme", "globex", "initech")


def notices(outbox: Outbox) -> list[Notice]:
    return [Notice(item.alert, item.changes, item.is_news) for item in outbox.items() if item.is_news]


def balanced(outbox: Outbox) -> tuple[int, int, int, int]:
    """Taken, told, dropped, waiting; the equation holds."""
    taken, told, dropped, waiting = outbox.counts()
    assert taken == told + sum(dropped.values()) + waiting
    return taken, told, sum(dropped.values()), waiting


@unhurried
@given(st.data())
def test_the_receiver_ends_up_believing_what_is_true(data: st.DataObject) -> None:
    """Two loops a tenant stall and recover in any order; messages go out, are refused, are overtaken."""
    outbox = Outbox()
    open_: dict[str, set[int]] = {tenant: set() for tenant in TENANTS}
    believed: dict[str, str] = {}
    clock = 0

    def change() -> None:
        nonlocal clock
        clock += 1
        tenant = data.draw(st.sampled_from(TENANTS))
        if len(open_[tenant]) < 2 and data.draw(st.booleans()):
            open_[tenant].add(clock)
            outbox.take(firing(tenant, starts_at=BEGAN + timedelta(seconds=clock)))
        elif open_[tenant]:
            start = data.draw(st.sampled_from(sorted(open_[tenant])))
            open_[tenant].remove(start)
            outbox.take(resolved(tenant, starts_at=BEGAN + timedelta(seconds=start)))

    def send() -> None:
        under_way = notices(outbox)
        for _ in range(data.draw(st.integers(0, 3))):
            change()
        dropped = data.draw(st.sampled_from([None, None, "refused"]))
        outbox.settle(under_way, dropped)
        believed.update({notice.alert.labels["tenant_id"]: notice.alert.status for notice in under_way})

    for _ in range(data.draw(st.integers(0, 25))):
        data.draw(st.sampled_from([change, change, send]))()
        balanced(outbox)
    while under_way := notices(outbox):
        outbox.settle(under_way)
        believed.update({notice.alert.labels["tenant_id"]: notice.alert.status for notice in under_way})
        balanced(outbox)
    for tenant in TENANTS:
        assert (believed.get(tenant) == "firing") == bool(open_[tenant])
    assert {item.alert.labels["tenant_id"] for item in outbox.items()} == {t for t in TENANTS if open_[t]}


def test_an_alert_ends_with_the_last_of_its_loops() -> None:
    """Two loops of one process stall for one tenant: one alert, with the evidence of what still lasts."""
    outbox = Outbox()
    later = BEGAN + timedelta(seconds=1)
    outbox.take(firing())
    outbox.take(firing(starts_at=later))
    (item,) = outbox.items()
    assert item.alert.starts_at == BEGAN
    outbox.take(resolved())
    (item,) = outbox.items()
    assert (item.alert.status, item.alert.starts_at) == ("firing", later)
    outbox.take(resolved(starts_at=later))
    (item,) = outbox.items()
    assert (item.alert.status, item.changes) == ("resolved", 4)


def test_a_full_outbox_refuses_with_a_count() -> None:
    """Known alerts go on changing; an end that finds room later tells its beginning, too."""
    outbox = Outbox()
    for number in range(MAX_ITEMS):
        outbox.take(firing(f"t{number}"))
    outbox.take(firing("late"))
    outbox.take(resolved("t0"))
    assert outbox.counts()[2] == {"queue_full": 1}
    assert len(outbox.items()) == MAX_ITEMS
    outbox.settle(notices(outbox))
    outbox.take(resolved("late"))
    (late,) = (item for item in outbox.items() if item.alert.labels["tenant_id"] == "late")
    assert (late.firing.status, late.firing.ends_at, late.alert.status) == ("firing", None, "resolved")
    assert balanced(outbox) == (MAX_ITEMS + 3, MAX_ITEMS + 1, 1, 1)


def test_whoever_waits_for_news_is_told_of_it() -> None:
    """Each change taken wakes the courier; one that found no room does not."""
    woken: list[None] = []
    outbox = Outbox(lambda: woken.append(None))
    outbox.take(firing())
    outbox.take(resolved())
    assert len(woken) == 2


@unhurried
@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=200))
def test_no_minute_has_more_than_two_allowances(steps: list[tuple[float, bool]]) -> None:
    """Ten at once, then ten a minute; who is put off is told a time at which it is free."""
    allowance = Allowance(10)
    now, spent = 0.0, []
    for step, patient in steps:
        now += step
        free = allowance.free_at("acme", now)
        assert free >= now
        if free > now and patient:
            now = free
            assert allowance.free_at("acme", now) == now
            free = now
        if free == now:
            allowance.spend("acme", now)
            spent.append(now)
    for start in spent:
        assert sum(start <= at < start + 60 for at in spent) <= 20
    assert all(sum(at <= t for at in spent) <= 10 + 1 + t / 6 for t in spent)


def test_one_tenants_allowance_is_not_anothers() -> None:
    """What is planned counts before it is spent."""
    allowance = Allowance(2)
    assert allowance.free_at("acme", 0.0, planned=1) == 0.0
    assert allowance.free_at("acme", 0.0, planned=2) == 30.0
    allowance.spend("acme", 0.0)
    allowance.spend("acme", 0.0)
    assert allowance.free_at("acme", 0.0) == 30.0
    assert allowance.free_at("globex", 0.0) == 0.0


def test_an_alert_is_about_its_tenant_or_its_instance() -> None:
    """A dead process has no one tenant; its alerts share an allowance of their own."""
    nobody: Alert = firing(labels={"alertname": "EventLoopDead", "service_name": "s", "instance": "i"})
    assert (firing().about, nobody.about) == ("acme", "s/i")
