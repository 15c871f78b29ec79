"""A real sidecar in a process of its own, and what callers do to it: as small as a test wants it, as large as the soak.

Each attack returns what the kernel counted; what must hold whatever its size is asserted here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import grpc
import pytest
from otlp_peers import PATIENCE, attributes, export, trace_request

from sidecar.network.otlp import SERVICES
from sidecar.redaction.policy import shipped_file
from sidecar.senders.clients import new_token

TOKEN, DIGEST = new_token()
METADATA = [("authorization", f"Bearer {TOKEN}")]
TRACES: Final = SERVICES["traces"]
MEBIBYTE: Final = 1024  # in KiB
_AGAIN: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_SIZE: Final = "autogen.tool.result.size: {type: int, min: 0, max: 10000000}"
LIMITS: Final = 'default = "standard"\n[tiers.standard]\nrecords = 1000000\nburst = 10\n'


class Victim:
    """A sidecar with a list of clients, a quota for every tenant, and a policy in a file; it stores what it takes."""

    def __init__(self, process: subprocess.Popen[str], line: str, policy: Path) -> None:
        self.process = process
        self.policy = policy
        self.port = int(re.search(r"listen=\S+:(\d+)", line).group(1))
        self.admin = int(re.search(r"admin=http://\S+:(\d+)", line).group(1))
        self.target = f"127.0.0.1:{self.port}"

    def rss(self, key: str = "VmRSS") -> int:
        """KiB; with `VmHWM` the most since `forget_peak`."""
        return int(re.search(rf"{key}:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text()).group(1))

    def forget_peak(self) -> int:
        """`VmHWM` begins anew; KiB now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.rss()

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208  # numbers, not paths

    def page(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE * 2)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=dict(METADATA))
            response = connection.getresponse()
            return response.status, response.read().decode()

    def status(self) -> dict[str, Any]:
        return json.loads(self.page("/status")[1])

    def refused(self, reason: str) -> float:
        found = re.search(
            rf'requests_refused_total{{reason="{reason}",signal="traces"}} (\S+)', self.page("/metrics")[1]
        )
        return 0.0 if found is None else float(found.group(1))

    def settled(self) -> dict[str, int]:
        """What became of all spans: nothing waits any more, and every one is accounted."""

        counts = self.status()["records"]["traces"]
        while waiting := counts["queued"]:
            counts = waited(lambda: (now := self.status()["records"]["traces"])["queued"] < waiting and now)
        met = counts["forwarded"] + counts["rejected"] + counts["dropped"]
        assert counts["received"] + counts["recovered"] == met, counts
        return counts


