"""The HTTP server: OTLP/HTTP on an address of its own, for those who do not speak gRPC.

A thread for each connection, and a bounded number of connections: when all places are taken, the connection that has
waited the longest without having a request is cut off, so that nobody who opens connections and says nothing keeps
others out. Requests go through the same admission as gRPC's. Heads, bodies, handshakes and idleness have deadlines,
counted from their first byte to their last; a trickle extends none of them.

What it refuses: a caller who is no client, before anything of its body is read; JSON; bodies over 4 MiB, as they are or
inflated; heads over 16 KiB; requests of web pages, which send an `Origin`; and to share its port.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from typing import Final

import structlog

from sidecar.configuration.sockets import is_about_one, leave, listen
from sidecar.ledger import Ledger
from sidecar.network.address import Address

from .admission import Admission
from .certificate import Certificate
from .http_connection import Connection, Seconds
from .verdicts import Verdicts

KEY: Final = "TENANTSCOPE_LISTEN_HTTP"
MAX_CONNECTIONS: Final = 128
_BACKLOG: Final = 128
_PAUSE_SECONDS: Final = 0.1

log = structlog.get_logger("sidecar.intake")


class HttpIntake:
    """Takes OTLP/HTTP in.

    Args:
        listen: an address, or a Unix socket. admission: who is let in. ledger: counts the answers. certificate: what
        TLS is served with; without one there is none. seconds: how long a client may take for what.
        most: connections at once.
    """

    def __init__(
        self,
        listen: Address,
        admission: Admission,
        ledger: Ledger,
        certificate: Certificate | None = None,
        seconds: Seconds | None = None,
        most: int = MAX_CONNECTIONS,
    ) -> None:
        self._listen = listen
        self._verdicts = Verdicts(admission, ledger)
        self._certificate = certificate
        self._seconds = seconds or Seconds()
        self._most = most
        self._changed = threading.Condition()
        self._open: dict[Connection, None] = {}  # in the order of arrival
        self._stopping = threading.Event()
        self._serving = False
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._accept, name="http intake", daemon=True)
        self.address = listen

    def start(self) -> None:
        """Bind and serve; `address` has the real port afterwards.

        Raises:
            ConfigurationError: the address cannot be had.
        """
        self._socket, self.address = listen(self._listen, KEY, _BACKLOG)
        self._serving = True
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether exports are being taken."""
        return self._serving

    @property
    def connections(self) -> int:
        """How many are open."""
        with self._changed:
            return len(self._open)

    def stop(self, grace: float) -> None:
        """Take no new requests, let running ones get their answers for `grace` seconds, cut off the rest."""
        self._serving = False
        self._stopping.set()
        deadline = time.monotonic() + grace
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes up who waits for connections
            self._socket.close()
            self._thread.join()
            leave(self._listen)
        with self._changed:
            for connection in list(self._open):
                if not connection.busy:
                    connection.cut()
            self._changed.wait_for(lambda: not self._open, max(0.0, deadline - time.monotonic()))
            for connection in list(self._open):
                connection.cut()
            self._changed.wait_for(lambda: not self._open, 1.0)

    # Threads ------------------------------------------------------------------------------------------------
    def _accept(self) -> None:
        listening, numbers = self._socket, itertools.count()
        while listening is not None and not self._stopping.is_set():
            try:
                accepted, peer = listening.accept()
            except OSError as error:
                if not is_about_one(error):
                    self._stopping.wait(_PAUSE_SECONDS)
                continue
            # At a Unix socket nobody has an address: connections are told apart by their numbers.
            name = f"http:{peer[0]}:{peer[1]}" if self.address.path is None else f"http:{next(numbers)}"
            connection = Connection(accepted, name, self._verdicts, self._certificate, self._seconds, self._stopping)
            if not self._make_room(connection):
                accepted.close()
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), name="http", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads
                self._leave(connection)
                accepted.close()

    def _make_room(self, connection: Connection) -> bool:
        with self._changed:
            if len(self._open) >= self._most:
                waiting = min((c for c in self._open if not c.busy), key=lambda c: c.since, default=None)
                if waiting is None:
                    return False  # all of them are clients of ours with a request: this one may try again
                del self._open[waiting]
                waiting.cut()
            self._open[connection] = None
            return True

    def _serve(self, connection: Connection) -> None:
        try:
            connection.run()
        finally:
            self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        with self._changed:
            self._open.pop(connection, None)
            self._changed.notify_all()
