"""Points of all kinds of metrics, and log records with names, come out of rows as they do one by one."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otlp_peers import attributes
from row_trials import Rows, outcome
from test_redaction_rows import redactor, same

from sidecar.conventions import Signal
from sidecar.network.otlp import SERVICES
from sidecar.redaction import forms, kinds
from sidecar.redaction.engine import Pass
from sidecar.redaction.forms import Part
from sidecar.redaction.kinds import Kind
from sidecar.redaction.wire_format import delimited, varint

KINDS = ("sum", "gauge", "histogram", "exponential_histogram", "summary")
FIELDS = {"gauge": 5, "sum": 7, "histogram": 9, "exponential_histogram": 10, "summary": 11}
TRACE, SPAN = bytes(range(200, 216)), bytes(range(200, 208))


@pytest.fixture
def unwalked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No record may be walked, nor a message inside of one."""

    def walked(*_: object) -> None:
        pytest.fail("it was walked")

    monkeypatch.setattr(Rows, "_record", walked)
    monkeypatch.setattr(Rows, "judge_part", walked)


def fill(point: Any, kind: str, chance: random.Random, most: int = 500) -> Any:
    """A point as the SDK makes them, with buckets and an exemplar."""
    point.start_time_unix_nano, point.time_unix_nano = 1, chance.getrandbits(62)
    point.attributes.extend(
        attributes({"tenant.id": chance.choice(("acme", "globex")), "autogen.message.kind": "send"})
    )
    if kind in ("sum", "gauge"):
        setattr(point, chance.choice(("as_int", "as_double")), 5)
    else:
        point.count, point.sum = chance.getrandbits(40), chance.random()
    if kind == "summary":
        for quantile in (0.5, 0.99):
            point.quantile_values.add(quantile=quantile, value=chance.random())
        return point
    if "histogram" in kind:
        point.min, point.max = chance.random(), chance.random()
    if kind == "histogram":
        bounds = chance.randrange(30)
        point.explicit_bounds.extend(chance.random() for _ in range(bounds))
        point.bucket_counts.extend(chance.getrandbits(30) for _ in range(bounds + 1))
    if kind == "exponential_histogram":
        point.scale, point.zero_count, point.zero_threshold = chance.randrange(-10, 20), 3, 0.5
        for buckets in (point.positive, point.negative)[: chance.randint(1, 2)]:
            buckets.offset = chance.randrange(-40, 40)
            buckets.bucket_counts.extend(chance.randrange(most) for _ in range(chance.choice((3, 160))))
    exemplar = point.exemplars.add(time_unix_nano=1, span_id=SPAN, trace_id=TRACE)
    setattr(exemplar, chance.choice(("as_int", "as_double")), 5)
    return point


def request(kind: str, seed: int, many: int = 20, most: int = 500) -> bytes:
    chance, made = random.Random(seed), SERVICES["metrics"].request()
    metric = made.resource_metrics.add().scope_metrics.add().metrics.add(name="autogen.messages", unit="1")
    for _ in range(many):
        fill(getattr(metric, kind).data_points.add(), kind, chance, most)
    payload: bytes = made.SerializeToString()
    return payload


