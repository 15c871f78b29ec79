"""Tricks of the wire format: what a parser would merge, forgive or keep does not get a secret out."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from redaction_samples import REQUESTS

from sidecar.conventions import Signal
from sidecar.redaction import Malformed, Policy, Redacted, Redactor
from sidecar.redaction.wire_format import FIXED32, FIXED64, GROUP, LENGTH, VARINT, delimited, tag_of, varint

SECRET = b"bob@example.com"
REDACTOR = Redactor(Policy.default())
KIND = varint(tag_of(6, VARINT)) + b"\x01"
NAME = delimited(5, b"chat gpt-4o")


def tag(number: int, wire_type: int) -> bytes:
    return varint(tag_of(number, wire_type))


def text(content: bytes) -> bytes:
    """An AnyValue."""
    return delimited(1, content)


def attribute(key: bytes, value: bytes) -> bytes:
    """A KeyValue."""
    return delimited(1, key) + delimited(2, value)


def traces(span: bytes) -> bytes:
    return delimited(1, delimited(2, delimited(2, span)))


def redact(request: bytes, signal: Signal = "traces") -> Redacted:
    redacted = REDACTOR.redact(signal, request)
    assert SECRET not in redacted.payload
    REQUESTS[signal].FromString(redacted.payload)
    return redacted


UNKNOWN = {
    "a number": tag(99, VARINT) + varint(2**40),
    "eight bytes": tag(99, FIXED64) + SECRET[:8],
    "four bytes": tag(99, FIXED32) + SECRET[:4],
    "bytes": delimited(99, SECRET),
    "a group": tag(99, GROUP) + delimited(1, SECRET) + tag(99, 4),
    "a group in a group": tag(99, GROUP) + tag(1, GROUP) + delimited(1, SECRET) + tag(1, 4) + tag(99, 4),
    "a number in the place of a text": tag(5, VARINT) + b"\x07",
    "a text in the place of a number": delimited(6, SECRET),
    "eight bytes in the place of an id": tag(2, FIXED64) + SECRET[:8],
}


@pytest.mark.parametrize("field", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_fields_and_wrong_wire_types_are_dropped(field: bytes) -> None:
    """In front of, between and behind known fields; the record stays."""
    for span in (field + NAME + KIND, NAME + field + KIND, NAME + KIND + field):
        redacted = redact(traces(span))
        assert redacted.payload == traces(NAME + KIND)
        assert redacted.actions == {("drop", "unknown"): 1}


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: delimited(1, f), lambda f: delimited(1, delimited(2, f))])
def test_unknown_fields_around_records_are_dropped(wrap: Callable[[bytes], bytes]) -> None:
    """At the level of the request, of the resource and of the scope."""
    redacted = redact(wrap(delimited(77, SECRET)))
    assert redacted.payload == wrap(b"")
    assert redacted.actions == {("drop", "unknown"): 1}


BROKEN_SPANS = {
    "a length beyond the end": tag(5, LENGTH) + b"\x7f" + SECRET,
    "a length in two bytes where one would do": tag(5, LENGTH) + b"\x8b\x00" + b"chat gpt-4o",
    "a tag in two bytes where one would do": b"\xaa\x00\x0bchat gpt-4o",
    "a number in two bytes where one would do": tag(6, VARINT) + b"\x81\x00",
    "a number of more than 64 bits": tag(10, VARINT) + b"\xff" * 9 + b"\x02",
    "a number that does not end": tag(10, VARINT) + b"\xff" * 20,
    "a cut fixed number": tag(7, FIXED64) + b"\x00" * 7,
    "field number zero": b"\x02\x01x",
    "the end of no group": tag(5, 4),
    "a group that does not end": tag(99, GROUP) + delimited(1, SECRET),
    "a group that another one ends": tag(99, GROUP) + tag(98, 4),
    "groups nested without end": tag(99, GROUP) * 64 + tag(99, 4) * 64,
    "a wire type that is none": tag(99, 6) + b"\x00",
    "a cut tag": b"\x80",
}


@pytest.mark.parametrize("span", BROKEN_SPANS.values(), ids=BROKEN_SPANS)
def test_a_record_that_cannot_be_read_is_dropped_alone(span: bytes) -> None:
    """Its neighbours stay; it is counted."""
    request = delimited(1, delimited(2, delimited(2, NAME) + delimited(2, NAME + span) + delimited(2, KIND)))
    redacted = redact(request)
    assert redacted.payload == delimited(1, delimited(2, delimited(2, NAME) + delimited(2, KIND)))
    assert (redacted.records_in, redacted.records_out, redacted.dropped) == (3, 2, {"wire": 1})


@pytest.mark.parametrize("span", BROKEN_SPANS.values(), ids=BROKEN_SPANS)
@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: delimited(1, f), lambda f: delimited(1, delimited(2, f))])
def test_a_request_that_cannot_be_read_down_to_its_records_is_malformed(
    span: bytes, wrap: Callable[[bytes], bytes]
) -> None:
    """The error is one word; neither it nor what caused it holds content."""
    broken = span.replace(tag(5, LENGTH), tag(2, LENGTH)) if span.startswith(tag(5, LENGTH)) else span
    with pytest.raises(Malformed, match=r"\Awire\Z") as caught:
        REDACTOR.redact("traces", wrap(broken))
    assert caught.value.__cause__ is None


def test_a_request_cut_anywhere_is_malformed_or_whole() -> None:
    """No cut lets anything out that the whole does not."""
    whole = delimited(1, delimited(2, delimited(2, NAME + delimited(9, attribute(b"message", text(SECRET))))))
    for cut in range(1, len(whole)):
        with pytest.raises(Malformed):
            REDACTOR.redact("traces", whole[:cut])
    assert REDACTOR.redact("traces", b"").payload == b""


TWICE = {
    "value twice, the last one bad": attribute(b"tenant.id", text(b"acme")) + delimited(2, text(SECRET)),
    "value twice, the first one bad": attribute(b"tenant.id", text(SECRET)) + delimited(2, text(b"acme")),
    "key twice": delimited(1, b"tenant.id") + attribute(b"message", text(SECRET)),
    "key behind a foreign value": delimited(2, text(SECRET)) + delimited(1, b"message") + delimited(1, b"tenant.id"),
    "two texts in a value": attribute(b"tenant.id", text(b"acme") + text(SECRET)),
    "two kinds in a value": attribute(b"tenant.id", text(b"acme") + delimited(7, SECRET)),
    "a number behind a number": attribute(b"gen_ai.usage.input_tokens", b"\x18\x01\x18\xff\xff\xff\x7f"),
    "two lists in a value": attribute(
        b"gen_ai.response.finish_reasons",
        delimited(5, delimited(1, text(b"stop"))) + delimited(5, delimited(1, text(SECRET))),
    ),
    "a text behind a list": attribute(
        b"gen_ai.response.finish_reasons", delimited(5, delimited(1, text(b"stop"))) + delimited(1, text(b"stop"))
    ),
    "an item of two texts": attribute(
        b"gen_ai.response.finish_reasons", delimited(5, delimited(1, text(b"stop") + text(SECRET)))
    ),
}  # fmt: skip


@pytest.mark.parametrize("entry", TWICE.values(), ids=TWICE)
def test_an_attribute_that_says_two_things_is_dropped(entry: bytes) -> None:
    """Parsers let the last one win, or merge; whoever scanned the other one scanned nothing."""
    redacted = redact(traces(NAME + delimited(9, entry)))
    assert redacted.payload == traces(NAME)
    assert sum(redacted.actions.values()) == 1


def test_the_order_of_key_and_value_does_not_matter() -> None:
    """Protobuf promises none."""
    entry = delimited(2, text(b"acme")) + delimited(1, b"tenant.id")
    assert redact(traces(delimited(9, entry))).payload == traces(delimited(9, entry))


def test_of_two_attributes_with_one_key_the_first_stays() -> None:
    """Stores disagree on which one counts; also when both were seen before."""
    first, second = (delimited(9, attribute(b"tenant.id", text(value))) for value in (b"acme", b"globex"))
    for _ in range(2):
        redacted = redact(traces(first + second))
        assert redacted.payload == traces(first)
        assert redacted.actions == {("drop", "duplicate"): 1}


def test_a_refused_attribute_does_not_stand_in_the_way_of_a_good_one() -> None:
    """Only what stays counts as the first."""
    bad = delimited(9, attribute(b"gen_ai.tool.name", text(b"not a name")))
    good = delimited(9, attribute(b"gen_ai.tool.name", text(b"search")))
    assert redact(traces(bad + good)).payload == traces(good)


def test_messages_that_parsers_would_merge_count_the_first_time() -> None:
    """A second resource, scope or status is dropped whole: merged, its parts would stand where nobody expects them."""
    resource = delimited(1, attribute(b"service.name", text(b"billing")))
    again = delimited(1, attribute(b"service.name", text(b"other")))
    status = b"\x18\x02"
    span = NAME + delimited(15, status) + delimited(15, delimited(2, SECRET) + status)
    request = delimited(1, delimited(1, resource) + delimited(1, again) + delimited(2, delimited(2, span)))
    redacted = redact(request)
    assert redacted.payload == delimited(
        1, delimited(1, resource) + delimited(2, delimited(2, NAME + delimited(15, status)))
    )
    assert redacted.actions == {("drop", "duplicate"): 2}


def test_texts_and_numbers_that_stand_twice_count_the_first_time() -> None:
    """A name behind a name would be the one that a parser takes."""
    for again in (NAME, KIND, delimited(1, b"\x80" * 16), tag(7, FIXED64) + b"\x00" * 8):
        assert redact(traces(again + again)).payload == traces(again)


def test_a_second_kind_of_data_in_a_metric_is_dropped_with_its_points() -> None:
    """The points of a oneof's second member are found, counted and gone."""
    name = delimited(1, b"autogen.messages")
    point = delimited(1, tag(6, FIXED64) + struct.pack("<q", 1))
    metric = name + delimited(5, point) + delimited(7, point * 3)
    redacted = redact(delimited(1, delimited(2, delimited(2, metric))), "metrics")
    assert redacted.payload == delimited(1, delimited(2, delimited(2, name + delimited(5, point))))
    assert (redacted.records_in, redacted.records_out, redacted.dropped) == (4, 1, {"duplicate": 3})


