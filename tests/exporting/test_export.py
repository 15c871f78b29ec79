"""The way out of the application: over real gRPC, bounded, counted, and never in the application's way."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from otlp_peers import PATIENCE, Upstream, refuse, running_upstream

import instrumentation
from instrumentation import diagnostics, tenancy
from instrumentation.activity import Activity, Kind, MemoryUse, ModelCall, Outcome, ToolCall
from instrumentation.settings import Settings
from instrumentation.telemetry.encoding import request_of
from instrumentation.telemetry.export import Exporter
from instrumentation.telemetry.otlp import otlp_exporters
from instrumentation.telemetry.spans import ActivitySpan, SpanFactory
from instrumentation.testing import _Metrics, capture

APPLICATION = """
    import asyncio, os, sys
    import instrumentation
    sys.path.insert(0, {tests!r})
    from autogen_apps import Ask, Asked, ask_runtime
    from autogen_core import AgentId

    async def work(n=1):
        runtime = await ask_runtime(asked=Asked)
        runtime.start()
        with instrumentation.tenant("acme"):
            for _ in range(n):
                answer = await runtime.send_message(Ask("x"), AgentId("asked", "k"))
                assert answer.tenant == "acme", answer
        await runtime.stop_when_idle()

    instrumentation.start(service_name="app", endpoint={endpoint!r})
"""


def run_application(endpoint: str, code: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """A real process: `code` after the beginning above; killed after `timeout` seconds."""
    program = textwrap.dedent(APPLICATION).format(tests=str(Path(__file__).parent.parent), endpoint=endpoint)
    return subprocess.run(
        [sys.executable, "-c", program + textwrap.dedent(code)], capture_output=True, text=True, timeout=timeout
    )


def ended(name: str = "asked") -> ActivitySpan:
    activity = Activity(Kind.PROCESS, tenancy.TABLE.intern("acme"), name, 0)
    span = SpanFactory().open(activity, Context())
    span.duration_ns = 5
    return span


def spans_of(upstream: Upstream) -> list[Any]:
    return [
        span
        for signal, payload in upstream.taken
        if signal == "traces"
        for resource in ExportTraceServiceRequest.FromString(payload).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def counted(reason: str) -> int:
    return diagnostics.counts().get(reason, 0)


@contextmanager
def running(settings: Settings, make: Any = None) -> Iterator[Exporter]:
    exporter = Exporter(settings, make or (lambda: otlp_exporters(settings, Resource({}))), lambda: None)
    try:
        yield exporter
    finally:
        exporter.stop(5)


def test_spans_and_metrics_arrive_over_grpc() -> None:
    """What an application did is at the other end when it has ended, with nothing else typed than `start`."""
    with running_upstream() as upstream:
        ran = run_application(upstream.url, "asyncio.run(work(3))")
        assert ran.returncode == 0, ran.stderr
        assert [span.name for span in spans_of(upstream)] == ["create_agent asked", *["process asked"] * 3]
        metrics = [
            metric.name
            for signal, payload in upstream.taken
            if signal == "metrics"
            for resource in ExportMetricsServiceRequest.FromString(payload).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        assert {"autogen.messages", "autogen.tenant.loop.time", "asyncio.eventloop.utilization"} <= set(metrics)


def test_a_thread_that_could_not_be_started_is_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container at its limit of threads: nobody waits meanwhile, and what was queued is sent when there is one."""

    def no_more_threads(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with running_upstream() as upstream, running(Settings(endpoint=upstream.url)) as exporter:
        first, second = ended("first"), ended("second")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_more_threads)
            exporter.emit(first)
            assert not exporter.flush(3600)
        exporter.emit(second)
        assert exporter.flush(PATIENCE)
        assert [span.name for span in spans_of(upstream)] == ["process first", "process second"]


