"""What is said of many texts and values at once is said of each alone: the short cuts of records by the hundred."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redaction_samples import CONTENT, ENCODINGS, RARE_ENCODINGS, SECRETS, TEXTS

from sidecar.redaction import Policy, Redactor, guilt
from sidecar.redaction.bounds import Spent, allowance
from sidecar.redaction.detectors import detect
from sidecar.redaction.guilt import surest_among
from sidecar.redaction.innocence import doubtful_among
from sidecar.redaction.kinds import UNSETTLED, Kind, Kinds
from sidecar.redaction.memo import GENERATION, Memo
from sidecar.redaction.patterns import Patterns
from sidecar.redaction.rules import AttributeRule, BoolValue, DoubleValue, IntValue, StringValue
from sidecar.redaction.shapes import SHAPES, operation
from sidecar.redaction.texts import DOUBT, Refused, Text
from sidecar.redaction.wire_format import delimited, varint

RULES: dict[str, AttributeRule] = {
    **{name: StringValue(Text(shape, 40)) for name, shape in SHAPES.items()},
    "int": IntValue(0, 10**7), "narrow": IntValue(-5, 100), "below zero": IntValue(-300, -100),
    "double": DoubleValue(0, 86400), "bool": BoolValue(),
}  # fmt: skip

_PIECES = st.sampled_from(
    [encode(secret) for encode in (ENCODINGS | RARE_ENCODINGS).values() for secret in (SECRETS | CONTENT).values()]
)


@given(
    st.lists(
        st.from_regex(r"[A-Za-z0-9_.:/\-]{1,40}", fullmatch=True)
        | st.from_regex(r"[A-Za-z]{2,8}[-_.][a-z0-9]{1,12}", fullmatch=True)
        | st.tuples(_PIECES, st.integers(0, 40), st.integers(1, 40)).map(lambda cut: cut[0][cut[1] :][: cut[2]]),
        max_size=70,
    )
)
@settings(max_examples=300, deadline=None)
def test_of_innocent_names_detectors_say_nothing(names: list[str]) -> None:
    """Alone or among others, in whatever company; pieces of secrets in all encodings among them."""
    raws = [name.encode() for name in names]
    doubtful = doubtful_among(raws)
    assert len(doubtful) == len(set(doubtful))
    for name in (raw for at, raw in enumerate(raws) if at not in doubtful):
        assert detect(name.decode("ascii")) is None
        assert doubtful_among([name]) == []


def test_most_names_are_innocent() -> None:
    """Or all this would save nothing."""
    chance = random.Random(1)
    names = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=7)).title() + f"-{chance.randrange(9999)}"
             for _ in range(1000)]  # fmt: skip
    assert len(doubtful_among([name.encode() for name in names])) < 100


_KEYS = st.sampled_from(
    ["AKIAIOSFODNN7EXAMPLE", "ghp_abcdefghij0123456789", "sk-abcdefghijklmnop", "xoxb-1234567890",
     "glpat-a1b2c3d4e5f6g7h8", "xAKIAIOSFODNN7EXAMPLE", "xghp_abcdefghij0123456789", "akiaiosfodnn7example",
     "AGE-SECRET-KEY-1", "hf_" + "a1" * 10]
)  # fmt: skip
_BESIDE = st.sampled_from(
    ["", "planner.", "planner-", "x", "BEGIN PRIVATE KEY", "eyJhbGciOi.eyJzdWIiOi", "0" * 32, "a@b.example",
     "123e4567-e89b-12d3-a456-426614174000", "4111111111111111"]
)  # fmt: skip


@given(st.lists(st.tuples(_BESIDE, _KEYS, _BESIDE).map("".join) | _PIECES, min_size=1, max_size=70))
@settings(max_examples=300, deadline=None)
def test_what_is_surely_found_is_what_detectors_find(texts: list[str]) -> None:
    """Of each of many texts, whichever they stand among: the same word as alone, or none."""
    plain = [text.encode() for text in texts if text.isascii() and "\n" not in text]
    alone = {raw: surest_among([raw])[raw] for raw in plain}
    assert surest_among(plain) == alone
    for raw, name in alone.items():
        assert name is None or name == detect(raw.decode("ascii"))


def test_most_keys_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or all this would save nothing: texts that are alike are not looked at one by one."""
    monkeypatch.setattr(guilt, "surest", None)
    found = surest_among([f"planner.bob{number}:AKIAA1B2C3D4A1B2C3D4".encode() for number in range(200)])
    assert {*found.values()} == {"key"}


