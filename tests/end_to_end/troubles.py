"""Everything that can go wrong with telemetry and alerts, going wrong at once, for real: what quiet panels wait for.

Two sidecars beside the one that works. `refused`: its upstream refuses everything for good, Alertmanager is broken,
the webhook refuses, redaction fails now and then, a tenant is over its quota, strangers take up its streams. `full`:
its upstream is away, its queue fills up, its client claims a tenant that is not its own, somebody else is no client
at all, and its worker is killed again and again.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import grpc
import otlp_peers
import programs
from alert_receiver import answer, running_receiver
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from programs import Sidecar
from stack import Stack, say

from sidecar.wire import watchdog_pb2 as wire

WATCH = "/tenantscope.watchdog.v1.Watchdog/Watch"
STREAMS = 101  # one more than there is room for
FAULTY = Path(__file__).with_name("faulty_sidecar.py")


def too_many_requests(handler: BaseHTTPRequestHandler) -> None:
    """What a model's provider answers to who asks too much."""
    answer(429, json.dumps({"error": {"message": "slow down"}}).encode(), Content_Type="application/json")(handler)


@contextmanager
def again_and_again(act: Callable[[], object], pause: float) -> Iterator[None]:
    """Do it in a thread until the end; that it is refused is what is wanted."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(pause):
            with suppress(grpc.RpcError, OSError):  # OSError: what is to be killed has gone
                act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def announce_what_is_not_there(target: str) -> None:
    """A loop whose cell nobody may read."""
    report = wire.Report(announce=wire.Announce(loop_id=1, service_name="ghost", pid=1, cell_path="/nowhere/cell"))
    with grpc.insecure_channel(target) as channel:
        list(channel.stream_stream(WATCH)(iter([report.SerializeToString()]), timeout=5))


@contextmanager
def silent_streams(target: str) -> Iterator[None]:
    """More streams than there is room for, none of which says anything; new ones come all the time."""
    done = threading.Event()

    def nothing() -> Iterator[bytes]:
        done.wait()
        return
        yield

    with grpc.insecure_channel(target) as channel:
        watch = channel.stream_stream(WATCH)
        calls = [watch(nothing()) for _ in range(STREAMS)]

        def one_more() -> None:
            calls.append(watch(nothing()))

        with again_and_again(one_more, 0.5):
            yield
        done.set()
        for call in calls:
            call.cancel()


@contextmanager
def refused(stack: Stack, address: str) -> Iterator[Sidecar]:
    """A sidecar that everybody refuses."""
    folder = stack.folder / "refused"
    folder.mkdir()
    limits = folder / "limits.toml"
    limits.write_text('[tiers.small]\nrecords = 0.001\n[tenants]\nflood = "small"\n')
    with ExitStack() as parts:
        upstream = parts.enter_context(otlp_peers.running_upstream())
        upstream.always = otlp_peers.refuse(grpc.StatusCode.INVALID_ARGUMENT)
        broken, refusing = parts.enter_context(running_receiver()), parts.enter_context(running_receiver())
        broken.always, refusing.always = answer(503), answer(400)
        sidecar = parts.enter_context(
            programs.sidecar(
                folder,
                (str(FAULTY),),
                ADMIN=address,
                UPSTREAM=upstream.url,
                ALERTMANAGER=broken.url,
                WEBHOOK=refusing.url,
                LIMITS=str(limits),
            )
        )
        spans = [otlp_peers.trace_request(n, tenant=who) for n, who in ((3, "acme"), (1, "saboteur"), (5, "flood"))]
        for each in spans:
            act = lambda each=each: otlp_peers.export(sidecar.listen, each)  # noqa: E731
            parts.enter_context(again_and_again(act, 0.3))
        child = parts.enter_context(stack.application("stalling-agents", sidecar))
        say(child, "block")
        yield sidecar


def kill_workers(sidecar: Sidecar) -> None:
    """As the kernel does when memory runs out."""
    for children in Path(f"/proc/{sidecar.process.pid}/task").glob("*/children"):
        for pid in children.read_text().split():
            os.kill(int(pid), signal.SIGKILL)


@contextmanager
def full(stack: Stack, address: str) -> Iterator[Sidecar]:
    """A sidecar whose queue fills up, and whose one client claims to speak for a tenant that it does not speak for."""
    folder = stack.folder / "full"
    folder.mkdir()
    token = "t" * 40
    clients = folder / "clients.yaml"
    digest = hashlib.sha256(token.encode()).hexdigest()
    scraper = hashlib.sha256(programs.SCRAPER.encode()).hexdigest()
    clients.write_text(
        f'clients:\n  partner:\n    tokens: ["sha256:{digest}"]\n    tenants: [acme]\n'
        f'  prometheus:\n    tokens: ["sha256:{scraper}"]\n    tenants: all\n'
    )
    (nobody,) = programs.free_ports(1)
    with programs.sidecar(
        folder,
        ADMIN=address,
        UPSTREAM=f"http://127.0.0.1:{nobody}",
        QUEUE_BYTES=str(16 << 20),
        CLIENTS_FILE=str(clients),
        WORKERS="1",
    ) as sidecar:
        many, some = otlp_peers.trace_request(20_000), otlp_peers.trace_request(1000)
        foreign = otlp_peers.trace_request(1, tenant="globex")

        def send(request: bytes) -> None:
            otlp_peers.export(sidecar.listen, request, metadata=[("authorization", f"Bearer {token}")])

        with suppress(grpc.RpcError):
            while True:
                send(many)
        stranger = again_and_again(lambda: otlp_peers.export(sidecar.listen, some), 0.5)
        with (
            again_and_again(lambda: send(some), 0.5),
            again_and_again(lambda: send(foreign), 0.5),
            stranger,
            again_and_again(lambda: kill_workers(sidecar), 3),
        ):
            yield sidecar


@contextmanager
def everything_goes_wrong(stack: Stack) -> Iterator[None]:
    """All of it, until the end. The last of the scraped addresses stays without a sidecar."""
    with ExitStack() as parts:
        model = parts.enter_context(running_receiver())
        model.always = too_many_requests
        with stack.application("short-lived-agents"):
            messages = 'sum(rate(autogen_messages_total{job="short-lived-agents"}[3s])) > 0'
            stack.prometheus.see(messages, 60)
        # No room for more than one span: the library drops the others and says so.
        tight = {"OTEL_BSP_MAX_QUEUE_SIZE": "1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"}
        child = parts.enter_context(stack.application("troubled-agents", model_url=model.url, **tight))
        for word in ("block", "fail"):
            say(child, word)
        # No trouble, but nothing of the demo either.
        say(parts.enter_context(stack.application("handing-agents")), "hand")
        listen = stack.sidecar.listen
        misshapen = ExportTraceServiceRequest()
        misshapen.resource_spans.add().scope_spans.add().spans.add(trace_id=b"short", span_id=b"short")
        parts.enter_context(again_and_again(lambda: otlp_peers.export(listen, misshapen.SerializeToString()), 0.3))
        parts.enter_context(again_and_again(lambda: announce_what_is_not_there(listen), 0.3))
        troubled = parts.enter_context(refused(stack, stack.others[0]))
        parts.enter_context(silent_streams(troubled.listen))
        parts.enter_context(full(stack, stack.others[1]))
        yield
