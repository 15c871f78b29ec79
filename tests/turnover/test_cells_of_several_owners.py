"""Who reads a cell while slots change hands tells nobody's numbers under another's name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from few_slots import IDLE_NS, SECOND, House, MakeHouse

from instrumentation.loop import Loops
from instrumentation.loop.account import Account
from instrumentation.loop.relay import Relay
from sidecar.watchdog.opening import open_cell
from sidecar.watchdog.told import ToldCell
from sidecar.wire import cell as layout

PATIENCE = 60
INTERVAL_NS = 10 * SECOND
MS = 1_000_000
PRIMES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)


def account_of(loops: Loops) -> Account:
    (account,) = loops._shared().values()
    return account


def empty(house: House) -> None:
    """Everybody is idle until all slots are free."""
    for _ in range(IDLE_NS // INTERVAL_NS + 4):
        house.interval()
    assert house.shown() == set()


def test_what_is_read_late_is_still_its_owners(make_house: MakeHouse) -> None:
    """A long slice of who had the slot before: by the name read in time, or `other`; never by the next one."""
    house = make_house(1)
    house.work("acme", 40)
    knows, comes_late = (open_cell(str(house.cell), os.getpid(), 1) for _ in range(2))
    (slice_,) = knows.long_slices(0, 1)
    assert knows.whose(slice_.running) == "acme"
    acme = slice_.running & layout.SLOT_BITS
    assert (knows.name(acme), {t.tenant: t.loop_ns for t in knows.totals()}["acme"]) == ("acme", 40 * MS)
    empty(house)
    house.work("globex", 30)
    totals = {found.tenant: found for found in comes_late.totals()}
    assert (totals["globex"].loop_ns, totals["globex"].slices, totals["globex"].longest_ns) == (30 * MS, 1, 30 * MS)
    assert "acme" not in totals
    late = [found.running for found in comes_late.long_slices(0, 2)]
    assert [comes_late.whose(running) for running in late] == ["other", "globex"]
    assert [knows.whose(running) for running in late] == ["acme", "globex"]
    assert (knows.name(acme), comes_late.name(acme)) == ("acme", "other")
    assert comes_late.tenant_id(layout.holder(acme, 1)) == "globex"
    for reader in (knows, comes_late):
        reader.close()


def test_between_two_owners_a_slot_is_nobodys(make_house: MakeHouse) -> None:
    """Its totals are gone, and its name."""
    house = make_house(1)
    house.work("acme", 40)
    reader = open_cell(str(house.cell), os.getpid(), 1)
    empty(house)
    assert {found.tenant for found in reader.totals()} == {"unknown"}
    assert reader.name(layout.holder(2, 1)) == "other"
    reader.close()


def test_heartbeats_tell_of_a_new_owner(make_house: MakeHouse) -> None:
    """Where the cell cannot be read: the name comes again when it is another one, and totals begin at 0."""
    house = make_house(1)
    house.work("acme", 40)
    account = account_of(house.loops)
    relay = Relay(lambda: {1: account}, house.clock)
    relay.ask(1, 100 * MS)
    told = ToldCell(("elsewhere", 7, 0), 1)

    def hear() -> dict[str, int]:
        house.clock.wait(300)
        report = relay.heartbeat()
        assert report is not None
        (facts,) = report.heartbeat.loops
        told.take(facts, report.heartbeat.monotonic_ns, house.clock())
        return {found.tenant: found.loop_ns for found in told.totals()}

    assert hear()["acme"] == 40 * MS
    was = house.clock() - 200 * MS & layout.START_BITS | 2
    assert told.whose(was) == "acme"
    empty(house)
    hear()
    house.work("globex", 30)
    found = hear()
    assert found["globex"] == 30 * MS
    assert "acme" not in found
    assert told.whose(house.clock() & layout.START_BITS | 2) == "globex"
    assert told.whose(was) == "other"
    assert told.name(2) == "other"


def test_a_watchdog_that_polls_meanwhile(make_house: MakeHouse) -> None:
    """Three slots and many tenants: every slice, and every number, that another process sees is told of its tenant.

    A tenant has slices of one length, another prime for each, and its loop time is a multiple of that.
    """
    house = make_house(3, 25 * SECOND)
    lengths = {f"t{length}": length for length in PRIMES}
    house.work("t7", 7)
    reading = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("polling.py")), str(house.cell), str(os.getpid())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert reading.stdin is not None
    assert reading.stdout is not None
    assert reading.stdout.readline() == "reading\n"
    names = list(lengths)
    for turn in range(150):
        for who in (names[turn % len(names)], names[(turn * 5 + 3) % len(names)]):
            house.work(who, lengths[who])
        house.interval()
    assert house.turnover.freed > 30
    seen, _ = reading.communicate("", PATIENCE)
    found = json.loads(seen)
    told = [(word, name) for word, name in found["late"] + found["running"] if word in house.began]
    assert len({name for _, name in told} - {"other"}) > 1
    assert not [(word, name) for word, name in told if name not in (house.began[word], "other")]
    totals = [(who, ns) for who, ns in found["totals"] if who in lengths]
    assert len({who for who, _ in totals}) > 1
    assert not [(who, ns) for who, ns in totals if ns % (lengths[who] * MS)]