def test_what_is_told_together_is_charged() -> None:
    """Or keys by the thousand would be looked for at no price."""
    texts = [f"planner.bob{number}:AKIAA1B2C3D4A1B2C3D4".encode() for number in range(64)]
    with allowance(64 * 30), pytest.raises(Spent):
        surest_among(texts)


def test_a_digit_is_not_any_digit_where_the_policy_says_which() -> None:
    """What passed says nothing of the same with other digits: not of a policy's words, nor of its patterns."""
    worded = Text(operation(["v2"]), 40)
    assert worded.judge(b"v2 planner") is None
    with pytest.raises(Refused, match="shape"):
        worded.judge(b"v3 planner")
    patterned = Text(SHAPES["identifier"], 40, patterns=Patterns({"project": "n123"}))
    assert patterned.judge(b"n124") is None
    masked = patterned.judge(b"n123")
    assert masked is not None
    assert masked.reason == "project"


def test_of_many_that_are_remembered_together_some_are_kept() -> None:
    """However many at a time, and however often: a memo is of two generations, and what was new last is in it."""
    memo = Memo()
    for start in range(0, 10 * GENERATION, GENERATION // 2):
        memo.remember_some((b"%d" % number for number in range(start, start + GENERATION // 2)), 1, GENERATION)
        assert memo.recall(b"%d" % start) == 1
    memo.remember_some((b"few%d" % number for number in range(100)), 1, 3)
    assert [memo.recall(b"few%d" % number) for number in range(4)] == [1, 1, 1, None]
    memo.remember_some((b"x%d" % number for number in range(3 * GENERATION)), 1, 3 * GENERATION)
    assert len(memo.recent) <= GENERATION
    assert len(memo) <= 2 * GENERATION


def test_a_form_takes_new_letters_when_it_has_too_many() -> None:
    """What senders can do to values is bounded, but not by little."""
    form = Redactor(Policy.default())._plans["traces"][10][2][18][2][18][2].everybody.form
    before = form.kinds
    for number in range(5_000):
        before.letter(Kind(0, ((("drop", "unlisted"), number),)))
    assert form.kinds is not before
    assert form.kinds is form.kinds


_VALUES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(TEXTS).map(lambda text: delimited(1, text[:60].encode())),
    st.integers(-303, 2**40).map(lambda number: b"\x18" + varint(number % 2**64)),
    st.floats().map(lambda number: b"\x21" + struct.pack("<d", number)),
    st.binary(min_size=1, max_size=5).map(lambda raw: b"\x18" + raw),
    st.sampled_from((b"\x10\x00", b"\x10\x01", b"\x10\x02", b"\x10\x80\x00", b"", b"\x0a", b"\x0a\x00", b" ")),
)


@given(st.sampled_from(sorted(RULES)), st.lists(_VALUES, min_size=1, max_size=12))
@settings(max_examples=600, deadline=None)
def test_a_rule_says_of_many_values_what_it_says_of_each(name: str, values: list[bytes]) -> None:
    """What is not in doubt leaves as it stands, or is masked for the same reason, when it is judged alone."""
    rule = RULES[name]
    framed = [delimited(2, value) for value in values]
    fit = [value for value, field in zip(values, framed, strict=True) if field.startswith(rule.leads[len(field)])]
    told = rule.sift([delimited(2, value)[rule.lead :] for value in fit]) if fit else []
    for value, reason in zip(fit, told, strict=True):
        if reason != DOUBT:
            masked = rule.judge(value)
            assert (None if masked is None else masked.reason) == reason


def test_of_words_without_end_some_are_kept() -> None:
    """Kinds of fields and rows of them are bounded; what is made anew says the same."""
    kinds = Kinds()
    letters = [kinds.letter(Kind(1 << number)) for number in range(100)]
    assert kinds.row(letters[3] + letters[3]) is None
    assert kinds.row(UNSETTLED) is None
    for number in range(20_000):
        row = kinds.row("".join(letters[at] for at in range(15) if number >> at & 1))
        assert row is not None
        assert not any(row)
    assert len(kinds._words) <= 4096
    for number in range(5_000):
        assert not kinds.full or number > 3_900
        kinds.letter(Kind(0, ((("drop", "unlisted"), number),)))
    assert kinds.full
