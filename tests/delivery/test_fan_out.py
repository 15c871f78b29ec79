"""Several destinations on one queue: each gets everything, none waits for another, each has an exact account."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fan_out import AROUND, FRAME, HEADER, NAMES, batch, exact, offer, opened, taken_out
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.conventions import SIGNALS
from sidecar.delivery import Batch, BatchQueue, Way
from sidecar.delivery.stock import OVERTAKEN
from sidecar.ledger import Ledger


def test_each_gets_everything_at_its_own_pace(tmp_path: Path) -> None:
    """A segment goes when the slowest has had it, and not before."""
    ledger = Ledger(NAMES)
    folder = tmp_path / "state" / "queue"
    with opened(tmp_path / "state", ledger, [Way(name) for name in NAMES], 8 * (AROUND + 2 * FRAME)) as queue:
        for number in range(10):
            assert offer(queue, ledger, number) is None
        files = len(list(folder.glob("*.queue")))
        assert taken_out(queue, ledger, "near") == list(range(10))
        assert len(list(folder.glob("*.queue"))) == files
        assert taken_out(queue, ledger, "far", 4) == [0, 1, 2, 3]
        queue.outlets["far"].head(0)
        assert len(list(folder.glob("*.queue"))) == files - 2
        assert taken_out(queue, ledger, "far") == [4, 5, 6, 7, 8, 9]
        assert queue.wait_until_empty(0)
        exact(ledger)
    assert not list(folder.glob("*.queue"))


def test_how_far_each_has_come_survives_a_restart(tmp_path: Path) -> None:
    """Each goes on where it was, and what it recovers is counted for it alone."""
    ways = [Way(name) for name in NAMES]
    with opened(tmp_path / "state", Ledger(NAMES), ways) as queue:
        for number in range(10):
            assert queue.offer(batch(number)) is None
        taken_out(queue, Ledger(NAMES), "near", 7)
        taken_out(queue, Ledger(NAMES), "far", 2)
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, ways) as queue:
        assert [ledger.records(name)["traces"]["recovered"] for name in NAMES] == [3, 8]
        assert queue.records == 8
        assert taken_out(queue, ledger, "near") == [7, 8, 9]
        assert taken_out(queue, ledger, "far") == list(range(2, 10))
        exact(ledger)


def test_who_is_no_longer_named_holds_nothing_up_and_who_is_new_gets_what_was_not_delivered(tmp_path: Path) -> None:
    """A destination under a new name goes on where the slowest stood: it may be the same one, at another address."""
    with opened(tmp_path / "state", Ledger(NAMES), [Way(name) for name in NAMES]) as queue:
        for number in range(10):
            queue.offer(batch(number))
        taken_out(queue, Ledger(NAMES), "near", 7)
        taken_out(queue, Ledger(NAMES), "far", 2)
    names = ("near", "elsewhere")
    ledger = Ledger(names)
    with opened(tmp_path / "state", ledger, [Way(name) for name in names]) as queue:
        assert taken_out(queue, ledger, "near") == [7, 8, 9]
        assert taken_out(queue, ledger, "elsewhere") == list(range(2, 10))
        assert queue.wait_until_empty(0)
    assert not list((tmp_path / "state" / "queue").glob("*.queue"))


def test_who_is_overtaken_loses_the_oldest_and_nobody_is_put_off(tmp_path: Path) -> None:
    """A dead destination does not keep telemetry from the others, whatever the bound; what it loses is counted."""
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, [Way(name) for name in NAMES], 8 * (AROUND + 2 * FRAME)) as queue:
        delivered = []
        for number in range(100):
            assert offer(queue, ledger, number) is None
            delivered += taken_out(queue, ledger, "near")
        assert delivered == list(range(100))
        assert queue._bytes() <= 8 * (AROUND + 2 * FRAME)
        lost = ledger.reasons("far")["traces"]["dropped"][OVERTAKEN]
        assert lost >= 80
        assert taken_out(queue, ledger, "far") == list(range(lost, 100))
        exact(ledger)
        assert ledger.records("near")["traces"]["dropped"] == 0


def test_what_nobody_has_had_is_never_given_up_for_room(tmp_path: Path) -> None:
    """All destinations stand still: senders are put off, as with one."""
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, [Way(name) for name in NAMES], 8 * (AROUND + 2 * FRAME)) as queue:
        taken = 0
        while offer(queue, ledger, taken) is None:
            taken += 1
        taken_out(queue, ledger, "near", 1)  # not past the segment
        assert offer(queue, ledger, taken) == "queue_full"
        assert taken_out(queue, ledger, "far") == list(range(taken))
        exact(ledger)


def test_who_must_not_lose_anything_puts_senders_off(tmp_path: Path) -> None:
    """`when_full: wait`: the queue is full although the others have had everything."""
    ways = [Way("near"), Way("far", may_lose=False)]
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, ways, 8 * (AROUND + 2 * FRAME)) as queue:
        taken = 0
        while offer(queue, ledger, taken) is None:
            taken_out(queue, ledger, "near")
            taken += 1
        assert taken == 16
        assert taken_out(queue, ledger, "far") == list(range(16))
        exact(ledger)


def test_what_is_on_its_way_when_it_is_overtaken_has_one_fate(tmp_path: Path) -> None:
    """The batch that the slow one is being sent at that moment may arrive still; it is not counted twice."""
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, [Way(name) for name in NAMES], 8 * (AROUND + 2 * FRAME)) as queue:
        for number in range(16):
            offer(queue, ledger, number)
        far = queue.outlets["far"]
        head = far.head(0)
        assert head is not None
        taken_out(queue, ledger, "near")
        assert offer(queue, ledger, 16) is None  # far loses 0 and 1, of which 0 is on its way
        assert ledger.reasons("far")["traces"]["dropped"] == {OVERTAKEN: 1}
        exact(ledger)
        ledger.account("far").forwarded("traces", 1)
        far.done()
        assert taken_out(queue, ledger, "far") == list(range(2, 17))
        exact(ledger)
        assert ledger.records("far")["traces"]["queued"] == 0


def test_a_batch_that_is_overtaken_and_left_half_delivered_is_counted_once(tmp_path: Path) -> None:
    """It was halved, a half has arrived, and there is no time left for the other: that one is lost, and no more."""
    ledger = Ledger(NAMES)
    ways = [Way("near"), Way("far", joins=True)]
    with opened(tmp_path / "state", ledger, ways, 8 * (AROUND + 2 * FRAME)) as queue:
        for number in range(16):
            offer(queue, ledger, number)
        far = queue.outlets["far"]
        head = far.head(0)
        assert head is not None
        assert head.records == 2
        taken_out(queue, ledger, "near")
        assert offer(queue, ledger, 16) is None  # far loses 0 and 1, which are on their way
        ledger.account("far").forwarded("traces", 1)
        far.partly_done(1)
        far.leave()
        assert ledger.reasons("far")["traces"]["dropped"] == {OVERTAKEN: 1}
        exact(ledger)
        assert ledger.records("far")["traces"]["queued"] == 15


def test_a_damaged_segment_costs_each_what_it_was_still_to_get(tmp_path: Path) -> None:
    """Who has had it already loses nothing."""
    ledger = Ledger(NAMES)
    with opened(tmp_path / "state", ledger, [Way(name) for name in NAMES]) as queue:
        for number in range(10):
            offer(queue, ledger, number)
        assert len(taken_out(queue, ledger, "near")) == 10
        with (tmp_path / "state" / "queue" / "000000000001.queue").open("r+b") as file:
            file.seek(HEADER + 3 * FRAME + 20)
            file.write(b"!")
        assert taken_out(queue, ledger, "far") == [0, 1, 2]
        assert ledger.reasons("far")["traces"]["dropped"] == {"queue_corrupt": 7}
        assert ledger.records("near")["traces"]["dropped"] == 0
        exact(ledger)


def parts_of(queue: BatchQueue, ledger: Ledger, name: str, most: int) -> list[bytes]:
    """So many batches, taken out and accounted, as the payloads of 14 bytes that they were made of."""
    found: list[bytes] = []
    outlet = queue.outlets[name]
    while most and (head := outlet.head(0)) is not None:
        found += [head.payload[at : at + 14] for at in range(0, len(head.payload), 14)]
        ledger.account(name).forwarded(head.signal, head.records)
        outlet.done()
        most -= 1
    return found


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from(SIGNALS), st.integers(1, 9)),
        st.tuples(st.just("done"), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(st.just("separate"), st.integers(0, 2)),
        st.tuples(st.just("reopen")),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=100)
@given(STEPS, st.lists(st.booleans(), min_size=3, max_size=3))
def test_it_behaves_like_a_list_for_each(steps: list[tuple], joins: list[bool]) -> None:
    """Any order of offers, deliveries, refusals and restarts, joined or not: each gets every record once, in order."""
    names = ("a", "b", "c")
    ways = [Way(name, joins=joined) for name, joined in zip(names, joins, strict=True)]
    expected: dict[str, list[bytes]] = {name: [] for name in names}
    got: dict[str, list[bytes]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(names)
        queue = BatchQueue(Path(folder) / "state", ledger, 1_600, ways=ways)
        for serial, step in enumerate(steps):
            if step[0] == "offer":
                payload = f"{step[1]}{serial:04}".encode().rjust(14)
                ledger.arrived(step[1], step[2])
                refusal = queue.offer(Batch(step[1], payload, step[2]))
                if refusal is None:
                    for name in names:
                        expected[name].append(payload)
                else:
                    ledger.rejected(step[1], step[2], refusal)
            elif step[0] == "done":
                got[names[step[1]]] += parts_of(queue, ledger, names[step[1]], step[2])
            elif step[0] == "separate":
                outlet = queue.outlets[names[step[1]]]
                head = outlet.head(0)
                if head is not None and outlet.separate():
                    alone = outlet.head(0)
                    assert alone is None or len(alone.payload) == 14
            else:
                queue.release()
                ledger = Ledger(names)
                queue = BatchQueue(Path(folder) / "state", ledger, 1_600, ways=ways)
            exact(ledger, names)
        lost = {name: sum(c["dropped"] for c in ledger.records(name).values()) for name in names}
        for name in names:
            got[name] += parts_of(queue, ledger, name, 10**6)
            if not any(lost.values()) and ("reopen",) not in steps:
                assert got[name] == expected[name]
            else:  # who was overtaken has gaps, and nothing else
                order = iter(expected[name])
                assert all(any(part == other for other in order) for part in got[name])
        queue.release()
