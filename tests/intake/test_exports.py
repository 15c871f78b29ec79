"""OTLP comes in over real gRPC: what senders are told, and what never leaves with an answer."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otlp_peers import PATIENCE, export, log_request, sum_request, trace_request

from sidecar.conventions import SIGNALS, Signal
from sidecar.intake import Admission, Busy, Hand, Intake, Malformed
from sidecar.intake.verdicts import BUSY, DROPPED, FAULT, MALFORMED
from sidecar.ledger import Ledger
from sidecar.network.address import listener
from sidecar.network.otlp import MAX_REQUEST_BYTES, SERVICES
from sidecar.senders.clients import Client, Clients

SECRET = "sk-live-4242"


class NextStage:
    """What comes after the intake: keeps what it is given, answers what it is told to."""

    def __init__(self) -> None:
        self.taken: list[tuple[Signal, bytes]] = []
        self.answer: Callable[[], int] = lambda: 0

    def __call__(self, signal: Signal, payload: bytes, client: Client, hand: Hand) -> int:
        self.taken.append((signal, payload))
        return self.answer()

    def fail_with(self, error: Exception) -> None:
        def answer() -> int:
            raise error

        self.answer = answer


@pytest.fixture
def stage() -> NextStage:
    return NextStage()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def intake(stage: NextStage, ledger: Ledger) -> Iterator[Intake]:
    made = Intake(listener("127.0.0.1:0"), Admission(Clients(None), stage), ledger)
    made.start()
    yield made
    made.stop(0)


def requests_answered(ledger: Ledger) -> dict[tuple[str, str], float]:
    families = {family.name: family for family in ledger.collect()}
    return {tuple(s.labels.values()): s.value for s in families["tenantscope_requests"].samples}


REQUESTS = {"traces": trace_request(2), "metrics": sum_request("m", 1), "logs": log_request(2)}


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_request_reaches_the_next_stage_byte_for_byte(
    intake: Intake, stage: NextStage, ledger: Ledger, signal: Signal
) -> None:
    """All three signals, unparsed; the answer to one that was taken in full is empty."""
    assert export(intake.address.target, REQUESTS[signal], signal) == b""
    assert stage.taken == [(signal, REQUESTS[signal])]
    assert requests_answered(ledger) == {(signal, "ok"): 1}


@pytest.mark.parametrize("signal", SIGNALS)
def test_records_that_the_policy_dropped_are_told_without_their_content(
    intake: Intake, stage: NextStage, signal: Signal
) -> None:
    """`partial_success` has the count and a fixed text."""
    stage.answer = lambda: 2
    answer = export(intake.address.target, REQUESTS[signal], signal)
    assert SERVICES[signal].rejected(answer) == 2
    parsed = SERVICES[signal].response()
    parsed.ParseFromString(answer)
    assert parsed.partial_success.error_message == DROPPED


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (Malformed(), grpc.StatusCode.INVALID_ARGUMENT, MALFORMED),
        (Busy(1.5), grpc.StatusCode.UNAVAILABLE, BUSY),
        (RuntimeError(SECRET), grpc.StatusCode.INTERNAL, FAULT),
        (ValueError(SECRET), grpc.StatusCode.INTERNAL, FAULT),
        (UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET), grpc.StatusCode.INTERNAL, FAULT),
    ],
)
def test_a_refusal_is_a_status_and_a_fixed_text(
    intake: Intake,
    stage: NextStage,
    ledger: Ledger,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    code: grpc.StatusCode,
    details: str,
) -> None:
    """No text of an exception reaches the sender, the log or standard error; the request is counted."""
    stage.fail_with(error)
    with pytest.raises(grpc.RpcError) as refused:
        export(intake.address.target, REQUESTS["traces"])
    assert (refused.value.code(), refused.value.details()) == (code, details)
    assert SECRET not in str(refused.value)
    output = capfd.readouterr()
    assert SECRET not in output.out + output.err + caplog.text
    assert requests_answered(ledger) == {("traces", code.name.lower()): 1}


def test_who_is_put_off_learns_for_how_long_in_both_places(intake: Intake, stage: NextStage) -> None:
    """RetryInfo where OTLP wants it, and in the trailer that Python's exporter reads."""
    stage.fail_with(Busy(1.5))
    with pytest.raises(grpc.RpcError) as refused:
        export(intake.address.target, REQUESTS["traces"])
    trailers = dict(refused.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.RetryInfo()
    assert status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert status.details[0].Unpack(info)
    assert info.retry_delay.ToMilliseconds() == 1500
    assert error_details_pb2.RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]) == info


def test_the_real_exporter_waits_and_gets_everything_through(intake: Intake, stage: NextStage) -> None:
    """OpenTelemetry's exporter honours the trailer: refused once, it delivers on the next attempt."""
    answers = iter([Busy(0.01)])

    def answer() -> int:
        for error in answers:
            raise error
        return 0

    stage.answer = answer
    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.get_tracer("t").start_span("process writer").end()
    exporter = OTLPSpanExporter(endpoint=f"http://{intake.address.target}")
    assert exporter.export(memory.get_finished_spans()).name == "SUCCESS"
    exporter.shutdown()
    provider.shutdown()
    assert len(stage.taken) == 2
    assert stage.taken[0] == stage.taken[1]


def test_gzip_is_understood(intake: Intake, stage: NextStage) -> None:
    """A compressed request arrives as if it were not."""
    payload = trace_request(100)
    export(intake.address.target, payload, compression=grpc.Compression.Gzip)
    assert stage.taken == [("traces", payload)]


def test_a_request_over_the_limit_is_refused_before_the_next_stage(intake: Intake, stage: NextStage) -> None:
    """4 MiB, whether it is sent like that or blown up from a few kilobytes."""
    too_large = b"\0" * (MAX_REQUEST_BYTES + 1)
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with pytest.raises(grpc.RpcError) as refused:
            export(intake.address.target, too_large, compression=compression)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(gzip.compress(too_large)) < 10_000
    assert stage.taken == []
    export(intake.address.target, b"\0" * (MAX_REQUEST_BYTES - 100))
    assert len(stage.taken) == 1


def test_metadata_over_the_limit_is_refused(intake: Intake, stage: NextStage) -> None:
    """Headers are bounded too."""
    with pytest.raises(grpc.RpcError) as refused:
        export(intake.address.target, REQUESTS["traces"], metadata=[("x-padding", "x" * 20_000)])
    assert refused.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    assert stage.taken == []


def test_unknown_methods_are_refused(intake: Intake) -> None:
    """Nothing else is served under OTLP's names."""
    with grpc.insecure_channel(intake.address.target) as channel:
        call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Import", None, None)
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", timeout=PATIENCE)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
