"""Callers that mean harm to a real sidecar in a process of its own: it stays small, and there for the others."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from typing import Final

import grpc
import pytest
from otlp_peers import PATIENCE, export, trace_request
from victim import MEBIBYTE, METADATA, TRACES, Victim, bodies, bomb, crowd, nothings, reloads, stopped, well
from victim import victim as running

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # and empty settings
PING: Final = bytes((0, 0, 8, 6, 0, 0, 0, 0, 0)) + b"pingping"
CONNECTIONS: Final = 6_000


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with running(tmp_path_factory.mktemp("victim")) as made:
        yield made


def test_a_bomb_from_a_stranger_costs_no_memory(victim: Victim) -> None:
    """128 MiB of zeros, in a hundredth of that: refused before it is read, let alone inflated; 32 MiB at most."""
    well(victim)
    assert bomb(victim, 128 << 20) < 32 * MEBIBYTE
    well(victim)


def test_two_million_empty_resources_are_refused_by_reason(victim: Victim) -> None:
    """4 MiB of them, again and again; others are served, and nothing is left of it."""
    well(victim)
    assert nothings(victim, 5) < 64 * MEBIBYTE
    well(victim)


def test_large_bodies_wait_with_those_who_send_them(victim: Victim) -> None:
    """A hundred requests of 4 MB at once, from a client: what has no place yet is not read, and takes no memory."""
    well(victim)
    assert bodies(victim, 100) < 340 * MEBIBYTE
    well(victim)


def test_tenants_beyond_number_take_no_more_memory(victim: Victim) -> None:
    """Fifteen thousand, more than have accounts of their own, which is all that is kept of them."""
    early, late = crowd(victim, 15_000)
    assert late - early < 24 * MEBIBYTE
    victim.settled()
    well(victim)


def test_reloads_under_load_by_signal(victim: Victim) -> None:
    """Each is in force before the next, requests are taken all the time, and every record is accounted."""
    reloads(victim, 10)
    victim.settled()
    well(victim)


def test_a_sidecar_that_was_stopped_goes_on(victim: Victim) -> None:
    """SIGSTOP and SIGCONT: it takes what waits, is ready and alive, and raises no alert about the time it missed."""
    stopped(victim, 3)
    victim.settled()
    well(victim)


def test_metadata_of_20_kb_is_refused(victim: Victim) -> None:
    """Before anything else is done for the call."""
    with pytest.raises(grpc.RpcError) as refused:
        export(victim.target, trace_request(), metadata=[*METADATA, ("x-padding", "x" * 20_000)])
    assert refused.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    well(victim)


def test_a_flood_of_pings_ends_its_connection(victim: Victim) -> None:
    """And no other."""
    said = b""
    with socket.create_connection(("127.0.0.1", victim.port), PATIENCE) as flood, contextlib.suppress(OSError):
        flood.sendall(PREFACE)
        for _ in range(1_000):
            flood.sendall(PING)
            heard = flood.recv(65_536)
            if not heard:
                break
            said += heard
        else:
            pytest.fail("nobody ended it")
    assert b"too_many_pings" in said
    well(victim)


def test_thousands_of_idle_connections_leave_the_rest_reachable(victim: Victim) -> None:
    """They speak HTTP/2 and then nothing: their number is bounded, the operator can look, who was there is served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CONNECTIONS + 1_000:
        pytest.skip("this process may not open so many connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CONNECTIONS + 1_000), hard))
    well(victim)
    before = victim.rss()
    with contextlib.ExitStack() as held, grpc.insecure_channel(victim.target) as channel:
        call = channel.unary_unary(TRACES.method, None, None)
        call(trace_request(), timeout=PATIENCE, metadata=METADATA)
        for _ in range(CONNECTIONS):
            with contextlib.suppress(OSError):
                idle = held.enter_context(socket.create_connection(("127.0.0.1", victim.port), PATIENCE))
                idle.sendall(PREFACE)
        assert victim.page("/healthz")[0] == victim.page("/metrics")[0] == 200
        call(trace_request(), timeout=PATIENCE, metadata=METADATA)
        assert victim.files() < 4_096 + 512
        assert victim.rss() - before < 150 * MEBIBYTE
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    deadline = time.monotonic() + PATIENCE * 2
    while victim.files() > 512:  # their ends are being noticed
        assert time.monotonic() < deadline
        victim.page("/healthz")
    well(victim)
