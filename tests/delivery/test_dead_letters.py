"""What an upstream refuses for good: the records at fault are told from the others, and kept for people to look at."""

from __future__ import annotations

import errno
import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.json_format import Parse
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from otlp_peers import PATIENCE, log_request, outlet, running_upstream, sum_request, trace_request

from sidecar.conventions import Signal
from sidecar.delivery import Batch, BatchQueue, DeadLetters, Forwarder, UpstreamOtlp
from sidecar.delivery.dead_letters import FOLDER_NAME
from sidecar.delivery.disk import Folder
from sidecar.delivery.forwarder import MAX_HALVINGS
from sidecar.delivery.halves import halves
from sidecar.ledger import Ledger
from sidecar.network.address import upstream as parse_upstream
from sidecar.network.otlp import SERVICES


def names(payload: bytes) -> list[str]:
    """The names of the spans in a request."""
    request = SERVICES["traces"].request()
    request.ParseFromString(payload)
    return [span.name for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]


def spans_named(*wanted: str) -> bytes:
    request = SERVICES["traces"].request()
    request.ParseFromString(trace_request(len(wanted)))
    for span, name in zip(request.resource_spans[0].scope_spans[0].spans, wanted, strict=True):
        span.name = name
    return request.SerializeToString()


def forwarded_to(
    refuses: Callable[[bytes], bool], payload: bytes, records: int, state: Path
) -> tuple[list[str], Ledger]:
    """Names of the spans that an upstream took that answers INVALID_ARGUMENT to what it `refuses`."""
    with running_upstream() as upstream:

        def answer(context: grpc.ServicerContext) -> bytes:
            if refuses(upstream.requests[-1][1]):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "canary: the upstream quotes what was sent")
            return b""

        upstream.always = answer
        ledger = Ledger()
        queue = BatchQueue(state, ledger)
        letters = DeadLetters(state / "dead-letters", ledger.account())
        destination = UpstreamOtlp(parse_upstream(upstream.url))
        forwarder = Forwarder("upstream", outlet(queue), destination, ledger.account(), letters)
        forwarder.start()
        ledger.arrived("traces", records)
        assert queue.offer(Batch("traces", payload, records)) is None
        assert queue.wait_until_empty(PATIENCE)
        queue.close()
        assert forwarder.stop(PATIENCE)
        queue.release()
        return [name for _, taken in upstream.taken for name in names(taken)], ledger


def test_records_at_fault_are_told_from_the_others(tmp_path: Path) -> None:
    """Of a batch with two bad records everything else arrives, once and in order; the two are dead letters."""
    every = [f"span {number}" for number in range(100)]
    bad = {b"span 17", b"span 63"}
    taken, ledger = forwarded_to(
        lambda request: any(name in request for name in bad), spans_named(*every), 100, tmp_path
    )
    assert taken == [name for name in every if name.encode() not in bad]
    counts = ledger.records()["traces"]
    assert (counts["forwarded"], counts["rejected"], counts["queued"]) == (98, 2, 0)
    assert ledger.reasons()["traces"]["rejected"] == {"upstream_invalid_argument": 2}
    lines = (tmp_path / FOLDER_NAME / "traces.jsonl").read_text().splitlines()
    kept = [json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] for line in lines]
    assert kept == ["span 17", "span 63"]


def test_an_upstream_that_refuses_everything_is_not_asked_for_ever(tmp_path: Path) -> None:
    """A batch costs a bounded number of calls; all of it is rejected and kept."""
    asked = threading.Semaphore(2 * MAX_HALVINGS + 1)

    def refuse(request: bytes) -> bool:
        assert asked.acquire(blocking=False)
        return True

    taken, ledger = forwarded_to(refuse, trace_request(512), 512, tmp_path)
    assert taken == []
    assert ledger.records()["traces"]["rejected"] == 512
    letters = (tmp_path / FOLDER_NAME / "traces.jsonl").read_bytes().splitlines()
    requests = [Parse(_base64_ids(line), SERVICES["traces"].request()) for line in letters]
    assert sum(len(names(request.SerializeToString())) for request in requests) == 512


def _base64_ids(line: bytes) -> str:
    """OTLP's JSON as protobuf reads it, which does not know of ids in hex; they do not matter here."""
    document = json.loads(line)
    for group in document["resourceSpans"]:
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                assert len(bytes.fromhex(span.pop("traceId"))) == 16
                assert len(bytes.fromhex(span.pop("spanId"))) == 8
                span.pop("parentSpanId", None)
    return json.dumps(document)


REQUESTS: list[tuple[Signal, bytes, int]] = [
    ("traces", trace_request(7), 7),
    ("metrics", sum_request("a.b", 1) + sum_request("c.d", 2) + sum_request("e.f", 3), 3),
    ("logs", log_request(5), 5),
]


