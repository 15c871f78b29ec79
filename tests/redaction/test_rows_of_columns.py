"""Records that are alike are judged by the column: nobody can tell, whatever stands out, and little is kept of it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import uuid
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otlp_peers import attributes
from row_trials import Rows, SomeColumns, outcome

from sidecar.redaction import MasterKey, Policy, Pseudonyms, Redactor, bulk, columns, engine, forms, gates, texts
from sidecar.redaction.engine import Pass
from sidecar.redaction.forms import Form
from sidecar.redaction.letters import across
from sidecar.redaction.memo import GENERATION
from sidecar.redaction.plan import TenantPlans
from sidecar.redaction.rows import RowsPass
from sidecar.redaction.steps import INTO, Plan
from sidecar.redaction.texts import Text
from sidecar.redaction.wire_format import delimited

SECRET = "b" + "o" * 20 + ".AKIAA1B2C3D4A1B2C3D4"
KINDS = (Pass, Rows, SomeColumns, RowsPass)


def redactor() -> Redactor:
    return Redactor(Policy.default(), Pseudonyms(MasterKey("k1", bytes(32))))


def field(key: str, value: Any) -> bytes:
    """An attribute of a span."""
    return delimited(9, attributes({key: value})[0].SerializeToString())


def request(spans: list[list[bytes]]) -> bytes:
    """Spans with these fields."""
    head = delimited(1, bytes(range(200, 216))) + delimited(2, bytes(range(200, 208))) + delimited(5, b"chat m")
    return delimited(1, delimited(2, b"".join(delimited(2, head + b"".join(fields)) for fields in spans)))


def usual(chance: random.Random) -> list[bytes]:
    """What stands in records that are alike: values that repeat, and such as are new."""
    return [
        field("tenant.id", f"tenant-{chance.randrange(5)}"),
        field("gen_ai.usage.input_tokens", chance.randrange(5000)),
        field("gen_ai.conversation.id", str(uuid.UUID(int=chance.getrandbits(128), version=4))),
        field("gen_ai.agent.name", f"Planner-{''.join(chance.choices('aeioubcd', k=chance.randint(1, 7)))}"),
        delimited(11, b"\x09" + chance.randbytes(8) + delimited(2, b"exception")),
    ]


ODD = {
    "another key": field("gen_ai.tool.name", "search"),
    "a key without a rule": field("message", "hello there"),
    "the same, long": field("message", "hello there " * 30),
    "a key like a secret": field(SECRET, "x"),
    "a secret": field("gen_ai.agent.name", SECRET),
    "a long value": field("gen_ai.agent.name", "a" * 125),
    "a value that is too long": field("gen_ai.agent.name", "a" * 900),
    "another type": field("gen_ai.agent.name", 7),
    "not ASCII": field("gen_ai.agent.name", "Plänner"),
    "two lines": field("gen_ai.agent.name", "Plan\nner"),
    "no content": b"\x4a\x00",
    "a tag": b"\x4a\x01\x0a",
    "an empty key": b"\x4a\x02\x0a\x00",
    "no value": delimited(9, delimited(1, b"gen_ai.agent.name")),
    "a key with a longer length than there is": b"\x4a\x04\x0a\x7fab",
    "a second tenant": field("tenantscope.victim", "globex"),
    "another event": delimited(11, delimited(2, b"exception")),
    "an event that says much": delimited(11, b"\x09" + bytes(8) + delimited(2, SECRET.encode())),
    "a link": delimited(13, delimited(1, bytes(range(200, 216))) + delimited(2, bytes(range(200, 208)))),
    "a status": delimited(15, delimited(2, b"went wrong")),
    "flags": b"\x85\x01\x01\x00\x00\x00",
    "no field of a span": delimited(14, b"abc"),
}


@given(
    seed=st.integers(0, 2**48),
    many=st.sampled_from((2, 5, 40)),
    odd=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 4), st.sampled_from(sorted(ODD))), max_size=12),
    also=st.booleans(),
    tenants=st.sampled_from((None, frozenset({"tenant-1", "globex", ""}))),
)
@settings(max_examples=400, deadline=None)
def test_what_stands_out_in_a_column_comes_out_as_one_by_one(
    seed: int, many: int, odd: list[tuple[int, int, str]], also: bool, tenants: frozenset[str] | None
) -> None:
    """In the place of what the others have there, or besides; the second time, too."""
    chance, work = random.Random(seed), redactor()
    spans = [usual(chance) for _ in range(many)]
    for number, at, what in odd:
        spans[number % many][at : at + (not also)] = [ODD[what]]
    payload = request(spans)
    alone = outcome(Pass, work, "traces", payload, tenants)
    for kind in (*KINDS, *KINDS):
        assert outcome(kind, work, "traces", payload, tenants) == alone


@pytest.mark.parametrize("what", sorted(ODD))
@pytest.mark.parametrize("at", range(6))
def test_all_of_a_column_may_stand_out(what: str, at: int) -> None:
    """Before the others, among them, behind them."""
    chance, work = random.Random(at), redactor()
    spans = [usual(chance) for _ in range(40)]
    for span in spans:
        span.insert(at, ODD[what])
    alone = outcome(Pass, work, "traces", request(spans))
    assert [outcome(kind, work, "traces", request(spans)) for kind in KINDS] == [alone] * len(KINDS)


MUTANTS: dict[str, tuple[object, str, object]] = {
    "all begin alike": (forms.Beginnings, "__missing__", lambda _self, _size: b"\x4a"),
    "all values begin as they should": (gates.AttributeGate, "leads", lambda _self, _start: (b"",) * 2048),
    "what is told of one is told of all": (
        columns,
        "merged",
        lambda chosen, *letters: [[*letters[0], *letters[1]][0]] * len(chosen),
    ),
    "one word for all": (bulk, "across", lambda columns: repeat(next(iter(across(columns))))),
    "nobody is in doubt": (texts, "doubtful_among", lambda _: []),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_piece_that_is_broken_shows(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of a column at once decides about the requests of these tests: what says too much is found out."""
    monkeypatch.setattr(*MUTANTS[mutant])
    chance, work, differ = random.Random(3), redactor(), 0
    for odd in ODD.values():
        spans = [usual(chance) for _ in range(40)]
        for number in range(20):
            spans[2 * number][3] = odd
        payload = request(spans)
        try:
            differ += outcome(RowsPass, work, "traces", payload) != outcome(Pass, work, "traces", payload)
        except KeyError:  # nothing is there to be written
            differ += 1
    assert differ