def test_telemetry_says_which_process_on_which_host() -> None:
    """So that another worker's answer can be told: on spans and metrics, under an instance id of its own."""
    with running_upstream() as upstream:
        ran = run_application(upstream.url, "asyncio.run(work(1)); print(os.getpid())")
        assert ran.returncode == 0, ran.stderr
        resources = [
            {a.key: a.value.string_value or a.value.int_value for a in group.resource.attributes}
            for signal, payload in upstream.taken
            for group in (
                ExportTraceServiceRequest.FromString(payload).resource_spans
                if signal == "traces"
                else ExportMetricsServiceRequest.FromString(payload).resource_metrics
            )
        ]
    assert len(resources) >= 2
    assert {about["process.pid"] for about in resources} == {int(ran.stdout)}
    assert {about["host.name"] for about in resources} == {socket.gethostname()}
    assert len({about["service.instance.id"] for about in resources}) == 1


@pytest.mark.parametrize("peer", ["refused", "silent"])
def test_a_dead_sidecar_neither_disturbs_nor_delays(peer: str) -> None:
    """With nobody listening, or somebody who never answers: same output, no line in the application's own log, and
    `stop` gives up within its two seconds (the process is killed after sixty)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if peer == "silent":
            listener.listen()
        port = listener.getsockname()[1]
        ran = run_application(
            f"http://127.0.0.1:{port}",
            """
            import logging, time
            seen = []
            class Seen(logging.Handler):
                def emit(self, record):
                    seen.append(record.name)
            logging.getLogger().addHandler(Seen())
            asyncio.run(work(50))
            began = time.monotonic()
            instrumentation.stop()
            took = time.monotonic() - began
            ours = [name for name in seen if "autogen" not in name and name != "asyncio"]
            print("in time" if took < 10 else took, ours)
            """,
        )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "in time []\n"


def test_the_queue_is_bounded_and_counts() -> None:
    """Beyond the bound spans are dropped, and counted; nothing blocks while the peer hangs."""
    release = threading.Event()

    class Hanging:
        def export(self, spans: Any) -> SpanExportResult:
            release.wait(PATIENCE)
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            release.set()

    before = counted("export.queue_full")
    with running(Settings(span_queue=10, span_interval=60), lambda: (Hanging(), _Metrics())) as exporter:
        for _ in range(100):
            exporter.emit(ended())
        assert counted("export.queue_full") - before == 90
        release.set()
        assert exporter.flush(PATIENCE)


def test_one_span_that_cannot_be_encoded_goes_alone() -> None:
    """A name with a lone surrogate would take its batch with it."""
    before = counted("export.unencodable")
    with running_upstream() as upstream:
        with running(Settings(endpoint=upstream.url)) as exporter:
            for name in ("one", "\ud800", "two"):
                exporter.emit(ended(name))
            assert exporter.flush(PATIENCE)
        assert [span.name for span in spans_of(upstream)] == ["process one", "process two"]
    assert counted("export.unencodable") - before == 1


def test_back_pressure_is_honoured() -> None:
    """UNAVAILABLE with RetryInfo: the batch arrives at the second attempt, nothing is counted as lost."""
    before = counted("export.failed")
    with running_upstream() as upstream:
        upstream.answers.append(refuse(grpc.StatusCode.UNAVAILABLE, 0.01))
        with running(Settings(endpoint=upstream.url)) as exporter:
            exporter.emit(ended())
            assert exporter.flush(PATIENCE * 2)
        assert len(spans_of(upstream)) == 1
    assert counted("export.failed") == before


def test_a_refused_batch_is_counted_and_logged_by_us_alone(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """INVALID_ARGUMENT is final. The exporter's own line does not reach the application's handlers; we say it."""
    before = counted("export.failed")
    with running_upstream() as upstream, caplog.at_level(logging.DEBUG):
        upstream.answers.append(refuse(grpc.StatusCode.INVALID_ARGUMENT, details="s3cr3t"))
        with running(Settings(endpoint=upstream.url)) as exporter:
            exporter.emit(ended())
            assert exporter.flush(PATIENCE)
    assert counted("export.failed") - before == 1
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]
    ours = capfd.readouterr().err
    assert "no sidecar answers" in ours
    assert "s3cr3t" not in ours


def test_an_exporter_that_raises_is_survived() -> None:
    """Whatever the exporter does, `emit` and `flush` do not raise."""

    class Raising:
        def export(self, spans: Any) -> SpanExportResult:
            raise MemoryError

        def shutdown(self) -> None:
            raise OSError

    with running(Settings(), lambda: (Raising(), _Metrics())) as exporter:
        exporter.emit(ended())
        assert exporter.flush(PATIENCE)


def spans_by_instance(upstream: Upstream) -> list[int]:
    """How many spans each process sent."""
    instances: dict[str, int] = {}
    for signal, payload in upstream.taken:
        if signal == "traces":
            for group in ExportTraceServiceRequest.FromString(payload).resource_spans:
                about = {a.key: a.value.string_value for a in group.resource.attributes}
                key = about["service.instance.id"]
                instances[key] = instances.get(key, 0) + sum(len(scope.spans) for scope in group.scope_spans)
    return sorted(instances.values())


def test_a_child_forked_before_anything_was_sent_is_a_process_of_its_own() -> None:
    """As an application server forks its workers: each exports its own spans under its own instance id."""
    code = """
        child = os.fork()
        asyncio.run(work(2))
        instrumentation.flush(10)
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    with running_upstream() as upstream:
        ran = run_application(upstream.url, code)
        assert ran.returncode == 0, ran.stderr
        assert spans_by_instance(upstream) == [3, 3]


