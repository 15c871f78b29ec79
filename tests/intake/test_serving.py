"""The gRPC server around the exports: health, reflection, streams, stopping, and what it refuses to run on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from otlp_peers import PATIENCE, export, trace_request

from sidecar.configuration.settings import ConfigurationError
from sidecar.conventions import Signal
from sidecar.intake import Admission, Hand, Intake, refuse_unsafe_grpc
from sidecar.intake.server import MAX_RPCS
from sidecar.intake.turns import PLACES
from sidecar.intake.visitors import MOST_VISITS
from sidecar.ledger import Ledger
from sidecar.network.address import listener
from sidecar.network.otlp import SERVICES
from sidecar.senders.clients import Client, Clients


@pytest.fixture
def intake() -> Iterator[Intake]:
    made = Intake(listener("127.0.0.1:0"), Admission(Clients(None), lambda *_: 0), Ledger())
    made.start()
    yield made
    made.stop(0)


def test_health_is_told_for_the_whole_and_for_each_service(intake: Intake) -> None:
    """SERVING while exports are taken."""
    with grpc.insecure_channel(intake.address.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        names = ["", *(s.name for s in SERVICES.values()), "tenantscope.watchdog.v1.Watchdog"]
        for name in names:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, name


def test_reflection_lists_what_is_served_and_describes_it(intake: Intake) -> None:
    """A tool such as grpcurl needs no files."""
    with grpc.insecure_channel(intake.address.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        questions = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICES["logs"].name),
        ]
        listed, described = stub.ServerReflectionInfo(iter(questions), timeout=PATIENCE)
    names = {service.name for service in listed.list_services_response.service}
    assert {s.name for s in SERVICES.values()} | {
        "tenantscope.watchdog.v1.Watchdog",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    } == names
    assert described.file_descriptor_response.file_descriptor_proto


def test_long_streams_do_not_keep_exports_out(intake: Intake) -> None:
    """Streams that are open for as long as their applications live have threads of their own."""
    release = threading.Event()

    def questions() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        release.wait(PATIENCE)

    with grpc.insecure_channel(intake.address.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        streams = [stub.ServerReflectionInfo(questions()) for _ in range(16)]
        for stream in streams:
            next(stream)
        assert export(intake.address.target, trace_request()) == b""
        release.set()


@pytest.mark.parametrize(
    "method",
    [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_strangers_who_ask_without_an_end_keep_nobody_out(intake: Intake, method: str) -> None:
    """More questions than there may be calls, which need no credentials and never end: those that came first give way,
    and then an export is taken, and health is told.
    """
    many, release, gone = MAX_RPCS + 8, threading.Event(), threading.Semaphore(0)

    def nothing() -> Iterator[bytes]:
        release.wait()
        yield from ()

    with grpc.insecure_channel(intake.address.target) as channel:
        try:
            # As streams, so that the question itself never comes.
            asked = [channel.stream_stream(method, None, None)(nothing()) for _ in range(many)]
            for call in asked:
                if not call.add_callback(gone.release):
                    gone.release()
            assert all(gone.acquire(timeout=PATIENCE) for _ in range(many - MOST_VISITS)), "they stay"
            assert export(intake.address.target, trace_request()) == b""
            with grpc.insecure_channel(intake.address.target) as another:
                answer = health_pb2_grpc.HealthStub(another).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        finally:
            release.set()


def test_senders_that_never_finish_do_not_keep_others_out() -> None:
    """More requests without an end than there are places: each is cut off, and exports go on."""
    intake = Intake(listener("127.0.0.1:0"), Admission(Clients(None), lambda *_: 0), Ledger(), body_seconds=0.1)
    intake.start()
    release = threading.Event()

    def nothing() -> Iterator[bytes]:
        release.wait(PATIENCE)
        yield from ()

    with grpc.insecure_channel(intake.address.target) as channel:
        call = channel.stream_unary(SERVICES["traces"].method, None, None)
        dawdling = [call.future(nothing()) for _ in range(PLACES * 2)]
        assert export(intake.address.target, trace_request()) == b""
        assert {sender.code() for sender in dawdling} == {grpc.StatusCode.CANCELLED}
        release.set()
    intake.stop(0)


def test_a_call_without_a_request_is_malformed(intake: Intake) -> None:
    """And so is nothing at all."""
    with grpc.insecure_channel(intake.address.target) as channel:
        call = channel.stream_unary(SERVICES["traces"].method, None, None)
        assert call.future(iter(())).code() is grpc.StatusCode.INVALID_ARGUMENT


def is_refused(target: str) -> bool:
    """Whether a new export gets UNAVAILABLE."""
    with grpc.insecure_channel(target) as channel:
        try:
            channel.unary_unary(SERVICES["logs"].method, None, None)(b"", timeout=PATIENCE)
        except grpc.RpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


def test_a_stop_lets_an_export_in_progress_get_its_answer() -> None:
    """Who is being served gets an answer; who comes later is refused."""
    entered, release = threading.Event(), threading.Event()

    def consume(signal: Signal, payload: bytes, client: Client, hand: Hand) -> int:
        if signal == "traces":
            entered.set()
            assert release.wait(PATIENCE)
        return 0

    intake = Intake(listener("127.0.0.1:0"), Admission(Clients(None), consume), Ledger())
    intake.start()
    target = intake.address.target
    answers: list[bytes] = []
    sender = threading.Thread(target=lambda: answers.append(export(target, trace_request())))
    sender.start()
    assert entered.wait(PATIENCE)
    assert not is_refused(target)
    stopper = threading.Thread(target=intake.stop, args=(PATIENCE,))
    stopper.start()
    while not is_refused(target):
        pass
    assert not intake.ready
    assert answers == []
    release.set()
    sender.join(PATIENCE)
    stopper.join(PATIENCE)
    assert answers == [b""]
    assert not stopper.is_alive()


def test_a_port_is_not_shared(intake: Intake) -> None:
    """A second sidecar on the port is told, instead of taking half of the telemetry."""
    second = Intake(intake.address, Admission(Clients(None), lambda *_: 0), Ledger())
    with pytest.raises(ConfigurationError, match="TENANTSCOPE_LISTEN: cannot listen on 127"):
        second.start()
    second.stop(0)


def test_a_connection_that_says_nothing_is_closed(intake: Intake) -> None:
    """Without a preface there is no place for it."""
    with socket.create_connection(("127.0.0.1", intake.address.port)) as connection:
        connection.settimeout(PATIENCE)
        while connection.recv(4096):  # the server's settings, then the end
            pass


@pytest.mark.parametrize("version", ["1.70.0", "1.83.9", "0.1", "", "dev"])
def test_a_grpcio_that_inflates_bombs_is_refused(version: str) -> None:
    """One line with the reason."""
    with pytest.raises(ConfigurationError, match="gzip bomb") as refused:
        refuse_unsafe_grpc(version)
    assert len(refused.value.lines) == 1


@pytest.mark.parametrize("version", ["1.84.0", "1.85.1", "1.100.0rc1", "2.0"])
def test_a_grpcio_that_does_not_is_accepted(version: str) -> None:
    """Versions are numbers, not text."""
    refuse_unsafe_grpc(version)
