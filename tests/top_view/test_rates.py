"""How fast things grow, from two looks at totals that may start over at any time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_sidecar import CALM, STALLED, as_status, recorded

from tenantscope.view.status import Loop, Running, Share, Status, Stored
from tenantscope.view.tenants import History, Row

TENANTS = ("acme", "globex")


def share(
    tenant: str, seconds: float, *, suffered: float = 0.0, caused: float = 0.0, queue: tuple[float, int] = (0.0, 0)
) -> Share:
    return Share(tenant, seconds, 1, seconds, suffered, caused, 1, *queue)


def loop(*shares: Share, pid: int = 7, running: Running | None = None) -> Loop:
    return Loop("billing", "i", pid, 1, shares, running, 0.0)


def rows(*statuses: tuple[float, Status], over: float = 0.0) -> dict[str, Row]:
    history = History(over)
    for now, status in statuses:
        history.take(status, now)
    return history.rows()


def test_the_share_is_what_a_tenant_had_of_the_time_between_two_looks() -> None:
    """0.5 s within 2 s is a quarter, whatever was before."""
    found = rows(
        (10.0, Status(loops=(loop(share("acme", 100.0)),))), (12.0, Status(loops=(loop(share("acme", 100.5)),)))
    )
    assert found["acme"].loop_share == pytest.approx(0.25)
    assert found["acme"].loop_seconds == 100.5


def test_a_tenant_who_holds_the_loop_has_it_before_the_slice_ends() -> None:
    """A slice is in the totals when it ends; while it lasts, its part counts all the same, and only once."""
    before = (0.0, Status(loops=(loop(share("acme", 1.0)),)))
    holding = (1.0, Status(loops=(loop(share("acme", 1.0), running=Running("acme", 0.9)),)))
    still = (2.0, Status(loops=(loop(share("acme", 1.0), running=Running("acme", 1.9)),)))
    after = (3.0, Status(loops=(loop(share("acme", 3.1)),)))
    assert rows(before, holding)["acme"].loop_share == pytest.approx(0.9)
    assert rows(holding, still)["acme"].loop_share == pytest.approx(1.0)
    assert rows(still, after)["acme"].loop_share == pytest.approx(0.2)
    assert rows(before, still)["acme"].loop_seconds == pytest.approx(2.9)


def test_the_time_in_the_queue_is_that_of_the_last_messages() -> None:
    """On average, over all loops; of all messages when the last while had none, and nothing without any."""
    before = Status(loops=(loop(share("acme", 1, queue=(10.0, 5))), loop(pid=8)))
    after = Status(loops=(loop(share("acme", 1, queue=(10.3, 8))), loop(share("acme", 1, queue=(0.1, 1)), pid=8)))
    assert rows((0.0, before))["acme"].queue_mean == pytest.approx(2.0)
    assert rows((0.0, before), (1.0, after))["acme"].queue_mean == pytest.approx(0.1)
    assert rows((0.0, before), (1.0, before))["acme"].queue_mean == pytest.approx(2.0)
    assert rows((0.0, Status(loops=(loop(share("acme", 1)),))))["acme"].queue_mean == 0.0


def test_messages_are_counted_where_they_are_handled() -> None:
    """By the loops, which know at once; by the store for a tenant of whom no loop tells."""
    before = Status(loops=(loop(share("acme", 1, queue=(1.0, 10))),), tenants=(Stored("globex", 4, 0, 0, 0, 0),))
    after = Status(
        loops=(loop(share("acme", 1, queue=(1.5, 30))),),
        tenants=(Stored("acme", 900, 0, 0, 0, 0), Stored("globex", 10, 0, 0, 0, 0)),
    )
    found = rows((0.0, before), (2.0, after))
    assert found["acme"].messages_per_second == pytest.approx(10)
    assert found["globex"].messages_per_second == pytest.approx(3)


def test_a_tenant_in_its_first_slice_has_a_row() -> None:
    """It has no totals yet, and is perhaps the one who hangs."""
    found = rows((0.0, Status(loops=(loop(),))), (1.0, Status(loops=(loop(running=Running("new", 0.5)),))))
    assert found["new"].loop_share == pytest.approx(0.5)


def test_the_first_look_has_totals_and_no_rates() -> None:
    """The past of a process is not what happened just now."""
    found = rows((5.0, as_status(recorded(CALM))))
    assert found["acme"].loop_seconds > 0
    assert {row.loop_share for row in found.values()} == {0.0}
    assert {row.messages_per_second for row in found.values()} == {0.0}


def test_a_loop_that_appears_brings_totals_and_no_rates() -> None:
    """It may be new, or the sidecar may be; from the second look on it counts."""
    first, second = Status(loops=(loop(share("acme", 1.0)),)), Status(loops=(loop(share("acme", 1.1)),))
    other = loop(share("acme", 500.0, suffered=9.0), pid=8)
    joined = replace(second, loops=(*second.loops, other))
    found = rows((0.0, first), (1.0, joined))
    assert found["acme"].loop_share == pytest.approx(0.1)
    assert found["acme"].suffered_rate == 0.0
    assert found["acme"].loop_seconds == pytest.approx(501.1)


def test_two_loops_add_up_as_processors_do() -> None:
    """Half of one and all of another is one and a half."""
    before = Status(loops=(loop(share("acme", 1.0)), loop(share("acme", 1.0), pid=8)))
    after = Status(loops=(loop(share("acme", 1.5)), loop(share("acme", 2.0), pid=8)))
    assert rows((0.0, before), (1.0, after))["acme"].loop_share == pytest.approx(1.5)


def test_a_store_that_starts_over_gives_no_negative_rate() -> None:
    """Totals that went down have grown by nothing."""
    before, after = (Status(tenants=(Stored("acme", messages, 0, 0, 0, 0),)) for messages in (1000, 10))
    found = rows((0.0, before), (1.0, after))["acme"]
    assert (found.messages, found.messages_per_second) == (10, 0.0)


def test_real_statuses_give_the_shares_that_they_should() -> None:
    """Between two recorded looks 1.18 s apart, one tenant had the loop for its blocking call and hardly anyone else."""
    history = History()
    history.take(as_status(recorded(CALM)), 0.0)
    history.take(as_status(recorded(STALLED)), 1.18)
    found = history.rows()
    assert max(found.values(), key=lambda row: row.loop_share).tenant == "acme"
    assert 0.1 < found["acme"].loop_share < 0.9
    assert found["hooli"].messages_per_second > 0
    (utilization,) = history.utilization().values()
    assert utilization == pytest.approx(sum(row.loop_share for row in found.values()))


amounts = st.floats(0, 1e12)
shares = st.builds(
    share,
    st.sampled_from(TENANTS),
    amounts,
    suffered=amounts,
    caused=amounts,
    queue=st.tuples(amounts, st.integers(0, 10**9)),
)
loops = st.builds(
    lambda shares, pid, running: loop(*shares, pid=pid, running=running),
    st.lists(shares, max_size=3),
    st.integers(1, 3),
    st.none() | st.builds(Running, st.sampled_from(TENANTS), amounts),
)
stored = st.builds(
    lambda tenant, messages: Stored(tenant, messages, 0, 0, 0, 0), st.sampled_from(TENANTS), st.integers(0, 10**9)
)
statuses = st.builds(
    lambda loops, tenants: Status(loops=tuple(loops), tenants=tuple(tenants)),
    st.lists(loops, max_size=4),
    st.lists(stored, max_size=3),
)


@given(st.lists(st.tuples(st.floats(0, 100), statuses), max_size=6), st.floats(0, 50))
def test_no_sequence_of_statuses_gives_a_rate_that_cannot_be(taken: list[tuple[float, Status]], over: float) -> None:
    """Restarts, reused pids, loops that come and go, a clock that stands: never negative, never more than all loops."""
    history, now = History(over), 0.0
    for step, status in taken:
        now += step
        history.take(status, now)
        for row in history.rows().values():
            assert 0 <= row.loop_share <= len(status.loops)
            for rate in (row.messages_per_second, row.suffered_rate, row.caused_rate, row.queue_mean):
                assert rate >= 0
                assert math.isfinite(rate)
        assert all(0 <= busy <= 1 for busy in history.utilization().values())