def test_a_child_forked_later_is_left_alone() -> None:
    """gRPC's locks may be held for ever there: it works unwatched, says so once, and ends at once. Its handlers know
    their tenants all the same: an application may route by them."""
    code = """
        from autogen_core import SingleThreadedAgentRuntime
        from instrumentation import diagnostics
        asyncio.run(work())
        assert instrumentation.flush(10)
        child = os.fork()
        if child == 0:
            instrumentation.start()
            asyncio.run(work(2))
            assert instrumentation.flush(10)
            assert diagnostics.counts() == {"fork.unwatched": 1}
            instrumentation.stop()
            assert "_tracer_helper" not in vars(SingleThreadedAgentRuntime)
            sys.exit(0)
        grandparent = os.fork()
        if grandparent == 0:
            if os.fork() == 0:
                asyncio.run(work(2))
            else:
                assert os.wait()[1] == 0
            sys.exit(0)
        assert os.waitpid(grandparent, 0)[1] == 0
        assert os.waitpid(child, 0)[1] == 0
        asyncio.run(work(2))
    """
    with running_upstream() as upstream:
        ran = run_application(upstream.url, code)
        assert ran.returncode == 0, ran.stderr
        assert spans_by_instance(upstream) == [5]  # three messages, and the making of two agents
    assert "not watched: forked from a process that has used gRPC" in ran.stderr


