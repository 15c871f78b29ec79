"""The hops that a span takes, each a question: does it get through here? The first one that fails explains the others.

What it refuses: to change anything but to send a few spans of its own (for the tenant `tenantscope-doctor`), to wait
for an answer longer than a few seconds, and to show a token.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2

from instrumentation import credentials
from instrumentation.settings import ConfigurationError, Settings
from sidecar.network.otlp import SERVICES
from sidecar.wire import watchdog_pb2
from tenantscope.view.client import Admin, NoAnswerError, StrangerError
from tenantscope.view.status import Loop, Status

from .patient import SERVICE, TENANT, live

_SECONDS: Final = 3.0  # for each answer
_DELIVERY_SECONDS: Final = 8.0  # longer than the longest wait between two attempts of the forwarder
_WATCHDOG: Final = watchdog_pb2.DESCRIPTOR.services_by_name["Watchdog"].full_name


class Failed(Exception):  # noqa: N818  # a verdict, not an error
    """The way ends here.

    Attributes:
        why: for people. advice: what to do, a line or more.
    """

    def __init__(self, why: str, *advice: str) -> None:
        super().__init__(why)
        self.why = why
        self.advice = advice


@dataclass
class Visit:
    """What one hop found out and the next one needs.

    Attributes:
        endpoint, admin: where the application sends, and where the sidecar is asked.
        clock, wait: seconds, and a pause; for tests.
    """

    endpoint: str | None
    admin: Admin
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep
    settings: Settings = field(default_factory=Settings)
    forwarded: dict[str, int] = field(default_factory=dict)

    def until(self, seconds: float, found: Callable[[], bool]) -> bool:
        """Whether `found` becomes true within so many seconds."""
        deadline = self.clock() + seconds
        while not found():
            if self.clock() >= deadline:
                return False
            self.wait(0.05)
        return True


Hop = Callable[[Visit], str]


def settings(visit: Visit) -> str:
    """The application's settings."""
    try:
        visit.settings = Settings.read(endpoint=visit.endpoint)
    except ConfigurationError as error:
        raise Failed("the settings are wrong", *str(error).splitlines()) from None
    if visit.settings.disabled:
        raise Failed("OTEL_SDK_DISABLED is true", "unset it, or expect no telemetry")
    return f"telemetry goes to {visit.settings.endpoint}"


def address(visit: Visit) -> str:
    """Somebody listens at the endpoint."""
    endpoint = visit.settings.endpoint
    try:
        if endpoint.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_SECONDS)
                connection.connect("/" + endpoint.removeprefix("unix:").lstrip("/"))
        else:
            parts = urlsplit(endpoint)
            with socket.create_connection((parts.hostname or "", parts.port or 4317), _SECONDS):
                pass
    except OSError as error:
        raise Failed(
            f"nobody answers at {endpoint}: {(error.strerror or type(error).__name__).lower()}",
            "start a sidecar with `tenantscope sidecar`,",
            "or set OTEL_EXPORTER_OTLP_ENDPOINT to where one listens",
        ) from None
    return "somebody listens there"


def sidecar(visit: Visit) -> str:
    """It is a sidecar of ours, and serves."""
    with _channel(visit) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(service=_WATCHDOG), timeout=_SECONDS)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND):
                raise Failed(
                    "what listens there is not tenantscope's sidecar",
                    "telemetry would pass it without redaction, and nobody would watch the loops:",
                    "let the application send to the sidecar, and the sidecar to this receiver (TENANTSCOPE_UPSTREAM)",
                ) from None
            raise Failed(
                "what listens there does not answer over gRPC",
                "one side may expect TLS and the other not: compare http:// and https:// in",
                "OTEL_EXPORTER_OTLP_ENDPOINT with TENANTSCOPE_TLS_CERTIFICATE_FILE of the sidecar;",
                "OTEL_EXPORTER_OTLP_CERTIFICATE names an authority of your own",
            ) from None
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise Failed("the sidecar is stopping", "see its log")
    return "it is a sidecar, and serves"


def admin(visit: Visit) -> str:
    """The sidecar's own facts can be had."""
    status = _status(visit)
    visit.forwarded = status.forwarded
    return f"version {status.version}, {visit.admin.url}/status"


def intake(visit: Visit) -> str:
    """A span is taken, and the policy lets it out."""
    service = SERVICES["traces"]
    with _channel(visit) as channel:
        try:
            reply = channel.unary_unary(service.method, None, None)(
                _one_span(), timeout=_SECONDS, metadata=credentials.headers()
            )
        except grpc.RpcError as error:
            raise _refusal(error, visit) from None
    if service.rejected(reply):
        raise Failed(
            "the span was dropped",
            f"the redaction policy leaves nothing of a span, the tenant `{TENANT}` is over its quota, or this client",
            f"may not speak for it: see `reasons` in {visit.admin.url}/status",
        )
    return "a span was taken, redacted and written to disk"