@pytest.mark.parametrize("late", [False, True], ids=["name first", "name last"])
def test_a_metric_without_an_allowed_name_is_dropped_with_its_points(late: bool) -> None:
    """Wherever the name stands; points that had a reason of their own keep it."""
    name = delimited(1, SECRET)
    good, bad = delimited(1, b""), delimited(1, delimited(5, delimited(4, b"short")) + b"\xff")
    data = delimited(5, good + bad + good)
    metric = data + name if late else name + data
    redacted = redact(delimited(1, delimited(2, delimited(2, metric))), "metrics")
    assert redacted.payload == delimited(1, delimited(2, b""))
    assert (redacted.records_in, redacted.records_out) == (3, 0)
    assert redacted.dropped == ({"wire": 1, "name": 2} if late else {"name": 3})


IDS = [(1, 16), (2, 8), (4, 8)]


@pytest.mark.parametrize(("number", "length"), IDS)
def test_an_id_of_another_length_costs_the_record(number: int, length: int) -> None:
    """Ids have 16 or 8 bytes, or are absent: any other length is a channel."""
    for size in range(33):
        redacted = redact(traces(delimited(number, b"\xc3" * size)))
        assert redacted.records_out == (size in (0, length))
        assert redacted.dropped == ({} if size in (0, length) else {"identity": 1})