def points(kind: str, *contents: bytes) -> bytes:
    """A request with points of these contents."""
    inside = b"".join(delimited(1, content) for content in contents)
    metric = delimited(1, b"autogen.messages") + delimited(FIELDS[kind], inside)
    return delimited(1, delimited(2, delimited(2, metric)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("unwalked")
def test_points_of_every_kind_are_judged_together(kind: str) -> None:
    """With buckets, quantiles and exemplars: they leave as they came, and nothing was walked for it."""
    payload = request(kind, 1)
    redacted = outcome(Rows, redactor("default"), "metrics", payload)
    assert isinstance(redacted, tuple)
    assert redacted[:3] == (payload, 20, 20)
    assert redacted[4] == {}


@given(st.sampled_from(KINDS), st.integers(0, 2**40), st.sampled_from((2, 500, 2**62, 2**64)), st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_points_come_out_as_one_by_one(kind: str, seed: int, most: int, data: st.DataObject) -> None:
    """A byte changed, some cut out, some put in, anywhere in points of all kinds, with counts of all sizes."""
    payload = bytearray(request(kind, seed, many=3, most=most))
    same(bytes(payload), signal="metrics")
    at = data.draw(st.integers(0, len(payload)))
    stop = data.draw(st.integers(at, min(len(payload), at + 3)))
    payload[at:stop] = data.draw(st.binary(max_size=3))
    same(bytes(payload), signal="metrics")


@pytest.mark.parametrize("kind", KINDS)
def test_every_truncation_of_a_point_comes_out_as_one_by_one(kind: str) -> None:
    """Whole to its parent or not."""
    metric: Any = SERVICES["metrics"].request().resource_metrics.add().scope_metrics.add().metrics.add()
    content = fill(getattr(metric, kind).data_points.add(), kind, random.Random(3)).SerializeToString()
    for size in range(len(content)):
        same(points(kind, content, content[:size], content), signal="metrics")
    payload = points(kind, content, content)
    for size in range(len(payload)):
        same(payload[:size], signal="metrics")


def array(*numbers: int) -> bytes:
    return b"".join(map(varint, numbers))


TWO, NUM = bytes(16), bytes(8)
ODD = {
    "histogram": [
        delimited(6, bytes(12)), delimited(6, b""), delimited(6, TWO) * 2, b"\x31" + NUM, (b"\x31" + NUM) * 2,
        delimited(7, TWO) + delimited(6, TWO), delimited(7, NUM) + b"\x39" + NUM, b"\x30\x05",
        delimited(6, bytes(8 * 127)), delimited(6, bytes(8 * 128)), b"\x32\x88\x00" + NUM, b"\x21" + NUM * 2,
        b"\x50\x81\x01", b"\x59" + NUM + b"\x50\x01", (b"\x59" + NUM) * 2,
    ],
    "exponential_histogram": [
        delimited(8, delimited(2, content))
        for content in (
            b"", b"\x80", b"\x80\x00", b"\x80\x01",
            b"\xff" * 9 + b"\x01", b"\xff" * 9 + b"\x02", b"\xff" * 10 + b"\x01",
            array(*[1] * 127), array(*[1] * 128), array(*[200] * 511), array(*[200] * 512), array(5, 0, 300) + b"\x81",
        )
    ] + [
        delimited(8, b"\x10\x05"), delimited(8, b"\x10\x05\x10\x06"), delimited(8, b"\x08\x80\x01"),
        delimited(8, b""), delimited(8, b"\x08\x05\x08\x06"), delimited(8, b"\x12\x02\x05"),
        delimited(8, b"\x12\x81\x00\x05"),
        delimited(8, delimited(2, b"\x05") + b"\x08\x05"), delimited(8, delimited(2, b"\x05") * 2),
        delimited(8, b"\x05"),
        delimited(8, b"\x08\x05") * 2, b"\x30\x05\x30\x06", b"\x30\x05" + delimited(8, b"\x08\x05") + b"\x30\x06",
        b"\x19" + NUM + b"\x11" + NUM, b"\x50\x05\x19" + NUM,
    ],
    "sum": [
        b"\x21" + NUM + b"\x31" + NUM, b"\x31" + NUM + b"\x21" + NUM, (b"\x21" + NUM) * 2,
        b"\x21" + NUM + delimited(5, b"\x11" + NUM) + b"\x31" + NUM,
        *(
            delimited(5, content)
            for content in (
                b"\x19" + NUM + b"\x31" + NUM, b"\x31" + NUM + b"\x19" + NUM, (b"\x31" + NUM) * 2,
                b"\x19" + NUM + delimited(4, SPAN) + b"\x31" + NUM, delimited(4, b"AKIAIOSF"),
                delimited(4, b"abc"), delimited(5, b"ghp_abcdefghij01"), b"", b"\x05",
                delimited(7, attributes({"a": "b"})[0].SerializeToString()),
            )
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_odd_numbers_come_out_as_one_by_one(kind: str) -> None:
    """Arrays of odd lengths, numbers one by one, twice, in another order, overlong, cut off; two of a kind."""
    for content in ODD[kind]:
        same(points(kind, content), signal="metrics")
        same(points(kind, b"\x19" + NUM, content, content, b"\x19" + NUM), signal="metrics")


MUTANTS: dict[str, tuple[object, str, object]] = {
    "all is plain": (Part, "plain", re.compile(b".*", re.DOTALL)),
    "nothing stands twice": (kinds, "Kind", lambda bit, *said, **more: Kind(0 * bit, *said, **more)),
    "any length will do": (forms, "_sized", lambda _: forms._ANY_LENGTH),
}


@pytest.mark.parametrize(
    ("mutant", "kind"),
    [
        ("all is plain", "exponential_histogram"), ("all is plain", "sum"), ("any length will do", "histogram"),
        *(("nothing stands twice", kind) for kind in ODD),
    ],
)  # fmt: skip
def test_a_piece_that_is_broken_shows(mutant: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of plain fields at once decides about points of these tests: what says too much is found out."""
    monkeypatch.setattr(*MUTANTS[mutant])
    made = redactor.__wrapped__("default")
    payloads = [points(kind, b"\x19" + NUM, content, content, b"\x19" + NUM) for content in ODD[kind]]
    assert any(
        outcome(Rows, made, "metrics", payload) != outcome(Pass, made, "metrics", payload) for payload in payloads
    )


@pytest.mark.usefixtures("unwalked")
def test_log_records_with_a_name_are_judged_together() -> None:
    """The name of an event stands behind the attributes; one that may not leave is masked or dropped alone."""
    made: Any = SERVICES["logs"].request()
    scope = made.resource_logs.add().scope_logs.add()
    for name in ("tool.called", "tool.called", "AKIAIOSFODNN7EXAMPLE", "dear bob, see attached"):
        scope.log_records.add(time_unix_nano=1, event_name=name, attributes=attributes({"tenant.id": "acme"}))
    payload = made.SerializeToString()
    logs: Signal = "logs"
    redacted = outcome(Rows, redactor("default"), logs, payload)
    assert isinstance(redacted, tuple)
    assert redacted[1:3] == (4, 4)
    assert redacted[0].count(b"tool.called") == 2
    assert b"AKIA" not in redacted[0]
    assert b"bob" not in redacted[0]
    assert sum(redacted[4].values()) == 2


def test_log_records_with_two_names_come_out_as_one_by_one() -> None:
    """The second is dropped, whatever the first was."""
    name = delimited(12, b"tool.called")
    for content in (
        name,
        name * 2,
        delimited(12, b"AKIAIOSFODNN7EXAMPLE") + name,
        delimited(12, b""),
        delimited(12, b"\xff"),
    ):
        inside = b"".join(delimited(2, b"\x09" + NUM + more) for more in (name, content, content))
        same(delimited(1, delimited(2, inside)), signal="logs")
