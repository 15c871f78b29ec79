"""A passport as W3C trace context: what is written anybody's parser can read, and what is read may be anything."""

from __future__ import annotations

import re
import string
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from instrumentation import budgets, diagnostics, tenancy
from instrumentation.hooks.passport import PassportAbroad
from instrumentation.hooks.tracestate import KEY, MAX_ENTRIES, MAX_VALUE, Wire, clock_id
from instrumentation.peers import Key, Peers

# Trace Context, 3.3.1.3: printable ASCII but comma and equals sign, no blank at the end.
VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Findings:
    """Counts what is found."""

    def __init__(self) -> None:
        self.forgeries = 0

    def forged(self) -> None:
        self.forgeries += 1


def wire(*keys: str) -> tuple[Wire, Findings]:
    findings = Findings()
    return Wire(Peers(tuple(Key(key.encode()) for key in keys)), findings), findings  # type: ignore[arg-type]


def passport(tenant: str | None = None, span: SpanContext | None = None, budget: Any = None) -> PassportAbroad:
    context = Context() if span is None else trace.set_span_in_context(NonRecordingSpan(span), Context())
    # A table of its own: the one of the process would be full after so many.
    binding = None if tenant is None else tenancy.Binding(tenancy.TenantTable().intern(tenant))
    return PassportAbroad(binding, None if budget is None else budgets.Bound(budget), context, 12_345)


def is_valid(tenant: str) -> bool:
    try:
        return tenancy.validate(tenant) == tenant
    except tenancy.InvalidTenantError:
        return False


def entries(written: dict[str, str]) -> list[tuple[str, str]]:
    return [tuple(member.split("=", 1)) for member in written["tracestate"].split(",")]  # type: ignore[misc]


TENANTS = st.text(min_size=1, max_size=255).filter(is_valid)
SPANS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.just(False),
    st.sampled_from((TraceFlags(0), TraceFlags(1))),
    st.lists(
        st.tuples(st.text(string.ascii_lowercase, min_size=1, max_size=5), st.just("v")), max_size=32, unique=True
    ).map(lambda pairs: TraceState(list(dict(pairs).items()))),
)
LIMITS = st.one_of(st.none(), st.integers(0, 86_400 * 10**9))
BUDGETS = st.one_of(st.none(), st.builds(budgets.Budget, LIMITS, LIMITS, st.booleans()))


@given(TENANTS, st.one_of(st.none(), SPANS), BUDGETS)
def test_what_is_written_is_valid_and_read_back(who: str, span: SpanContext | None, budget: Any) -> None:
    """For every tenant id: an entry that W3C's grammar allows, and the same tenant, span, time and budget at the other
    end; or, of an id that does not fit, no tenant at all. Never another id."""
    here, _ = wire("k" * 32)
    there, found = wire("k" * 32)
    sent = passport(who, span, budget)
    written = here.write(sent)
    assert TRACEPARENT.fullmatch(written["traceparent"])
    (ours, value), *others = entries(written)
    assert ours == KEY
    assert VALUE.fullmatch(value)
    assert len(value) <= MAX_VALUE
    assert len(others) < MAX_ENTRIES
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tenancy, "TABLE", tenancy.TenantTable())  # the process's own would be full some day
        came = there.read(written)
        assert came.tenant.name == (who if len(quote(who, safe="-_.~:@/+!")) < 150 else came.tenant.name)
        assert came.tenant.name in (who, "unknown")
    assert came.believed
    assert came.sent_ns == 12_345
    assert came.trace_id == sent.trace_id
    above = trace.get_current_span(came.context).get_span_context()
    if span is None:
        assert not above.is_valid
    else:
        assert (above.trace_id, above.span_id, above.trace_flags) == (span.trace_id, span.span_id, span.trace_flags)
        assert KEY not in above.trace_state
        assert list(above.trace_state.items()) == list(span.trace_state.items())[: MAX_ENTRIES - 1]
    if budget is None:
        assert came.budget is None
    else:
        assert came.budget is not None
        got = came.budget.budget
        assert (got.turn_ns, got.loop_ns, got.cancel) == (budget.turn_ns, budget.loop_ns, budget.cancel)
    assert found.forgeries == 0


def test_an_id_that_does_not_fit_is_counted() -> None:
    """255 letters do not, nor do as many bytes in percent signs; 150 do. It is not cut: the message is nobody's."""
    here, _ = wire("k" * 32)
    for who, fits in (("a" * 150, True), ("a" * 255, False), ("字" * 15, True), ("字" * 30, False)):
        before = diagnostics.counts().get("tenant.too_long", 0)
        came = wire("k" * 32)[0].read(here.write(passport(who)))
        assert came.tenant.name == (who if fits else "unknown")
        assert diagnostics.counts().get("tenant.too_long", 0) == before + (not fits)


@given(st.text(max_size=300), st.text(max_size=300))
def test_anything_may_come_in(parent: str, state: str) -> None:
    """Never raises, and believes nobody."""
    there, _ = wire("k" * 32)
    for metadata in (
        {"traceparent": parent, "tracestate": state},
        {"traceparent": f"00-{7:032x}-{7:016x}-01", "tracestate": f"{KEY}={state}"},
        {"traceparent": f"00-{7:032x}-{7:016x}-01", "tracestate": f"{KEY}=1;{state};0;0;;;x"},
        {"tracestate": state},
        {},
    ):
        came = there.read(metadata)
        assert not came.believed
        assert came.binding is None
        assert came.budget is None
        assert came.sent_ns is None