def delivery(visit: Visit) -> str:
    """What was taken arrives where telemetry ends."""
    status = _status(visit)
    if not status.records:
        return "not shown to this client, which speaks for some tenants only"
    waiting = list(status.forwarded)

    def arrived() -> bool:
        now = _status(visit).forwarded
        waiting[:] = [name for name in waiting if now.get(name, 0) <= visit.forwarded.get(name, 0)]
        return not waiting

    if not visit.until(_DELIVERY_SECONDS, arrived):
        raise Failed(
            f"the span waits in the queue: {', '.join(waiting)} does not take it",
            *_not_ready(visit),
            "nothing is lost while it waits; the sidecar's log says why (`destination cannot take data`)",
        )
    return f"it arrived: {status.destination}"


def watchdog(visit: Visit) -> str:
    """A real application's loop comes under watch, and its span gets through."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    host = "this process's loop"
    loops: list[Loop] = []

    def looked() -> bool:
        loops[:] = [loop for loop in _status(visit).loops if (loop.service, loop.pid) == (SERVICE, os.getpid())]
        return bool(loops)

    def seen() -> bool:
        return visit.until(_SECONDS, looked)

    found, lost = live(visit.settings.endpoint, seen)
    if not found and not _status(visit).records:
        raise Failed(
            f"{host} is not shown to this client",
            f"it speaks for some tenants only: to see the doctor's loop it must speak for `{TENANT}`",
        )
    if not found:
        raise Failed(
            f"{host} did not come under watch",
            "the sidecar must be able to read the application's memory page: both need the same user and, in",
            "containers, a folder that both mount (TENANTSCOPE_CELL_DIR); the sidecar's log says what it refused",
        )
    if lost:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in sorted(lost.items()))
        raise Failed(f"the library could not send everything: {reasons}", "see its log lines above")
    said = "an AutoGen runtime was watched, its message was traced"
    if loops and loops[0].mode == "heartbeats":
        said += "; by heartbeats alone, for the sidecar sees no memory page of it (TENANTSCOPE_CELL_DIR)"
    return said


HOPS: Final[tuple[tuple[str, Hop], ...]] = (
    ("settings", settings),
    ("address", address),
    ("sidecar", sidecar),
    ("admin", admin),
    ("intake", intake),
    ("delivery", delivery),
    ("watchdog", watchdog),
)


def _channel(visit: Visit) -> grpc.Channel:
    endpoint = visit.settings.endpoint
    if endpoint.startswith("unix:"):
        return grpc.insecure_channel(endpoint)
    parts = urlsplit(endpoint)
    if parts.scheme != "https":
        return grpc.insecure_channel(parts.netloc)
    try:
        return grpc.secure_channel(parts.netloc, credentials.for_channel())
    except OSError as error:
        raise Failed(
            f"a certificate cannot be read: {(error.strerror or '').lower()}",
            "see OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE and _CLIENT_KEY",
        ) from None


def _refusal(error: grpc.RpcError, visit: Visit) -> Failed:
    code = error.code()
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return _stranger()
    if code is grpc.StatusCode.UNAVAILABLE:
        return Failed(
            "the sidecar takes nothing now: its queue is full, its disk fails, or this client is over its quota",
            *_not_ready(visit),
            "tenantscope_requests_refused_total in its metrics counts by reason",
        )
    return Failed(f"the sidecar answered {code.name.lower()}", "see its log")


def _stranger() -> Failed:
    return Failed(
        "the sidecar does not know this client",
        "`tenantscope token` makes a token: its digest goes into TENANTSCOPE_CLIENTS_FILE of the sidecar, itself",
        "into OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20... of the application",
    )


def _status(visit: Visit) -> Status:
    try:
        return visit.admin.status()
    except StrangerError:
        raise _stranger() from None
    except NoAnswerError as error:
        raise Failed(
            f"{visit.admin.url} does not answer: {error}",
            "name the sidecar's admin listener with --admin or TENANTSCOPE_ADMIN; it answers on its own machine only",
        ) from None


def _not_ready(visit: Visit) -> list[str]:
    """What the sidecar itself says is not as it should be."""
    heard: list[bytes] = []
    with contextlib.suppress(NoAnswerError):  # which 503 is
        Admin(visit.admin.url, heard=lambda _, body: heard.append(body)).page("/readyz")
    try:
        failing = [str(name) for name in json.loads(heard[-1])["not_ready"]]
    except (IndexError, ValueError, KeyError, TypeError):
        return []
    return [f"not ready, as {visit.admin.url}/readyz says: {', '.join(failing)}"] if failing else []


def _one_span() -> bytes:
    request = SERVICES["traces"].request()
    group: Any = request.resource_spans.add()  # type: ignore[union-attr]
    group.resource.attributes.add(key="service.name").value.string_value = SERVICE
    now = time.time_ns()
    span = group.scope_spans.add().spans.add(
        trace_id=secrets.token_bytes(16),
        span_id=secrets.token_bytes(8),
        name="process patient",
        kind=5,
        start_time_unix_nano=now - 1_000_000,
        end_time_unix_nano=now,
    )
    span.attributes.add(key="tenant.id").value.string_value = TENANT
    payload: bytes = request.SerializeToString()
    return payload
