"""Who may announce a loop, for which tenants, and how those are shown: asked again for as long as a stream lasts."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry
from talker import Talker, services, wait_until

from instrumentation import tenancy
from instrumentation.loop.cell import Cell
from sidecar.alerts import Alerts
from sidecar.senders.clients import Clients, new_token
from sidecar.watchdog import Watchdog
from sidecar.watchdog.opening import open_cell
from sidecar.watchdog.poll import MAX_TOLD
from sidecar.watchdog.room import MAX_STREAMS
from sidecar.watchdog.told import ToldCell
from sidecar.wire import cell as layout
from sidecar.wire import watchdog_pb2 as wire

MS = 1_000_000
TOLD_LOOPS = 8  # of one application


def slot_of(tenant: str) -> int:
    return tenancy.TABLE.intern(tenant).slot


class Desk:
    """A watchdog that asks who comes, and the file of those who may."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clients.yaml"
        self.token, self._digest = new_token()
        self.write("[acme, globex]")
        self._registry = registry = CollectorRegistry()
        self.watchdog = Watchdog(100 * MS, Alerts([], registry), registry, clients=Clients(self._file))
        self._server = grpc.server(ThreadPoolExecutor(MAX_STREAMS + 8))
        self.watchdog.add_to(self._server)
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self.watchdog.start()
        self._server.start()

    def write(self, tenants: str, token: str = "", more: str = "") -> None:
        """Let the client speak for these; without its own token, nobody is it any more."""
        draft = self._file.with_suffix(".new")
        draft.write_text(f'clients: {{partner: {{tokens: ["{token or self._digest}"], tenants: {tenants}}}{more}}}\n')
        draft.replace(self._file)

    def add_operator(self) -> str:
        """A client that speaks for all, beside the other; its token."""
        token, digest = new_token()
        self.write("[acme, globex]", more=f', operator: {{tokens: ["{digest}"], tenants: all}}')
        return token

    def tenants(self) -> set[str]:
        """Who has the loops under watch, as people are told."""
        return {each["tenant"] for loop in self.watchdog.loops() for each in loop["tenants"]}

    def refused(self, reason: str) -> float:
        """How many loops were."""
        return self._registry.get_sample_value("tenantscope_cells_refused_total", {"reason": reason}) or 0

    def stop(self) -> None:
        self._server.stop(None).wait()
        self.watchdog.stop()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def partner(desk: Desk, make_cell: Callable[[int], Cell]) -> Iterator[Talker]:
    """A client that has announced a loop on which acme and globex work."""
    cell = make_cell(1)
    for tenant in ("acme", "globex"):
        cell.words[layout.slot_word(slot_of(tenant)) + layout.LOOP_NS] = MS
    with grpc.insecure_channel(desk.target) as channel:
        talker = Talker(channel, "partner", desk.token)
        talker.announce(cell)
        wait_until(lambda: desk.tenants() == {"acme", "globex"})
        yield talker
        talker.close()


def test_who_is_no_client_any_more_loses_the_stream(desk: Desk, partner: Talker) -> None:
    """A token that was taken out of the file ends what was begun with it, and its loop accuses nobody from then on."""
    desk.write("all", new_token()[1])
    assert partner.ended() is grpc.StatusCode.UNAUTHENTICATED
    assert desk.tenants() == {"unknown"}
    assert services(desk.watchdog) == ["partner"]  # the cell tells when it is over


def test_threads_change_often_for_as_long_as_there_is_something_to_watch(
    desk: Desk, make_cell: Callable[[int], Cell]
) -> None:
    """A loop that stalls is looked at every 2 ms; a sidecar that watches none has no use for that, and its price."""
    wait_until(lambda: sys.getswitchinterval() == 0.002)
    cell = make_cell(1)
    with grpc.insecure_channel(desk.target) as channel:
        talker = Talker(channel, "partner", desk.token)
        talker.announce(cell)
        wait_until(lambda: sys.getswitchinterval() == 0.001)
        cell.words[layout.CLOSED] = 1
        talker.withdraw(1)
        wait_until(lambda: sys.getswitchinterval() == 0.002)
        talker.close()