def test_disabled_means_nothing_at_all() -> None:
    """OTEL_SDK_DISABLED=true: no thread, no hook, no cell."""
    code = """
        import threading
        from autogen_core import SingleThreadedAgentRuntime
        assert threading.active_count() == 1
        assert "_tracer_helper" not in vars(SingleThreadedAgentRuntime)
    """
    program = textwrap.dedent(APPLICATION).format(tests=str(Path(__file__).parent.parent), endpoint="http://h:1")
    ran = subprocess.run(
        [sys.executable, "-c", program + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "OTEL_SDK_DISABLED": "true"},
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""


def test_import_auto_is_enough() -> None:
    """One line at the start of the application, settings from the environment."""
    code = "import instrumentation.auto, instrumentation.lifecycle as l; assert l.running() is not None; print('ok')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "ok\n", ran.stderr


def test_the_log_is_tenant_tagged_and_rate_limited(capfd: pytest.CaptureFixture[str]) -> None:
    """Our lines carry the tenant, go to standard error and stop repeating themselves."""
    with capture(), instrumentation.tenant("acme"):
        for _ in range(50):
            diagnostics.log.warning("said in one test only")
    lines = [line for line in capfd.readouterr().err.splitlines() if "said in one test only" in line]
    assert len(lines) == 5
    assert all("tenant.id=acme" in line for line in lines)


def test_a_fault_is_logged_by_type_only(capfd: pytest.CaptureFixture[str]) -> None:
    """The text of an exception may be content."""
    diagnostics.fault("a_place_of_its_own", ValueError("s3cr3t"))
    assert diagnostics.counts()["fault.a_place_of_its_own"] == 1
    assert "s3cr3t" not in capfd.readouterr().err


def test_a_full_batch_is_not_left_lying() -> None:
    """A burst goes out at once, not when the interval is over: the queue is for what the peer cannot take."""
    taken = threading.Event()

    class Taking:
        def export(self, spans: Any) -> SpanExportResult:
            taken.set()
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None: ...

    with running(Settings(span_batch=100, span_interval=600), lambda: (Taking(), _Metrics())) as exporter:
        exporter.emit(ended())  # starts the thread
        for _ in range(1000):
            exporter.emit(ended())
        assert taken.wait(PATIENCE)


NAMES = st.text(st.characters(codec="utf-8"), max_size=40)
ABOUT = Resource({"service.name": "x", "process.pid": 7})


TEXTS = (
    "agent", "budget", "conversation", "error_type", "finish_reason", "mcp_method", "message_kind", "message_type",
    "provider", "response_model", "sender", "state_digest", "stop_reason", "transfer_target",
)  # fmt: skip
NUMBERS = (
    "arguments_size", "cache_read_tokens", "cache_write_tokens", "hits", "input_tokens", "output_tokens",
    "reasoning_tokens", "result_size", "state_agents", "state_size", "status_code",
)  # fmt: skip


def _activity(kind: Kind, tenant: tenancy.Tenant, name: str) -> Activity:
    if kind is Kind.CHAT:
        return ModelCall(tenant, name, 0)
    if kind is Kind.TOOL:
        return ToolCall(tenant, name, 0)
    if kind.value.endswith("_memory"):
        return MemoryUse(kind, tenant, name, 0)
    return Activity(kind, tenant, name, 0)


@given(data=st.data(), kind=st.sampled_from(Kind))
def test_our_translation_is_opentelemetrys(data: st.DataObject, kind: Kind) -> None:
    """For every activity, the OTLP message is the one that OpenTelemetry's own encoder makes of the same span."""
    tenant, name = tenancy.TABLE.intern("acme"), data.draw(NAMES)
    activity = _activity(kind, tenant, name)
    for field in TEXTS:
        if hasattr(activity, field):
            setattr(activity, field, data.draw(st.none() | NAMES))
    for field in NUMBERS:
        if hasattr(activity, field):
            setattr(activity, field, data.draw(st.none() | st.integers(0, 2**53)))
    if isinstance(activity, ModelCall):
        activity.resends = data.draw(st.integers(0, 9))
        activity.first_chunk_seconds = data.draw(st.none() | st.floats(0, 1e6))
        activity.cached = data.draw(st.booleans())
    for field in ("queue_seconds", "limit_seconds", "loop_seconds"):
        setattr(activity, field, data.draw(st.none() | st.floats(0, 1e6)))
    activity.abandoned = data.draw(st.booleans())
    activity.outcome = data.draw(st.sampled_from(Outcome))
    above = data.draw(
        st.none()
        | st.builds(
            SpanContext, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans(), st.just(TraceFlags(1))
        )
    )
    parent = Context() if above is None else set_span_in_context(NonRecordingSpan(above), Context())
    span = SpanFactory().open(activity, parent)
    span.duration_ns = data.draw(st.integers(0, 10**12))
    about = encode_spans([span.readable(ABOUT)]).resource_spans[0].resource
    request = ExportTraceServiceRequest.FromString(request_of([span], about))
    assert request == encode_spans([span.readable(ABOUT)])


def test_what_is_equal_and_of_another_type_is_told_apart() -> None:
    """No hook of ours takes a `bool` for a number; who writes one into an activity is not shown another's figure."""
    spans = []
    for tokens in (1, True):
        call = ModelCall(tenancy.TABLE.intern("acme"), "m", 0)
        call.input_tokens = tokens
        span = SpanFactory().open(call, Context())
        span.duration_ns = 1
        spans.append(span)
    readable = encode_spans([span.readable(ABOUT) for span in spans])
    request = ExportTraceServiceRequest.FromString(request_of(spans, readable.resource_spans[0].resource))
    assert request == readable