def test_a_secret_spelt_out_in_an_id_costs_the_record() -> None:
    """An id that is text is read as text."""
    assert redact(traces(delimited(1, b"bob@example.com!"))).dropped == {"identity": 1}
    assert redact(traces(delimited(1, b"4111111111111111"))).dropped == {"identity": 1}
    assert redact(traces(delimited(1, b"0123456789abcdef"))).dropped == {}


def test_links_and_exemplars_with_bad_ids_are_dropped_alone() -> None:
    """They are parts of a record, not records."""
    link = delimited(13, delimited(1, SECRET))
    assert redact(traces(NAME + link)).payload == traces(NAME)
    point = delimited(1, delimited(5, delimited(5, SECRET)))
    metric = delimited(1, delimited(2, delimited(2, delimited(1, b"m") + delimited(5, point))))
    redacted = redact(metric, "metrics")
    assert (redacted.records_out, redacted.actions) == (1, {("drop", "identity"): 1})


BAD_TEXT = {"latin-1": b"caf\xe9", "a surrogate": b"\xed\xa0\x80", "overlong": b"\xc0\xae", "cut": b"caf\xc3"}


@pytest.mark.parametrize("bad", BAD_TEXT.values(), ids=BAD_TEXT)
def test_bad_utf8_is_dropped(bad: bytes) -> None:
    """In an attribute and in a field; a name that must be there becomes `redacted`."""
    entry = delimited(9, attribute(b"tenant.id", text(bad)))
    redacted = redact(traces(delimited(5, bad) + entry))
    assert redacted.payload == traces(delimited(5, b"redacted"))
    assert redacted.actions == {("mask", "utf8"): 1, ("drop", "utf8"): 1}


