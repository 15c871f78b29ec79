"""The gRPC server: OTLP, health and reflection on one address, with bounds on everything that a client can
hold.

What it refuses: a caller who is no client, before anything of its request's body is read; to share its port or its
socket with another process, requests over 4 MiB (after decompression), metadata over 16 KiB, connections that never
speak HTTP/2 and more of those that do than it can bear, floods of pings, and a grpcio that inflates a compressed
request before it looks at the size.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc

from sidecar.configuration.settings import ConfigurationError
from sidecar.configuration.sockets import claim, leave
from sidecar.ledger import Ledger
from sidecar.network.address import Address
from sidecar.network.otlp import MAX_REQUEST_BYTES, SERVICES
from sidecar.wire import watchdog_pb2

from .admission import Admission
from .certificate import Certificate
from .exports import InFlight, handlers
from .patience import Patience
from .turns import PLACES, ROOM
from .visitors import Visitors

MINIMUM_GRPC: Final = (1, 84)
# One for each place and each request that waits for one, and a few that refuse the others at once. How many read
# bodies, and so the bytes in memory, is bounded by the places (`turns.py`).
EXPORT_THREADS: Final = PLACES + ROOM + 8
STREAM_THREADS: Final = 128  # one for each application under watch, and a few for `visitors.py`
BODY_SECONDS: Final = 10.0  # exporters give up by then
MAX_RPCS: Final = 512  # waiting ones cost little: nothing of their bodies has been read
MAX_CONNECTIONS: Final = 4096  # an idle one costs 15 kB
OTHER_FILES: Final = 512  # that the rest of the sidecar has open, the admin listener's connections among them
MAX_METADATA_BYTES: Final = 16 * 1024
KEY: Final = "TENANTSCOPE_LISTEN"

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.server_handshake_timeout_ms", 2_000),
    ("grpc.so_reuseport", 0),  # on by default: a second sidecar would silently take half of the telemetry
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # a minute by default, whatever the line above says
    ("grpc.keepalive_permit_without_calls", 1),
    # With it a connection may send all of a body before anybody has asked for it: 200 of them took 1.8 GB.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_connection_idle_ms", 60_000),  # exporters come back by themselves; streams are never idle
)
_WATCHDOG: Final = watchdog_pb2.DESCRIPTOR.services_by_name["Watchdog"].full_name
_SERVICES: Final = (*(service.name for service in SERVICES.values()), _WATCHDOG)


def refuse_unsafe_grpc(version: str = grpc.__version__) -> None:
    """Refuse a grpcio that a few kilobytes of gzip can make allocate half a gigabyte, from any caller.

    Raises:
        ConfigurationError: older than 1.84, or not a version at all.
    """
    try:
        found = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        found = ()
    if found < MINIMUM_GRPC:
        raise ConfigurationError(
            f"grpcio {version} inflates a gzip bomb before it checks the size of a request; "
            f"the sidecar needs grpcio 1.84 or newer, in an environment of its own"
        )


class Intake:
    """Takes OTLP in over gRPC.

    Args:
        listen: an address, or a Unix socket. admission: lets requests in. ledger: counts the answers. certificate:
        what TLS is served with; without one there is none. add_services: called with the server before it starts, to
        register what else is served on this address.
        body_seconds: how long the bytes of a request may take.
    """

    def __init__(
        self,
        listen: Address,
        admission: Admission,
        ledger: Ledger,
        certificate: Certificate | None = None,
        add_services: Sequence[Callable[[grpc.Server], None]] = (),
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._listen = listen
        self._certificate = certificate
        self._in_flight = InFlight()
        self._exports = ThreadPoolExecutor(EXPORT_THREADS, "export")
        self._streams = ThreadPoolExecutor(STREAM_THREADS, "stream")
        self._visitors = Visitors(_SERVICES)
        self._serving = False
        self._server = grpc.server(self._streams, options=(*_OPTIONS, _connections()), maximum_concurrent_rpcs=MAX_RPCS)
        self._patience = Patience(body_seconds)
        self._server.add_generic_rpc_handlers(
            handlers(admission, ledger, self._in_flight, self._exports, self._patience)
        )
        for add in add_services:
            add(self._server)
        self._visitors.add_to(self._server)
        self.address = listen

    def start(self) -> None:
        """Bind and serve; `address` has the real port afterwards.

        Raises:
            ConfigurationError: the address cannot be had.
        """
        self.address = self._bind()
        self._patience.start()
        self._server.start()
        self._visitors.serving()
        self._serving = True

    @property
    def ready(self) -> bool:
        """Whether exports are being taken."""
        return self._serving

    def stop(self, grace: float) -> None:
        """Refuse what is new, let running exports get their answers for `grace` seconds, cut off the rest."""
        serving, self._serving = self._serving, False
        self._visitors.closing()
        if serving:
            deadline = time.monotonic() + grace
            self._server.stop(grace)
            self._in_flight.wait_for_none(grace)
            # Streams last as long as their applications: they are not waited for.
            self._server.stop(0).wait(max(0.5, deadline - time.monotonic()))
        self._patience.stop()
        self._exports.shutdown(wait=False, cancel_futures=True)
        self._streams.shutdown(wait=False, cancel_futures=True)
        if serving:
            leave(self._listen)

    def _bind(self) -> Address:
        path = self._listen.path
        if path is not None:
            claim(path, KEY)
        try:
            if self._certificate is None:
                port = self._server.add_insecure_port(self._listen.target)
            else:
                port = self._server.add_secure_port(self._listen.target, self._certificate.credentials())
        except RuntimeError:
            port = 0
        if not port:
            raise ConfigurationError(f"{KEY}: cannot listen on {self._listen.target}; is another sidecar there?")
        if path is not None:
            path.chmod(0o600)
            return self._listen
        return Address(self._listen.host, port)


def _connections() -> tuple[str, int]:
    """As many as there may be, and never so many that none of the process's files is left for anything else."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return "grpc.max_allowed_incoming_connections", max(64, min(MAX_CONNECTIONS, files - OTHER_FILES))
