"""Callers that mean harm to a real sidecar in a process of its own: it stays small, and there for the others."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc
import pytest
from otlp_peers import PATIENCE, export, trace_request

from sidecar.network.otlp import SERVICES
from sidecar.senders.clients import new_token

TOKEN, DIGEST = new_token()
METADATA = [("authorization", f"Bearer {TOKEN}")]
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # and empty settings
PING: Final = bytes((0, 0, 8, 6, 0, 0, 0, 0, 0)) + b"pingping"
CONNECTIONS: Final = 6_000
MEBIBYTE: Final = 1024


class Victim:
    """A sidecar with a list of clients."""

    def __init__(self, process: subprocess.Popen[str], line: str) -> None:
        self._process = process
        self.port = int(re.search(r"listen=\S+:(\d+)", line).group(1))
        self.admin = int(re.search(r"admin=http://\S+:(\d+)", line).group(1))
        self.target = f"127.0.0.1:{self.port}"

    def rss(self) -> int:
        """KiB."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self._process.pid}/status").read_text()).group(1))

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))  # noqa: PTH208  # numbers, not paths

    def page(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=dict(METADATA))
            response = connection.getresponse()
            return response.status, response.read().decode()

    def refused(self, reason: str) -> float:
        found = re.search(
            rf'requests_refused_total{{reason="{reason}",signal="traces"}} (\S+)', self.page("/metrics")[1]
        )
        return 0.0 if found is None else float(found.group(1))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder = tmp_path_factory.mktemp("victim")
    (folder / "clients").write_text(f"clients: {{billing: {{tenants: all, tokens: ['{DIGEST}']}}}}")
    command = [
        sys.executable, "-m", "sidecar", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
        "--state-dir", str(folder / "state"), "--clients-file", str(folder / "clients"),
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TENANTSCOPE_")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        line = ""
        while 'event="sidecar ready"' not in line:
            line = process.stderr.readline()
            assert line, "it ended before it was ready"
        yield Victim(process, line)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def well(victim: Victim) -> None:
    """Whoever is a client is served, and the operator can look."""
    assert export(victim.target, trace_request(), metadata=METADATA) == b""
    assert victim.page("/readyz")[0] == 200


def test_a_bomb_from_a_stranger_costs_no_memory(victim: Victim) -> None:
    """128 MiB of zeros, in a hundredth of that: refused before it is read, let alone inflated."""
    well(victim)
    before = victim.rss()
    options = (("grpc.max_send_message_length", -1),)
    with grpc.insecure_channel(victim.target, options, compression=grpc.Compression.Gzip) as channel:
        call = channel.unary_unary(SERVICES["traces"].method, None, None)
        with pytest.raises(grpc.RpcError) as refused:
            call(bytes(128 << 20), timeout=PATIENCE * 2)
        assert refused.value.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)
        with pytest.raises(grpc.RpcError) as refused:
            call(bytes(128 << 20), timeout=PATIENCE * 2, metadata=METADATA)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert victim.rss() - before < 32 * MEBIBYTE
    well(victim)


def test_two_million_empty_resources_are_refused_by_reason(victim: Victim) -> None:
    """4 MiB of them, again and again; others are served, and nothing is left of it."""
    well(victim)
    before = victim.refused("limits")
    empty = b"\x0a\x00" * 2_000_000
    for _ in range(5):
        with pytest.raises(grpc.RpcError) as refused:
            export(victim.target, empty, metadata=METADATA)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert victim.refused("limits") - before == 5
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
        call = channel.unary_unary(SERVICES["traces"].method, None, None)
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