@pytest.mark.parametrize("depth", [1, 31, 32, 47, 48, 10_000])
@pytest.mark.parametrize("number", [5, 6])
def test_no_depth_of_nesting_matters(number: int, depth: int) -> None:
    """Lists and maps without end, where a parser would give up: the attribute is dropped, the record stays."""
    value = text(SECRET)
    for _ in range(depth):
        value = delimited(number, delimited(1, value if number == 5 else attribute(b"k", value)))
    redacted = redact(traces(NAME + delimited(9, attribute(b"gen_ai.response.finish_reasons", value))))
    assert redacted.payload == traces(NAME)


def metric_with(point: bytes, kind: int) -> bytes:
    return delimited(1, delimited(2, delimited(2, delimited(1, b"m") + delimited(kind, delimited(1, point)))))


@pytest.mark.parametrize("packed", [True, False])
def test_repeated_numbers_pass_in_both_forms(packed: bool) -> None:
    """Bucket counts and bounds, packed or one by one, as parsers take them."""
    counts = struct.pack("<2Q", 3, 2**60)
    points = {
        9: delimited(6, counts) if packed else b"".join(tag(6, FIXED64) + counts[i : i + 8] for i in (0, 8)),
        10: delimited(8, delimited(2, varint(3) + varint(2**60)))
        if packed
        else delimited(8, tag(2, VARINT) + varint(3) + tag(2, VARINT) + varint(2**60)),
    }
    for kind, point in points.items():
        request = metric_with(point, kind)
        assert redact(request, "metrics").payload == request


def test_packed_numbers_that_are_none_are_dropped() -> None:
    """A length that does not divide, a number that does not end or is longer than need be."""
    assert redact(metric_with(delimited(6, SECRET), 9), "metrics").actions == {("drop", "wire"): 1}
    for bad in (b"\x80", b"\x81\x00", b"\xff" * 11, b"\xff" * 9 + b"\x02"):
        request = metric_with(delimited(8, delimited(2, bad)), 10)
        assert redact(request, "metrics").actions == {("drop", "wire"): 1}


def test_numbers_out_of_their_type_are_dropped() -> None:
    """An enumeration has only the values that OTLP has names for; 32 bits are 32 bits."""
    for field in (tag(6, VARINT) + varint(6), tag(6, VARINT) + varint(2**64 - 1), tag(10, VARINT) + varint(2**32)):
        redacted = redact(traces(NAME + field))
        assert redacted.payload == traces(NAME)
        assert redacted.actions == {("drop", "range"): 1}


@pytest.mark.parametrize("payload", [b"\x0a\x00" * 10_000, traces(NAME) * 1000])
def test_many_small_messages_are_walked_not_recursed(payload: bytes) -> None:
    """Empty envelopes by the thousand cost time, not stack."""
    assert redact(payload).payload == payload


def test_the_output_is_what_the_classes_would_write() -> None:
    """Rewritten lengths and tags are canonical, also above 127 bytes."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(name="chat " + "m" * 120)
    for number in range(40):
        span.events.add(name=f"event-{number}", time_unix_nano=number).attributes.add(key="exception.message")
    output = redact(request.SerializeToString()).payload
    for event in span.events:
        del event.attributes[:]
    assert output == request.SerializeToString()