@pytest.mark.parametrize(("signal", "payload", "records"), REQUESTS)
def test_two_halves_are_the_whole(signal: Signal, payload: bytes, records: int) -> None:
    """Of each signal, the halves have all records between them, and each its resource and scope."""
    both = halves(Batch(signal, payload, records, "b"))
    assert both is not None
    first, second = both
    assert (first.records, second.records) == (records // 2, records - records // 2)
    assert first.id != second.id
    whole = SERVICES[signal].request()
    whole.ParseFromString(payload)
    resources = [group.resource for group in whole.ListFields()[0][1]]
    rest = [part for part in both for part in (halves(part) or (part,))]
    assert sum(part.records for part in rest) == records
    for part in rest:
        request = SERVICES[signal].request()
        request.ParseFromString(part.payload)
        assert all(group.resource in resources for group in request.ListFields()[0][1])
        assert halves(Batch(signal, part.payload, 1)) is None


@given(
    st.lists(st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=3), max_size=3),
    st.sampled_from(["sum", "gauge", "histogram", "exponential_histogram", "summary", ""]),
)
def test_no_data_point_is_lost_between_two_halves(tree: list[list[list[int]]], kind: str) -> None:
    """Whatever the shape of a metrics request, empty levels included, every point is in one of the two."""
    request = SERVICES["metrics"].request()
    points = 0
    for scopes in tree:
        group = request.resource_metrics.add()  # type: ignore[union-attr]
        for metrics in scopes:
            scope = group.scope_metrics.add()
            for count in metrics:
                metric = scope.metrics.add(name="m")
                for _ in range(count if kind else 0):
                    getattr(metric, kind).data_points.add(time_unix_nano=points + 1)
                    points += 1
    both = halves(Batch("metrics", request.SerializeToString(), points))
    if both is None:
        assert points < 2
        return
    found = []
    for half in both:
        part = SERVICES["metrics"].request()
        part.ParseFromString(half.payload)
        times = [
            point.time_unix_nano
            for group in part.resource_metrics  # type: ignore[union-attr]
            for scope in group.scope_metrics
            for metric in scope.metrics
            for point in _points(metric)
        ]
        assert len(times) == half.records
        found += times
    assert found == list(range(1, points + 1))


def _points(metric: Metric) -> list[object]:
    kind = metric.WhichOneof("data")
    return list(getattr(metric, kind).data_points) if kind else []


def test_a_batch_that_counts_otherwise_is_not_split() -> None:
    """No record may fall between two counts."""
    assert halves(Batch("traces", trace_request(3), 4)) is None
    assert halves(Batch("traces", b"\xff\xff", 4)) is None


def test_dead_letters_are_bounded_and_for_us_alone(tmp_path: Path) -> None:
    """A full file makes way for a new one and only one old is kept; nobody else may read them."""
    ledger = Ledger()
    letters = DeadLetters(tmp_path / "dead-letters", ledger.account(), max_bytes=2000)
    for number in range(50):
        letters.keep(Batch("traces", spans_named(f"span {number}"), 1))
    folder = tmp_path / FOLDER_NAME
    assert sorted(path.name for path in folder.iterdir()) == ["traces.jsonl", "traces.old.jsonl"]
    assert all(0 < path.stat().st_size <= 2000 for path in folder.iterdir())
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "span 49" in (folder / "traces.jsonl").read_text()
    assert all(json.loads(line) for path in folder.iterdir() for line in path.read_text().splitlines())


def test_what_a_crash_cut_off_does_not_take_the_next_letter_with_it(tmp_path: Path) -> None:
    """A torn last line is left alone; the next letter begins a line of its own."""
    DeadLetters(tmp_path / "dead-letters", Ledger().account()).keep(Batch("logs", log_request(1), 1))
    path = tmp_path / FOLDER_NAME / "logs.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    DeadLetters(tmp_path / "dead-letters", Ledger().account()).keep(Batch("logs", log_request(1), 1))
    assert json.loads(path.read_text().splitlines()[-1])


def test_a_full_disk_costs_the_letter_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is raised, nothing is counted as kept, no half line stays; with room again, letters are kept again."""
    ledger = Ledger()
    letters = DeadLetters(tmp_path / "dead-letters", ledger.account())
    with monkeypatch.context() as patch:

        def full(folder: Folder, descriptor: int, data: bytes) -> None:
            write(folder, descriptor, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        write = Folder.write
        patch.setattr(Folder, "write", full)
        letters.keep(Batch("logs", log_request(1), 1))
    assert (tmp_path / FOLDER_NAME / "logs.jsonl").read_bytes() == b""
    letters.keep(Batch("logs", log_request(1), 1))
    assert json.loads((tmp_path / FOLDER_NAME / "logs.jsonl").read_text())
    families = {family.name: family for family in ledger.collect()}
    kept = {sample.labels["signal"]: sample.value for sample in families["tenantscope_dead_letters"].samples}
    assert kept["logs"] == 1


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b""])
def test_what_cannot_be_read_is_not_kept(tmp_path: Path, payload: bytes) -> None:
    """Bytes that are no request leave no line that nobody could read."""
    DeadLetters(tmp_path / "dead-letters", Ledger().account()).keep(Batch("traces", payload, 1))
    for path in (tmp_path / FOLDER_NAME).iterdir():
        assert path.read_bytes() in (b"", b"{}\n")


def test_numbers_that_json_lacks_are_kept(tmp_path: Path) -> None:
    """NaN and infinity are written the way that protobuf reads them."""
    request = SERVICES["logs"].request()
    request.ParseFromString(log_request(1))
    record = request.resource_logs[0].scope_logs[0].log_records[0]  # type: ignore[union-attr]
    record.attributes.add(key="x", value=AnyValue(double_value=float("nan")))
    DeadLetters(tmp_path / "dead-letters", Ledger().account()).keep(Batch("logs", request.SerializeToString(), 1))
    line = (tmp_path / FOLDER_NAME / "logs.jsonl").read_text()
    assert '"doubleValue":"NaN"' in line