@contextmanager
def victim(folder: Path) -> Iterator[Victim]:
    """One that is ready; killed in the end, and alive until then."""
    clients, limits, policy = folder / "clients", folder / "limits.toml", folder / "policy.yaml"
    clients.write_text(f"clients: {{billing: {{tenants: all, tokens: ['{DIGEST}']}}}}")
    limits.write_text(LIMITS)
    policy.write_bytes(shipped_file("default.yaml"))
    command = [
        sys.executable, "-m", "sidecar", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state-dir",
        str(folder / "state"), "--clients-file", str(clients), "--limits", str(limits), "--policy", str(policy),
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TENANTSCOPE_")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    rest = threading.Thread(target=process.stderr.read)
    try:
        line = ""
        while 'event="sidecar ready"' not in line:
            line = process.stderr.readline()
            assert line, "it ended before it was ready"
        rest.start()
        yield Victim(process, line, policy)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        if rest.ident is not None:
            rest.join()
        process.stderr.close()


def waited(condition: Callable[[], Any], seconds: float = PATIENCE * 6) -> Any:
    """What the condition says, as soon as it says anything."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


def well(sidecar: Victim) -> None:
    """Whoever is a client is served, and the operator can look."""
    assert export(sidecar.target, trace_request(), metadata=METADATA) == b""
    assert sidecar.page("/readyz")[0] == 200


class Senders:
    """Threads that send all the time, each what it has to send until it is taken, as exporters do.

    Args:
        pause: seconds after each request.

    Attributes:
        taken: requests that were acknowledged. longest: seconds that one had to wait for it.
    """

    def __init__(self, sidecar: Victim, payload: bytes, threads: int = 3, pause: float = 0.0) -> None:
        self.taken = 0
        self.longest = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(sidecar, payload, pause)) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, sidecar: Victim, payload: bytes, pause: float) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        with grpc.insecure_channel(sidecar.target, options) as channel:
            call = channel.unary_unary(TRACES.method, None, None)
            while not self._stop.is_set():
                begun = time.monotonic()
                until_taken(call, payload, self._stop.is_set)
                with self._lock:
                    self.taken += 1
                    self.longest = max(self.longest, time.monotonic() - begun)
                self._stop.wait(pause)


def until_taken(call: Any, payload: bytes, give_up: Callable[[], bool] = lambda: False) -> None:
    """Send it until it is taken; only what exporters try again is tried again."""
    deadline = time.monotonic() + PATIENCE * 12
    while not give_up():
        try:
            call(payload, timeout=PATIENCE, metadata=METADATA)
        except grpc.RpcError as error:
            if error.code() not in _AGAIN or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


# Attacks ----------------------------------------------------------------------------------------------------
def bomb(sidecar: Victim, size: int) -> int:
    """So many zeros in a hundredth of that, from a stranger and from a client: refused; KiB at most meanwhile."""
    before = sidecar.forget_peak()
    options = (("grpc.max_send_message_length", -1),)
    with grpc.insecure_channel(sidecar.target, options, compression=grpc.Compression.Gzip) as channel:
        call = channel.unary_unary(TRACES.method, None, None)
        for metadata, codes in (
            (None, (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)),
            (METADATA, (grpc.StatusCode.RESOURCE_EXHAUSTED,)),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(bytes(size), timeout=PATIENCE * 6, metadata=metadata)
            assert refused.value.code() in codes
    return sidecar.rss("VmHWM") - before


def nothings(sidecar: Victim, requests: int) -> int:
    """Requests of two million empty resources each: refused, with the reason; KiB at most meanwhile."""
    refused, before = sidecar.refused("limits"), sidecar.forget_peak()
    for _ in range(requests):
        with pytest.raises(grpc.RpcError) as error:
            export(sidecar.target, b"\x0a\x00" * 2_000_000, metadata=METADATA)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sidecar.refused("limits") - refused == requests
    return sidecar.rss("VmHWM") - before


def bodies(sidecar: Victim, connections: int) -> int:
    """Large requests from so many connections at once, of which a few have a place: KiB at most meanwhile."""
    request = TRACES.request()
    scope = request.resource_spans.add().scope_spans.add()
    for _ in range(8_000):
        scope.spans.add(name="process writer", attributes=attributes({"message": "x" * 450}))
    payload = request.SerializeToString()
    before = sidecar.forget_peak()
    with contextlib.ExitStack() as opened:
        calls = []
        for _ in range(connections):
            options = (("grpc.use_local_subchannel_pool", 1),)
            channel = opened.enter_context(grpc.insecure_channel(sidecar.target, options))
            call = channel.unary_unary(TRACES.method, None, None)
            calls.append(call.future(payload, timeout=PATIENCE, metadata=METADATA))
        for call in calls:
            with contextlib.suppress(grpc.RpcError):
                call.result()
        # Served, or put off; nobody is refused for good.
        assert {call.code() for call in calls} <= {grpc.StatusCode.OK, *_AGAIN}
    return sidecar.rss("VmHWM") - before


def said(number: int, of: int, what: str) -> None:
    """How far a long one is, tenth by tenth."""
    if of >= 100 and number * 10 % of == 0:
        print(f"  {number:,} of {of:,} {what}", flush=True)


def crowd(sidecar: Victim, tenants: int, each: int = 500) -> tuple[int, int]:
    """A span of each of so many tenants; KiB after the first tenth, and after the last one."""
    early = 0
    with grpc.insecure_channel(sidecar.target) as channel:
        call = channel.unary_unary(TRACES.method, None, None)
        for start in range(0, tenants, each):
            until_taken(call, _spans(range(start, start + each)))
            said(start + each, tenants, "tenants")
            if not early and start >= tenants / 10:
                sidecar.page("/metrics"), sidecar.page("/status")
                early = sidecar.rss()
    assert len(sidecar.page("/metrics")[1]) + len(sidecar.page("/status")[1]) < 2 * 1024 * 1024
    return early, sidecar.rss()


def _spans(tenants: range) -> bytes:
    request = TRACES.request()
    scope = request.resource_spans.add().scope_spans.add()
    for tenant in tenants:
        scope.spans.add(
            trace_id=os.urandom(16),
            span_id=os.urandom(8),
            name="process writer",
            attributes=attributes({"tenant.id": f"customer-{tenant:09}", "autogen.message.outcome": "ok"}),
        )
    payload: bytes = request.SerializeToString()
    return payload


def reloads(sidecar: Victim, times: int) -> tuple[int, int]:
    """SIGHUP with another policy each time, under load: KiB before, after. Each record is under one of them."""
    text, before, seen = sidecar.policy.read_text(), 0, {sidecar.status()["policy"]["digest"]}
    assert _SIZE in text
    with Senders(sidecar, trace_request(40), pause=0.02) as senders:
        for number in range(times):
            taken = senders.taken
            sidecar.policy.write_text(text.replace(_SIZE, _SIZE.replace("10000000", str(1_000_000 + number))))
            sidecar.process.send_signal(signal.SIGHUP)
            seen.add(waited(lambda: (now := sidecar.status()["policy"]["digest"]) not in seen and now))
            waited(lambda: senders.taken > taken)  # noqa: B023  # called before the next round
            said(number + 1, times, "reloads")
            if number == times // 10:
                before = sidecar.rss()
    sidecar.policy.write_text(text)
    assert not sidecar.status()["policy"]["stale"]
    return before, sidecar.rss()


def stopped(sidecar: Victim, seconds: float) -> float:
    """SIGSTOP under load for so long, then SIGCONT: seconds until a request is taken again. Nothing is alerted."""
    alerts = len(sidecar.status()["alerts"])
    with Senders(sidecar, trace_request(40), pause=0.02) as senders:
        waited(lambda: senders.taken > 10)
        sidecar.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        taken, begun = senders.taken, time.monotonic()
        sidecar.process.send_signal(signal.SIGCONT)
        waited(lambda: senders.taken > taken)
        back = time.monotonic() - begun
        waited(lambda: sidecar.page("/readyz")[0] == 200)
        assert sidecar.page("/healthz")[0] == 200
    assert len(sidecar.status()["alerts"]) == alerts
    return back
