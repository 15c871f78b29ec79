"""The ledger: received + recovered = forwarded + rejected + dropped + queued, always, for every destination."""

from __future__ import annotations

import random
import threading
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from sidecar import conventions
from sidecar.conventions import SIGNALS
from sidecar.ledger import Ledger

DESTINATIONS = ("near", "far")


def check(ledger: Ledger) -> None:
    for name in DESTINATIONS:
        for signal, counts in ledger.records(name).items():
            fates = counts["forwarded"] + counts["rejected"] + counts["dropped"] + counts["queued"]
            assert counts["received"] + counts["recovered"] == fates, (name, signal, counts)


MOVES = st.lists(
    st.tuples(st.sampled_from(SIGNALS), st.integers(0, 50), st.integers(0, 50), st.integers(0, 5)),
    max_size=40,
)


@given(MOVES)
def test_every_sequence_of_movements_keeps_the_equation(moves: list[tuple[str, int, int, int]]) -> None:
    """Whatever arrives and whatever becomes of it, no record is in two places or in none."""
    ledger = Ledger(DESTINATIONS)
    near, far = map(ledger.account, DESTINATIONS)
    for signal, records, lost, fate in moves:
        lost = min(records, lost)
        held = records - lost
        ledger.arrived(signal, records, {"unknown_metric": lost} if lost else {})
        check(ledger)
        if fate == 0:
            near.forwarded(signal, held)
        elif fate == 1:
            near.forwarded(signal, held // 2, held - held // 2)
        elif fate == 2:
            ledger.rejected(signal, held, "queue_full")
        elif fate == 3:
            near.dropped(signal, held, "queue_corrupt")
        elif fate == 4:
            far.recovered(signal, held)
        check(ledger)


def test_the_equation_holds_while_many_threads_move_records() -> None:
    """A reader in the middle of everything sees whole movements only, in `records` as in a scrape."""
    ledger = Ledger(DESTINATIONS)
    near, far = map(ledger.account, DESTINATIONS)
    registry = CollectorRegistry()
    registry.register(ledger)
    done = threading.Event()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(500):
            signal = chance.choice(SIGNALS)
            records = chance.randrange(1, 9)
            ledger.arrived(signal, records, {"policy": 1}, {("mask", "email"): 1})
            if chance.random() < 0.3:
                ledger.rejected(signal, records - 1, "shutdown")
                continue
            for account in (near, far):
                fate = chance.choice((account.rejected, account.dropped))
                fate(signal, records - 1, "gone") if chance.random() < 0.5 else account.forwarded(signal, records - 1)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    watcher = threading.Thread(target=lambda: [t.join() for t in threads] and done.set())
    watcher.start()
    readings = 0
    while not done.is_set() or not readings:
        check(ledger)
        scrape = {family.name: family for family in ledger.collect()}
        for signal, name in product(SIGNALS, DESTINATIONS):
            received, recovered, forwarded, rejected, dropped, queued = (
                sum(
                    s.value
                    for s in scrape[metric.name].samples
                    if s.labels["signal"] == signal and s.labels.get("destination") in (None, "", name)
                )
                for metric in (
                    conventions.RECEIVED, conventions.RECOVERED, conventions.FORWARDED, conventions.REJECTED,
                    conventions.DROPPED, conventions.QUEUED,
                )
            )  # fmt: skip
            assert received + recovered == forwarded + rejected + dropped + queued
        readings += 1
    watcher.join()
    assert {counts["queued"] for name in DESTINATIONS for counts in ledger.records(name).values()} == {0}
    assert b"tenantscope_records_received_total" in generate_latest(registry)


def test_every_signal_is_exposed_from_the_start() -> None:
    """A counter that nobody has moved is 0, not absent: `rate()` needs the first point."""
    registry = CollectorRegistry()
    registry.register(Ledger())
    for signal in SIGNALS:
        assert registry.get_sample_value("tenantscope_records_received_total", {"signal": signal}) == 0
        labels = {"signal": signal, "destination": "upstream"}
        assert registry.get_sample_value("tenantscope_records_queued", labels) == 0
    assert registry.get_sample_value("tenantscope_forward_retries_total", {"destination": "upstream"}) == 0


@pytest.mark.parametrize("metric", [m for m in conventions.METRICS if m.name.startswith("tenantscope_re")])
def test_a_label_of_every_family_is_the_one_in_the_table(metric: conventions.Metric) -> None:
    """Label names come from the table of names."""
    ledger = Ledger()
    ledger.arrived("traces", 2, {"a": 1}, {("drop", "b"): 1})
    ledger.rejected("traces", 1, "c")
    ledger.answered("traces", "unavailable", "full")
    family = {f.name: f for f in ledger.collect()}[metric.name]
    assert {tuple(sample.labels) for sample in family.samples} == {metric.labels}
