"""A real OTLP/HTTP listener and those who talk to it, for tests."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from otlp_peers import PATIENCE, log_request, sum_request, trace_request

from sidecar.conventions import Signal
from sidecar.intake import Admission, Certificate, Hand, HttpIntake
from sidecar.intake.http_connection import Seconds
from sidecar.ledger import Ledger
from sidecar.network.address import listener
from sidecar.senders.clients import Client, Clients

QUICK = Seconds(head=0.2, idle=0.4, body=0.3, answer=1.0, linger=0.05)
HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\n"

PROTOBUF = {"Content-Type": "application/x-protobuf"}
REQUESTS = {"traces": trace_request(2), "metrics": sum_request("m", 1), "logs": log_request(2)}
SECRET = "sk-live-4242"


class NextStage:
    """What comes after the intake: keeps what it is given, answers what it is told to."""

    def __init__(self) -> None:
        self.taken: list[tuple[Signal, bytes]] = []
        self.clients: list[Client] = []
        self.answer: int | Exception = 0

    def __call__(self, signal: Signal, payload: bytes, client: Client, hand: Hand) -> int:
        self.taken.append((signal, payload))
        self.clients.append(client)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Served:
    """A listener and what it made of requests."""

    def __init__(self, intake: HttpIntake, stage: NextStage, ledger: Ledger) -> None:
        self.intake, self.stage, self.ledger = intake, stage, ledger

    def post(
        self, signal: str = "traces", body: bytes | None = None, headers: dict[str, str] | None = None, **options: Any
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.intake.address.port, timeout=PATIENCE)
        try:
            body = REQUESTS[signal] if body is None else body
            connection.request("POST", f"/v1/{signal}", body, {**PROTOBUF, **(headers or {})}, **options)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    @property
    def answered(self) -> dict[tuple[str, str], float]:
        families = {family.name: family for family in self.ledger.collect()}
        return {tuple(s.labels.values()): s.value for s in families["tenantscope_requests"].samples}


@contextmanager
def serving(clients: Clients | None = None, certificate: Certificate | None = None, **options: Any) -> Iterator[Served]:
    stage, ledger = NextStage(), Ledger()
    admission = Admission(clients or Clients(None), stage)
    intake = HttpIntake(listener("127.0.0.1:0"), admission, ledger, certificate, **options)
    intake.start()
    try:
        yield Served(intake, stage, ledger)
    finally:
        intake.stop(0)


@contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.intake.address.port)) as connection:
        connection.settimeout(PATIENCE)
        yield connection


def until_the_end(connection: socket.socket) -> bytes:
    found = b""
    while True:
        try:
            received = connection.recv(65536)
        except ConnectionError:
            return found
        if not received:
            return found
        found += received