@pytest.mark.parametrize(
    "state",
    [
        "SECRET canary",
        "a=1,SECRET",
        ",".join(f"k{n}=SECRET" for n in range(40)),
        "a=SECRET,a=SECRET",
        "SECRET" * 10_000,
    ],
    ids=("no entry", "one of two", "too many", "twice", "long"),
)
@pytest.mark.parametrize("ours", ["", f"{KEY}=1;acme;0;0;;;x,"], ids=("alone", "behind ours"))
def test_a_strangers_text_does_not_reach_the_log(ours: str, state: str, caplog: pytest.LogCaptureFixture) -> None:
    """A list that breaks the grammar is left out, without a word: whoever reaches the host could write into the
    application's log. The span above is still known."""
    came = wire("k" * 32)[0].read({"traceparent": f"00-{7:032x}-{7:016x}-01", "tracestate": ours + state})
    above = trace.get_current_span(came.context).get_span_context()
    assert (above.trace_id, len(above.trace_state)) == (7, 0)
    assert caplog.text == ""


@given(st.text("a1=,@ -\t", max_size=40))
def test_others_entries_are_read_as_opentelemetry_reads_them(state: str) -> None:
    """The same entries of the same list, whatever it is."""
    came = wire("k" * 32)[0].read({"traceparent": f"00-{7:032x}-{7:016x}-01", "tracestate": state})
    above = trace.get_current_span(came.context).get_span_context()
    assert list(above.trace_state.items()) == list(TraceState.from_header([state]).items())


@pytest.mark.parametrize(
    "sealed",
    [
        "1;;-8000000000000000;{clock};;", "1;;10000000000000000;{clock};;", "1;acme;_1;{clock};;", "1;acme;;{clock};;",
        "1;acme;0;{clock};x;", "1;acme;0;{clock};;1/2", "1;acme;0;{clock};;-1//", "1;%f;0;{clock};;",
        "2;acme;0;{clock};;", "1;acme;0;{clock}",
    ],
)  # fmt: skip
def test_what_a_key_sealed_has_to_make_sense(sealed: str) -> None:
    """One who has a key may be believed for a tenant; that his numbers are any is looked at all the same."""
    text = sealed.format(clock=clock_id())
    seal = Peers((Key(b"k" * 32),)).seal(f"{7:032x};{text}".encode())
    there, found = wire("k" * 32)
    came = there.read({"traceparent": f"00-{7:032x}-{7:016x}-01", "tracestate": f"{KEY}={text};{seal}"})
    assert not came.believed
    assert (came.binding, came.budget, came.sent_ns, found.forgeries) == (None, None, None, 1)


def test_a_long_claim_is_not_sealed_to_be_compared() -> None:
    """The cost of a message that claims something does not grow with what it claims."""
    there, found = wire("k" * 32)
    asked: list[bytes] = []
    there._peers.whose = lambda text, seal: asked.append(text)  # type: ignore[assignment,func-returns-value,method-assign]
    there.read({"traceparent": f"00-{7:032x}-{7:016x}-01", "tracestate": f"{KEY}=1;{'a' * 1_000_000};0;0;;;x"})
    assert found.forgeries == 1
    assert asked == []


@given(st.data())
def test_no_character_can_be_changed(data: st.DataObject) -> None:
    """Of what is sealed, nor of the seal, nor of the trace's id."""
    written = wire("k" * 32)[0].write(passport("acme", SpanContext(2**127 + 7, 7, False)))
    value = entries(written)[0][1]
    place = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + ";/").filter(lambda c: c != value[place]))
    there, _ = wire("k" * 32)
    if place < len(value) - 1:  # the last character has bits that base64 does not use; they are compared all the same
        forged = value[:place] + other + value[place + 1 :]
        assert not there.read({**written, "tracestate": f"{KEY}={forged}"}).believed
    assert not there.read({**written, "traceparent": f"00-{8:032x}-{7:016x}-01"}).believed
    assert there.read(written).believed


def test_a_root_stays_one() -> None:
    """Of a sender who is in no span, the trace context is there to be sealed, and nothing hangs under it."""
    written = wire("k" * 32)[0].write(passport("acme"))
    carried = TraceContextTextMapPropagator().extract(written)
    assert trace.get_current_span(carried).get_span_context().is_valid
    came = wire("k" * 32)[0].read(written)
    assert not trace.get_current_span(came.context).get_span_context().is_valid


def test_time_of_another_clock_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Monotonic time means something on one machine only; across two, nobody knows how long a message took."""
    written = wire("k" * 32)[0].write(passport("acme"))
    monkeypatch.setattr("instrumentation.hooks.tracestate.clock_id", lambda: "another0")
    came = wire("k" * 32)[0].read(written)
    assert came.sent_ns is None
    assert came.tenant.name == "acme"
    assert re.fullmatch("[0-9a-f]{8}", clock_id())


def test_an_answer_has_the_trace_of_its_question() -> None:
    """And the tenant that it was handled for; nothing when the question came without a trace."""
    here, there = wire("k" * 32)[0], wire("k" * 32)[0]
    asked = passport("acme", SpanContext(7, 7, False))
    answer = here.read(there.answer(there.read(here.write(asked))))
    assert answer.trace_id == asked.trace_id == 7
    assert answer.tenant.name == "acme"
    rootless = passport("acme")
    assert here.read(there.answer(there.read(here.write(rootless)))).trace_id == rootless.trace_id
    assert there.answer(there.read({})) == {}