def test_it_loses_the_stream_also_while_it_has_answers_to_be_given_all_the_time(desk: Desk, partner: Talker) -> None:
    """Who it is, is asked by the clock, and not when there is nothing else to do."""
    enough = threading.Event()

    def talk() -> None:
        while not enough.wait(0.02):
            announce = wire.Announce(loop_id=9, service_name="partner", pid=os.getpid(), cell_path="/none")
            partner.say(wire.Report(announce=announce))  # it is asked to relay this loop, each time
            partner.withdraw(9)

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        desk.write("all", new_token()[1])
        assert partner.ended() is grpc.StatusCode.UNAUTHENTICATED
        assert len(partner.told) > 1
    finally:
        enough.set()
        talking.join()


def test_a_client_that_loses_a_tenant_names_it_no_more(desk: Desk, partner: Talker) -> None:
    """And goes on with the others."""
    desk.write("[globex]")
    wait_until(lambda: desk.tenants() == {"unknown", "globex"})
    desk.write("all")
    wait_until(lambda: desk.tenants() == {"acme", "globex"})
    assert partner.connected()


def test_a_tenant_is_shown_as_the_policy_has_it_now(make_cell: Callable[[int], Cell]) -> None:
    """A reload that masks an id masks it in what is told of loops that were under watch before."""
    faces = {"acme": "acme"}
    cell = make_cell(1)
    slot = slot_of("acme")
    cell.words[layout.slot_word(slot) + layout.LOOP_NS] = MS
    told = ToldCell(("elsewhere", 7, 0), 1, lambda tenant: faces[tenant])
    now = time.monotonic_ns()
    facts = wire.Facts(loop_id=1, running=now & layout.START_BITS | slot)
    facts.slots.add(slot=slot, tenant="acme", loop_ns=MS)
    told.take(facts, now, now)
    read = open_cell(str(cell.path), os.getpid(), 1, lambda tenant: faces[tenant])
    for face in ("acme", "t-7f3a"):
        faces["acme"] = face
        for known in (read, told):
            assert [total.tenant for total in known.totals()] == [face]
            assert (known.name(slot), known.whose(facts.running)) == (face, face)
    read.close()


def told(channel: grpc.Channel, token: str, service: str) -> Talker:
    """An application on another machine, with loops that only its heartbeats tell of."""
    talker = Talker(channel, service, token)
    loops = range(1, TOLD_LOOPS + 1)
    for loop_id in loops:
        announce = wire.Announce(
            loop_id=loop_id, pid=7, service_name=service, instance=service, clock="another machine"
        )
        talker.say(wire.Report(announce=announce))
    facts = [wire.Facts(loop_id=loop_id, heartbeat=1) for loop_id in loops]
    talker.say(wire.Report(heartbeat=wire.Heartbeat(monotonic_ns=1, sequence=1, loops=facts)))
    return talker


def test_a_client_of_some_tenants_leaves_room_for_loops_of_others(desk: Desk) -> None:
    """However many it tells of: it may have as many as are left after it, and who comes then gets in."""
    operator = desk.add_operator()
    with ExitStack() as opened, grpc.insecure_channel(desk.target) as channel:
        for number in range(MAX_TOLD // TOLD_LOOPS):
            opened.callback(told(channel, desk.token, f"partner-{number}").close)
        wait_until(lambda: desk.refused("loops") == MAX_TOLD // 2)
        assert len(desk.watchdog.loops()) == MAX_TOLD // 2
        opened.callback(told(channel, operator, "operator").close)
        wait_until(lambda: services(desk.watchdog).count("operator") == TOLD_LOOPS)


def test_a_client_of_some_tenants_leaves_room_for_streams_of_others(
    desk: Desk, make_cell: Callable[[int], Cell]
) -> None:
    """The same of its streams, each of which has a loop and so is never ended for another's sake."""
    operator = desk.add_operator()
    with ExitStack() as opened, grpc.insecure_channel(desk.target) as channel:

        def come(token: str, loop_id: int) -> Talker:
            talker = Talker(channel, f"service-{loop_id}", token)
            opened.callback(talker.close)
            talker.announce(make_cell(loop_id), loop_id)
            return talker

        for number in range(1, MAX_STREAMS // 2 + 1):
            come(desk.token, number)
        wait_until(lambda: len(desk.watchdog.loops()) == MAX_STREAMS // 2)
        assert come(desk.token, MAX_STREAMS).ended() is grpc.StatusCode.RESOURCE_EXHAUSTED
        come(operator, MAX_STREAMS + 1)
        wait_until(lambda: f"service-{MAX_STREAMS + 1}" in services(desk.watchdog))
