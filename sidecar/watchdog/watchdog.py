"""The watchdog's threads: one that polls, and the gRPC service through which applications announce their loops."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from queue import Empty
from typing import Any, Final, NoReturn

import grpc
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from sidecar import conventions
from sidecar.alerts import Alerts
from sidecar.pulse import Pulse
from sidecar.senders.clients import Caller, Clients, Unknown, shown_by
from sidecar.wire import CONNECTED
from sidecar.wire import watchdog_pb2 as wire
from sidecar.wire.limits import Limits

from .bell import Bell, be_quick, come_first
from .holders import Shown
from .parties import party_of
from .poll import Poll
from .room import Room
from .stacks import Answer, Asked, Found, ask
from .stream import ClosedError, Stream
from .tenants import TenantWatch

#: A poller that has not looked for so long is not watching.
PULSE_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 0.25
_SWEEP_NS: Final = 1_000_000_000
_NOBODY: Final = "unknown"
#: How often it is looked whether an application that is connected may still be.
_RENEW_SECONDS: Final = 1.0

_log: Final = structlog.get_logger("sidecar.watchdog")


class Watchdog:
    """Watches the event loops of every application that announces them.

    Args:
        stall_ns: how long a slice may last before it is a stall.
        alerts: told of every stall, twice: while it lasts, and when it is over.
        registry: gets the number of loops under watch, of refused cells and of refused streams.
        clock: nanoseconds of `CLOCK_MONOTONIC`, the clock of the cells.
        poll_seconds: between two looks at a loop that is stalled.
        runbook_url: base URL for the alerts, or empty.
        shown: how a tenant's id is shown to people: what the policy masks in telemetry is not to be read here.
        limits: targets of tenants; None: nobody has one.
        wall: the present time, for the alerts.
        clients: who may announce loops, and for which tenants; everybody without.
        pulse: is told of every look.
    """

    def __init__(
        self,
        stall_ns: int,
        alerts: Alerts,
        registry: CollectorRegistry,
        clock: Callable[[], int] = time.monotonic_ns,
        poll_seconds: float = 0.002,
        runbook_url: str = "",
        shown: Shown = str,
        limits: Limits | None = None,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        clients: Clients | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self._clients = clients or Clients(None)
        self._shown = shown
        spec = conventions.ALERTS_WITHHELD
        withheld = Counter(spec.name, spec.description, spec.labels, registry=registry)
        self._tenants = TenantWatch(limits, wall, runbook_url, lambda name: withheld.labels(name).inc())
        self._poll = Poll(stall_ns, runbook_url, tenants=self._tenants, wall=wall, ask=self._ask)
        self._alerts = alerts
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._loops = Gauge(conventions.LOOPS.name, conventions.LOOPS.description, registry=registry)
        self._loops.set_function(lambda: len(self._poll))
        refused = conventions.CELLS_REFUSED
        self._refused = Counter(refused.name, refused.description, refused.labels, registry=registry)
        beats = conventions.HEARTBEATS_REFUSED
        self._disbelieved = Counter(beats.name, beats.description, beats.labels, registry=registry)
        self._room = Room(registry)
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._news = Bell()
        self._sweep_at = 0
        self._pulse = pulse or Pulse(PULSE_SECONDS)

    def use(self, limits: Limits | None) -> None:
        """Go by another table of limits from now on."""
        self._tenants.use(limits)

    def start(self) -> None:
        """Begin to poll."""
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Poll no more. Stalls that last are left as they are: the watchdog can't tell how they end."""
        self._stopping = True
        self._news.ring()
        if self._thread is not None:
            self._thread.join()

    @property
    def ready(self) -> bool:
        """Whether the poller runs, and looked within the last second."""
        return self._thread is not None and self._thread.is_alive() and self._pulse.in_time

    def loops(self) -> list[dict[str, Any]]:
        """The loops under watch, as in `/status`."""
        return self._poll.loops(self._clock())

    def stalls(self) -> list[dict[str, Any]]:
        """The last 256 stalls, newest last, as in `/status`."""
        return self._poll.stalls(self._clock())

    def add_to(self, server: grpc.Server) -> None:
        """Register the service; before the server starts."""
        service = wire.DESCRIPTOR.services_by_name["Watchdog"].full_name
        # Raw bytes: a generated servicer answers INTERNAL to what it cannot parse, and logs a traceback.
        handler = grpc.stream_stream_rpc_method_handler(self._watch)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Watch": handler}),))

    def _stopped(self) -> bool:
        return self._stopping

    def _run(self) -> None:
        come_first()
        while not self._stopped():
            try:
                now = self._clock()
                for alert in self._poll.step(now):
                    self._alerts.submit(alert)
                if now >= self._sweep_at:
                    self._sweep_at = now + _SWEEP_NS
                    self._room.end_silent(now)
                be_quick(watching=len(self._poll) > 0)
                self._pulse.beat()
            except Exception as error:  # noqa: BLE001  # nothing may end the watch
                _log.error("a look at the loops failed", error=type(error).__name__)
                time.sleep(_IDLE_SECONDS)
            next_look = self._poll.next_look
            pause = _IDLE_SECONDS if next_look is None else (next_look - self._clock()) / 1e9
            self._news.wait(pause if pause > 0 else self._poll_seconds)
        be_quick(watching=False)

    def _ask(self, asked: Asked, answer: Answer) -> None:
        """An alert may be waiting for it."""

        def answered(found: Found) -> None:
            answer(found)
            self._news.ring()

        ask(asked, answered)

    def _watch(self, reports: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            caller = Caller(self._clients, *shown_by(context))
        except Unknown:
            self._turn_away(context)
        stream = Stream(
            self._poll,
            lambda reason: self._refused.labels(reason).inc(),
            lambda reason: self._disbelieved.labels(reason).inc(),
            self._news.ring,
            # A client that names a tenant it does not speak for accuses nobody.
            lambda tenant: self._shown(tenant) if caller.client.speaks_for(tenant) else _NOBODY,
            self._clock,
            party_of(caller.client),
        )
        try:
            self._room.enter(stream, self._clock())
        except ClosedError as closed:
            context.abort(closed.code, str(closed))
        try:
            if context.add_callback(stream.end):
                context.send_initial_metadata(((CONNECTED, "1"),))
                reader = threading.Thread(target=_read, args=(reports, stream), name="watch-reader", daemon=True)
                reader.start()
                yield from self._told(stream, caller)
        except ClosedError as closed:
            context.abort(closed.code, str(closed))
        except Unknown:
            self._turn_away(context)
        finally:
            stream.end()
            self._room.leave(stream)

    def _told(self, stream: Stream, caller: Caller) -> Iterator[bytes]:
        """What the application is told, until its stream ends. Raises ClosedError, and Unknown as soon as it is."""
        looked = time.monotonic()
        while True:
            with contextlib.suppress(Empty):
                message = stream.outbox.get(timeout=_RENEW_SECONDS)
                if message is None:
                    return
                if isinstance(message, ClosedError):
                    raise message
                yield message
            if time.monotonic() - looked >= _RENEW_SECONDS:
                caller.look()
                looked = time.monotonic()

    def _turn_away(self, context: grpc.ServicerContext) -> NoReturn:
        self._room.unauthenticated(self._clock())
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid credentials")
        raise AssertionError("abort always raises")


def _read(reports: Iterator[bytes], stream: Stream) -> None:
    """Take the reports of one stream until it ends; what it yields is in `stream.outbox`."""
    try:
        for raw in reports:
            stream.take(raw)
    except ClosedError as closed:
        stream.outbox.put(closed)
    except Exception:  # noqa: BLE001, S110  # how gRPC tells the reader that the client is gone
        pass
    stream.end()
