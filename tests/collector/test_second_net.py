"""Whatever a failed sidecar let through dies in the Collector: seen in what it puts out."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from collector_process import Collector, eventually, running
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_leaves import LEAVES, survivors, value_of_allowed_key

from instrumentation import conventions
from instrumentation.activity import Kind
from instrumentation.telemetry.attributes import NAME_ATTRIBUTES
from sidecar.conventions import ALERT_ATTRIBUTES

#: one leaf for each place where attributes stand, which is every place where an allowed value may pass
ALLOWED = [leaf for leaf in LEAVES if value_of_allowed_key(leaf, "string_value")]


def test_the_matrix_covers_otlp() -> None:
    """The leaves come from the descriptors, and the well-known ones are among them."""
    found = {str(leaf) for leaf in LEAVES}
    assert len(LEAVES) > 200
    assert {
        "traces:resource_spans.scope_spans.spans.status.message",
        "traces:resource_spans.scope_spans.spans.links.attributes.key",
        "traces:resource_spans.resource.entity_refs.id_keys",
        "metrics:resource_metrics.scope_metrics.metrics.histogram.data_points.exemplars.filtered_attributes.key",
        "logs:resource_logs.scope_logs.log_records.body.kvlist_value.values.key",
    } <= found


def test_a_secret_survives_in_no_field(collector: Collector) -> None:
    """A secret that looks like one survives nowhere; only bytes below an allowed key are not decoded."""
    singing = survivors(collector, "secret", lambda n: f"canary-{n}-x@leak.example")
    assert singing == {leaf for leaf in LEAVES if value_of_allowed_key(leaf, "bytes_value")}


def test_an_ordinary_word_survives_only_below_an_allowed_key(collector: Collector) -> None:
    """A secret that looks like any word, such as a customer's name, survives as an allowed value only."""
    singing = survivors(collector, "word", lambda n: f"canaryword{n}x")
    allowed = {
        leaf
        for leaf in LEAVES
        if value_of_allowed_key(leaf, "string_value") or value_of_allowed_key(leaf, "bytes_value")
    }
    assert singing == allowed


@pytest.mark.parametrize(
    ("mark", "value"),
    [
        ("mask-integer-", AnyValue(int_value=4111_1111_1111_1111)),
        ("mask-groups-", AnyValue(string_value="4111-1111-1111-1111")),
        ("mask-bearer-", AnyValue(string_value="Bearer abcdefghijkl4111")),
        ("mask-key-", AnyValue(string_value="sk-proj-canary4111canary4111")),
        ("mask-userinfo-", AnyValue(string_value="https://bob:canary4111@host/")),
        ("mask-percent-", AnyValue(string_value="bob%40canary4111.example")),
    ],
)
def test_a_secret_shape_below_an_allowed_key_is_masked(collector: Collector, mark: str, value: AnyValue) -> None:
    """What looks like a card, a token or a credential is masked, also as an integer; the record goes on."""
    span = _span(mark)
    span.attributes.add(key=conventions.TOOL_NAME, value=value)
    assert collector.send("traces", _traces(span)) is grpc.StatusCode.OK
    arrived = _arrived(collector, mark)
    tool = {a.key: a.value for a in arrived.attributes}[conventions.TOOL_NAME]
    assert "****" in tool.string_value
    assert "4111" not in str(arrived)


def test_a_forged_summary_is_dropped(collector: Collector) -> None:
    """The redaction processor lets its own `redaction.*` keys in; a sender can't use them."""
    keys = [
        "redaction.redacted.keys",
        "redaction.redacted.count",
        "redaction.masked.keys",
        "redaction.ignored.count",
    ]
    _send_everywhere(collector, "forged", "canary-forged", keys)
    assert b"canary-forged" not in collector.upstream.everything()


def test_text_is_no_number(collector: Collector) -> None:
    """A key whose value is a number, or a list of words, carries no text, wherever it stands."""
    sent = (*conventions.ATTRIBUTES, *ALERT_ATTRIBUTES)
    keys = [*(each.name for each in sent if each.type != "string"), "process.pid"]
    _send_everywhere(collector, "number", "Canary number", keys)
    assert b"Canary number" not in collector.upstream.everything()


def test_a_long_value_is_cut(collector: Collector) -> None:
    """No name is longer than a tenant's may be, 255 characters; what is longer is cut there."""
    _send_everywhere(collector, "long", "y" * 300, [""])
    out = collector.upstream.everything()
    assert out.count(b"y" * 255) >= len(ALLOWED)
    assert b"y" * 256 not in out


