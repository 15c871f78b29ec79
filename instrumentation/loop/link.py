"""The link to the watchdog: one gRPC stream for the process, kept by a daemon thread.

Says where the cells are, sends heartbeats (see `relay`), and passes on the watchdog's wish that stacks be left for it
while it cannot read them. Without a sidecar, or refused by it, it retries quietly: one log line, a count, more and more
seldom. While there is no loop it does not try: the watchdog has no room for streams that announce none.

What it refuses: to keep the process alive, to log through the application, to use a channel that a parent process made.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any, Final
from urllib.parse import urlsplit

import grpc

from instrumentation import chance, channels, credentials
from instrumentation.diagnostics import count, fault, log
from sidecar.wire import CONNECTED, process
from sidecar.wire import watchdog_pb2 as wire

from .account import Account
from .relay import Relay

_WATCH: Final = f"/{wire.DESCRIPTOR.services_by_name['Watchdog'].full_name}/Watch"
FIRST_DELAY: Final = 0.25  # seconds
LONGEST_DELAY: Final = 10.0
# The watchdog is there, and cannot watch this process: to come back at once would change nothing.
_REFUSED: Final = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED)
_WAKE: Final = wire.Report()  # in the outbox: there may be a heartbeat to send
_OPTIONS: Final = (("grpc.enable_retries", 0), ("grpc.keepalive_time_ms", 20_000))


class Backoff:
    """How long to wait before the next try: twice as long each time, less up to a half of it.

    The processes of a host must not come back to a restarted sidecar all at once.
    """

    def __init__(self) -> None:
        self._next = FIRST_DELAY

    def reset(self) -> None:
        """It worked."""
        self._next = FIRST_DELAY

    def delay(self) -> float:
        """Seconds, this time."""
        delay, self._next = self._next, min(LONGEST_DELAY, self._next * 2)
        return delay * chance.between(0.5, 1.0)


class Link:
    """Keeps the watchdog informed about the loops that `accounts` yields.

    Args:
        endpoint: `http://host:port`, `https://host:port` or `unix:...`.
        accounts: the loops of this process, by id.
        unreadable: told the threshold of a stall, in nanoseconds, and the watchdog's pid, when the watchdog cannot read
            this process's memory; and twice 0 when it can, or is gone.
        backoff: how long to wait between two tries.
    """

    def __init__(
        self,
        endpoint: str,
        service_name: str,
        instance: str,
        accounts: Callable[[], dict[int, Account]],
        unreadable: Callable[[int, int], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._service_name = service_name
        self._instance = instance
        self._accounts = accounts
        self._unreadable = unreadable
        self._backoff = backoff or Backoff()
        self._outbox: SimpleQueue[wire.Report | None] | None = None
        self._call: Any = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._stopping = threading.Event()
        self._needed = threading.Event()
        self._connected = False
        self._inherited: Any = None

    def announce(self, account: Account) -> None:
        """Tell of a loop; the first one starts the thread."""
        self._put(self._announcement(account))
        self._needed.set()
        with self._starting:
            if self._thread is None and not self._stopping.is_set():
                thread = threading.Thread(target=self._run, name="tenantscope-link", daemon=True)
                try:
                    thread.start()
                    self._thread = thread
                except RuntimeError as error:  # there are no more threads; the next loop tries again
                    fault("link", error)

    def withdraw(self, loop_id: int) -> None:
        """Tell that a loop was closed. Takes no lock: a finalizer may call it."""
        self._put(wire.Report(withdraw=wire.Withdraw(loop_id=loop_id)))

    def stop(self, timeout: float) -> None:
        """End the stream in good order, within `timeout` seconds."""
        self._stopping.set()
        self._needed.set()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        self._put(None)
        thread.join(timeout / 2)
        call = self._call
        if thread.is_alive() and call is not None:
            call.cancel()
            thread.join(timeout / 2)

    def forget(self) -> None:
        """In a forked child: the thread did not come along, and the parent's channel must not even be closed."""
        self._inherited = (self._call, self._outbox)
        self._call = self._outbox = self._thread = None
        self._starting = threading.Lock()
        self._needed = threading.Event()
        self._stopping = threading.Event()
        self._stopping.set()

    def _put(self, report: wire.Report | None) -> None:
        outbox = self._outbox
        if outbox is not None:
            outbox.put(report)

    def _run(self) -> None:
        said = False
        while self._wanted():
            self._connected = False
            try:
                self._talk()
            except grpc.RpcError as error:  # refused, cut off, or stopped
                if isinstance(error, grpc.Call) and error.code() in _REFUSED:
                    self._connected = False
                error.__traceback__ = None  # what is raised is the call, which its own frames know
            except Exception as error:
                fault("link", error)
            if self._connected:
                self._backoff.reset()
                said = False
            if self._stopping.is_set():
                return
            count("link.lost")
            if not said:
                said = True
                log.info("no watchdog at the endpoint for this process, will go on trying", endpoint=self._endpoint)
            self._stopping.wait(self._backoff.delay())

    def _wanted(self) -> bool:
        """Wait until there is a loop to tell of; False when the link is to stop."""
        self._needed.clear()
        if not self._accounts() and not self._stopping.is_set():
            self._needed.wait()
        return not self._stopping.is_set()

    def _talk(self) -> None:
        """One stream, from its opening to its end."""
        with _channel(self._endpoint) as channel:
            outbox: SimpleQueue[wire.Report | None] = SimpleQueue()
            self._outbox = outbox
            # Loops that were adopted since are announced twice, which changes nothing.
            for account in self._accounts().values():
                outbox.put(self._announcement(account))
            watch = channel.stream_stream(
                _WATCH,
                request_serializer=wire.Report.SerializeToString,
                response_deserializer=wire.Directive.FromString,
            )
            relay = Relay(self._accounts)
            self._call = watch(self._reports(outbox, relay), metadata=credentials.headers())
            try:
                # Waits until the other side is there, or is known not to be: then there is no metadata.
                metadata = dict(self._call.initial_metadata() or ())
                self._connected = CONNECTED in metadata
                for directive in self._call:
                    if directive.HasField("leave_stacks"):
                        wish = directive.leave_stacks
                        self._unreadable(wish.stall_ns, wish.watchdog_pid)
                    elif directive.HasField("relay"):
                        relay.ask(directive.relay.loop_id, directive.relay.stall_ns)
                        outbox.put(_WAKE)
            finally:
                self._outbox = None
                outbox.put(None)
                self._call = None
                self._unreadable(0, 0)

    def _reports(self, outbox: SimpleQueue[wire.Report | None], relay: Relay) -> Iterator[wire.Report]:
        while True:
            try:
                report = outbox.get(timeout=relay.pause())
            except Empty:  # what was put before `stop` has been sent
                if self._stopping.is_set():
                    return
                report = _WAKE
            if report is None:
                return
            if report.HasField("withdraw"):
                goodbye = relay.goodbye(report.withdraw.loop_id)
                if goodbye is not None:
                    yield goodbye
            if report is not _WAKE:
                yield report
            heartbeat = relay.heartbeat()
            if heartbeat is not None:
                yield heartbeat

    def _announcement(self, account: Account) -> wire.Report:
        return wire.Report(
            announce=wire.Announce(
                loop_id=account.loop_id,
                service_name=self._service_name,
                instance=self._instance,
                pid=os.getpid(),
                host=socket.gethostname(),
                cell_path=str(account.cell.path or ""),
                clock=process.clock(),
                pid_namespace=process.pid_namespace(),
            )
        )


def _channel(endpoint: str) -> grpc.Channel:
    channels.opening()
    if endpoint.startswith("unix:"):
        return grpc.insecure_channel(endpoint, _OPTIONS)
    parts = urlsplit(endpoint)
    if parts.scheme == "https":
        return grpc.secure_channel(parts.netloc, credentials.for_channel(), _OPTIONS)
    return grpc.insecure_channel(parts.netloc, _OPTIONS)