def form_of(plan: Plan) -> Form:
    """That of the records in a request."""
    (record,) = (
        operand.everybody.form if isinstance(operand, TenantPlans) else form_of(operand)
        for operation, _, operand in plan.values()
        if operation == INTO or isinstance(operand, TenantPlans)
    )
    return record


def test_what_comes_again_is_remembered_and_what_does_not_is_not() -> None:
    """A memo of what is never asked for only costs; but nobody knows before, so a few of all are tried."""
    chance, work = random.Random(1), redactor()
    memo = form_of(work._plans["traces"]).memo
    names = [f"Planner-{''.join(chance.choices('aeioubcd', k=9))}" for _ in range(40)]

    def remembered(names: list[str]) -> int:
        work.redact("traces", request([[field("gen_ai.agent.name", name)] for name in names]))
        return sum(field("gen_ai.agent.name", name) in memo.recent for name in names)

    assert 0 < remembered(names) < len(names) / 2
    assert remembered(names) == len(names)
    for turn in range(2 * GENERATION // 32):
        remembered([f"Writer-{turn}-{number}" for number in range(40)])
    assert len(memo) <= 2 * GENERATION
    assert SECRET not in str(memo.recent)


def test_what_is_in_doubt_is_judged_once_however_often_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind so many others that nobody expected it to come again."""
    chance, work, seen = random.Random(2), redactor(), list[bytes]()
    judge = Text.judge

    def counting(self: Text, raw: bytes) -> Any:
        seen.append(raw)
        return judge(self, raw)

    monkeypatch.setattr(Text, "judge", counting)
    spans = [usual(chance) for _ in range(40)] + [
        [*usual(chance)[:3], field("gen_ai.agent.name", "Plan%6eer"), *usual(chance)[4:]] for _ in range(100)
    ]
    work.redact("traces", request(spans))
    assert seen.count(b"Plan%6eer") == 1


def events(kinds: int, spans: int) -> bytes:
    """Spans with so many events each, in which a number is found; of the first spans, each has a time of its own."""
    chance = random.Random(4)

    def event(kind: int, span: int) -> bytes:
        said = attributes({"exception.type": "5" * 110 + f"{kind:02}"})[0].SerializeToString()
        return delimited(11, b"\x09" + (chance.randbytes(8) if span < 16 else bytes(8)) + delimited(3, said))

    return request([[event(kind, span) for kind in range(kinds)] for span in range(spans)])


@pytest.mark.parametrize("spans", [16, 60])
def test_each_message_is_looked_at_once(monkeypatch: pytest.MonkeyPatch, spans: int) -> None:
    """What is looked at is bounded for a request: the walk's share is enough, and what is told of one is so of all."""
    payload = events(12, spans)
    with monkeypatch.context() as patched:
        patched.setattr(engine, "MAX_SCANNED", 2 * 12 * 17 * 120)  # a value is looked at in two readings
        left, _, _, _, actions, *_ = outcome(Rows, redactor(), "traces", payload)
    assert sum(actions.values()) == left.count(b"[redacted:") == 12 * spans


PROGRAM = """
import hashlib, random
from test_rows_of_columns import events, engine, field, outcome, redactor, request, RowsPass
engine.MAX_SCANNED = 20_000
payload = request([[field("gen_ai.agent.name", "5" * 110 + f"{number // 2:05}")] for number in range(1000)])
left, _, _, _, actions, *_ = outcome(RowsPass, redactor(), "traces", payload)
print(hashlib.sha256(left).hexdigest(), actions)
"""


def test_what_a_request_has_had_its_share_before_is_the_same_in_every_process() -> None:
    """Two workers, or a second try, come to the same bytes: nothing depends on the order of a set."""
    printed = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    (said,) = printed
    assert "budget" in said


def test_of_many_kinds_of_events_each_is_counted() -> None:
    """However many there are: as many as change in another way."""
    keys = [f"key{number}" for number in range(9)]
    spans = []
    for number in range(400):
        chosen = [key for at, key in enumerate(keys) if number >> at & 1]
        said = b"".join(delimited(3, attributes({key: "x"})[0].SerializeToString()) for key in chosen)
        stack = delimited(3, attributes({"exception.type": "a" * (number % 7) + "@b.org"})[0].SerializeToString())
        spans.append([delimited(11, b"\x09" + bytes(8) + said + stack * (number % 5))])
    payload = request(spans)
    assert outcome(RowsPass, redactor(), "traces", payload) == outcome(Pass, redactor(), "traces", payload)