def test_what_the_library_sends_passes_unchanged(collector: Collector) -> None:
    """A span as the library makes it arrives with its name, numbers and finish reasons as they were."""
    span = _span("intact-", name="chat gpt-4o-mini")
    for key, value in {
        conventions.REQUEST_MODEL: AnyValue(string_value="gpt-4o-mini"),
        conventions.INPUT_TOKENS: AnyValue(int_value=123_456),
        conventions.MESSAGE_QUEUE_DURATION: AnyValue(double_value=0.12345678901234567),
        conventions.FINISH_REASONS: AnyValue(array_value={"values": [{"string_value": "tool_calls"}]}),
    }.items():
        span.attributes.add(key=key, value=value)
    sent = _traces(span)
    collector.send("traces", sent)
    arrived = _arrived(collector, "intact-")
    assert arrived.name == span.name
    assert sorted(a.SerializeToString() for a in arrived.attributes) == sorted(
        a.SerializeToString() for a in span.attributes
    )


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_activity_keeps_its_name(collector: Collector, kind: Kind) -> None:
    """The name that the library gives to a span of this kind is the name that arrives."""
    span = _span(f"kind-{kind.value}-", name=f"{kind.value} refunds")
    span.attributes.add(key=NAME_ATTRIBUTES[kind]).value.string_value = "refunds"
    collector.send("traces", _traces(span))
    assert _arrived(collector, f"kind-{kind.value}-").name == f"{kind.value} refunds"


@pytest.mark.parametrize("name", ["bob@x.example refund", "process bob", "chat", ""])
def test_a_span_name_is_made_of_allowed_attributes(collector: Collector, name: str) -> None:
    """A name is never passed on: it is made anew from attributes that may be seen."""
    mark = f"name-{len(name)}-"
    collector.send("traces", _traces(_span(mark, name=name)))
    assert _arrived(collector, mark).name == "redacted"


def test_unknown_fields_and_request_metadata_stay_behind(collector: Collector) -> None:
    """Neither a field that OTLP does not have nor a header of the sender travels on."""
    span = _span("unknown-")
    body = _traces(span)
    body.resource_spans[0].scope_spans[0].spans[0].MergeFromString(b"\xfa\x7d\x0ecanary-unknown")
    assert b"canary-unknown" in body.SerializeToString()
    collector.send("traces", body, (("authorization", "Bearer canary-header"), ("x-tenant", "canary-header")))
    _arrived(collector, "unknown-")
    assert b"canary-unknown" not in collector.upstream.everything()
    assert "canary-header" not in str(collector.upstream.metadata)


def test_links_go_alone_where_the_collector_can_take_them_out(binary: Path, tmp_path: Path) -> None:
    """With the feature gate that the configuration names, a span loses its links and nothing else."""
    span = _span("linked-")
    span.links.add(trace_id=b"l" * 16, span_id=b"l" * 8, trace_state="canary-link")
    with running(binary, tmp_path / "log", "--feature-gates=ottl.set.allowNil") as collector:
        assert collector.send("traces", _traces(span)) is grpc.StatusCode.OK
        arrived = _arrived(collector, "linked-")
    assert not arrived.links
    assert arrived.attributes == span.attributes


@pytest.mark.parametrize("signal", ["traces", "metrics", "logs"])
def test_an_empty_request_is_fine(collector: Collector, signal: str) -> None:
    """A request without records is answered, not refused."""
    kinds = {
        "traces": ExportTraceServiceRequest,
        "metrics": ExportMetricsServiceRequest,
        "logs": ExportLogsServiceRequest,
    }
    assert collector.send(signal, kinds[signal]()) is grpc.StatusCode.OK


def _send_everywhere(collector: Collector, word: str, value: str, keys: list[str]) -> None:
    """Send `value` below each key in each place where attributes stand, and wait until they are all out."""
    sent = []
    for place, leaf in enumerate(ALLOWED):
        for number, key in enumerate(keys):
            mark = f"{word}-{place}-{number}-"
            assert collector.send(leaf.signal, leaf.plant(value, mark, key)) is grpc.StatusCode.OK
            sent.append((leaf.signal, mark))
    for signal, mark in sent:
        collector.upstream.wait_for(signal, mark.encode())


def _span(mark: str, name: str = "process worker") -> Span:
    span = Span(trace_id=b"t" * 16, span_id=b"s" * 8, name=name)
    span.attributes.add(key="tenant.id").value.string_value = mark
    return span


def _traces(span: Span) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.append(span)
    return request


def _arrived(collector: Collector, mark: str) -> Span:
    collector.upstream.wait_for("traces", mark.encode())

    def find() -> Span | None:
        for body in collector.upstream.received["traces"]:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        if any(a.value.string_value == mark for a in span.attributes):
                            return span
        return None

    return eventually(find, f"a span of {mark}")  # type: ignore[no-any-return]
