"""A part of the sidecar that hangs is seen: `/readyz` at its deadline, `/healthz` when only a restart will help."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from otlp_peers import PATIENCE, Upstream, export, running_upstream, trace_request
from prometheus_client import CollectorRegistry
from sidecars import configured

from sidecar.pulse import PATIENCE as DEADLINES
from sidecar.pulse import Busy, Pulse, Pulses
from sidecar.service import Sidecar


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_never_heard_of_is_not_alive() -> None:
    """A part that did not start is late from the first moment, and hangs when it does not come."""
    clock = Clock()
    pulse = Pulse(5, clock)
    assert (pulse.in_time, pulse.hangs) == (False, False)
    clock.now += 5 * DEADLINES
    assert pulse.hangs
    pulse.beat()
    assert (pulse.in_time, pulse.hangs) == (True, False)


def test_each_part_has_a_deadline_of_its_own() -> None:
    """What is late for one is in time for another."""
    clock = Clock()
    pulses = Pulses(clock)
    quick, slow = pulses.part("quick", 1), pulses.part("slow", 60)
    quick.beat()
    slow.beat()
    clock.now += 2
    assert pulses.in_time() == {"quick": False, "slow": True}
    assert pulses.hanging() == []
    clock.now += 8
    assert pulses.hanging() == ["quick"]


def test_who_rests_is_not_late() -> None:
    """Nothing to do for a week is no fault; what is begun then must get on."""
    clock = Clock()
    pulse = Pulse(5, clock)
    pulse.rest()
    clock.now += 7 * 86_400
    assert (pulse.in_time, pulse.hangs, pulse.silent) == (True, False, 0)
    pulse.beat()
    clock.now += 6
    assert not pulse.in_time


def test_a_part_that_is_lost_does_not_come_back() -> None:
    """Its thread ended with an error: no deadline is waited for."""
    pulse = Pulse(5, Clock())
    pulse.rest()
    pulse.lose()
    assert (pulse.in_time, pulse.hangs) == (False, True)


def test_the_slowest_of_many_counts() -> None:
    """As of requests that are worked on."""
    taken = [0.0]
    pulse = Busy(30, lambda: max(taken))
    assert (pulse.in_time, pulse.hangs) == (True, False)
    taken += [31.0]
    assert (pulse.in_time, pulse.hangs) == (False, False)
    taken += [301.0]
    assert pulse.hangs


def test_two_parts_of_one_name_are_a_mistake() -> None:
    """One would answer for the other."""
    pulses = Pulses()
    pulses.part("a", 1)
    with pytest.raises(ValueError, match="two parts are called a"):
        pulses.part("a", 1)


def test_the_silence_is_a_metric() -> None:
    """Seconds, by part."""
    clock, registry = Clock(), CollectorRegistry()
    pulses = Pulses(clock)
    registry.register(pulses)
    pulses.part("a", 1).beat()
    clock.now += 3
    assert registry.get_sample_value("tenantscope_part_silent_seconds", {"part": "a"}) == 3


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture
def sidecar(tmp_path: Path, upstream: Upstream) -> Iterator[Sidecar]:
    made = Sidecar(configured(tmp_path, UPSTREAM=upstream.url))
    made.start()
    yield made
    made.stop(PATIENCE)


def page(sidecar: Sidecar, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.admin_address.port, timeout=PATIENCE)
    connection.request("GET", path)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


def test_every_part_of_a_sidecar_is_heard_of(sidecar: Sidecar, upstream: Upstream) -> None:
    """As soon as it has started; work does not change that."""
    assert page(sidecar, "/readyz") == (200, {"ready": True, "not_ready": []})
    export(sidecar.listen_address.target, trace_request())
    upstream.wait_for(1)
    assert page(sidecar, "/healthz") == (200, {"status": "ok"})
    name = f"forwarder {sidecar.destinations[0]}"
    assert sidecar._pulses.in_time().keys() == {"intake", "watchdog", "policy", name}


def test_a_forwarder_that_hangs_is_named(sidecar: Sidecar, upstream: Upstream) -> None:
    """It is in an attempt that never comes back: not ready at its deadline, ill after ten, well when it gets on."""
    entered, release = threading.Event(), threading.Event()

    def hang(_: object) -> bytes:
        entered.set()
        release.wait(PATIENCE)
        return b""

    upstream.always = hang
    name = f"forwarder {sidecar.destinations[0]}"
    pulse = sidecar._pulses._parts[name]
    export(sidecar.listen_address.target, trace_request())
    assert entered.wait(PATIENCE)
    pulse._clock = lambda: pulse._at + pulse.seconds + 1  # the present, when its deadline is over
    assert page(sidecar, "/readyz") == (503, {"ready": False, "not_ready": [name]})
    assert page(sidecar, "/healthz")[0] == 200
    pulse._clock = lambda: pulse._at + pulse.seconds * DEADLINES + 1
    assert page(sidecar, "/healthz") == (503, {"status": "hangs", "hanging": [name]})
    pulse._clock = lambda: pulse._at
    release.set()
    assert sidecar._delivery.queue.wait_until_empty(PATIENCE)
    assert page(sidecar, "/readyz")[0] == page(sidecar, "/healthz")[0] == 200


def test_a_poller_that_hangs_is_named(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stalls would not be seen, and nobody would know."""
    release, entered = threading.Event(), threading.Event()

    def hang(_: int) -> list[Any]:
        entered.set()
        release.wait(PATIENCE * 3)
        return []

    monkeypatch.setattr(sidecar._watchdog._poll, "step", hang)
    assert entered.wait(PATIENCE)
    pulse = sidecar._pulses._parts["watchdog"]
    pulse._clock = lambda: pulse._at + 2
    assert page(sidecar, "/readyz") == (503, {"ready": False, "not_ready": ["watchdog"]})
    release.set()


def test_a_request_that_hangs_is_seen_at_the_intake(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that does not answer holds the requests that wait for it."""
    release, entered = threading.Event(), threading.Event()
    offer = sidecar._delivery.offer

    def hang(batch: Any) -> str | None:
        entered.set()
        release.wait(PATIENCE * 3)
        return offer(batch)

    monkeypatch.setattr(sidecar._delivery, "offer", hang)
    sender = threading.Thread(target=export, args=(sidecar.listen_address.target, trace_request()))
    sender.start()
    assert entered.wait(PATIENCE)
    turns = sidecar._pulses._parts["intake"]
    turns.seconds = 0.0  # the deadline is over
    assert page(sidecar, "/readyz")[1]["not_ready"] == ["intake"]
    release.set()
    sender.join(PATIENCE)
