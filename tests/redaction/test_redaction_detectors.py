"""Patterns: what they find, what they must leave alone, and that none can be made to run for ever."""

from __future__ import annotations

import base64
import re
import uuid
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redaction_samples import ENCODINGS, RARE_ENCODINGS, SECRETS

from sidecar.redaction import detectors, disguises, encodings, numbers, shapes
from sidecar.redaction.detectors import MAX_TEXT, REASONS, detect
from sidecar.redaction.disguises import MAX_READINGS, readings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # there is no public way to look at a compiled pattern
    from re import _constants, _parser

ALL_ENCODINGS = ENCODINGS | RARE_ENCODINGS
FOUND = {
    "pem": ["-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN PGP MESSAGE-----", "x BEGIN EC PRIVATE KEY"],
    "jwt": [SECRETS["jwt"], f"token:{SECRETS['jwt']}"],
    "key": [
        "AKIAIOSFODNN7EXAMPLE", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "sk-proj-Ab3dEf6hIj9kLm2nOp5q",
        "sk-ant-api03-Ab3dEf6hIj9kLm2nOp5q", "sk_live_4eC39HqLyjWDarjtT1zdp7dc", "glpat-Ab3dEf6hIj9kLm2nOp5q",
        "AIzaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe", "xoxb-17653672481-19874698323", "hf_AbCdEfGhIjKlMnOpQrStUvWx",
        "agent_sk-proj-Ab3dEf6hIj9kLm2nOp5q", "github_pat_11ABCDEFG0abcdefghijkl", "1AKIAIOSFODNN7EXAMPLE",
    ],
    "credential": [
        "Bearer mF_9.B5f-4.1JqM0xq", "BEARER mF_9.B5f-4.1JqM0xq", "authorization: basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "postgres://admin:hunter2@db/crm", "https://token@git.internal/x", "password=hunter2", "api_key: 12345",
        "AccountKey=abcd1234", "user_Bearer mF_9.B5f-4.1JqM0xq",
        "passphrase: hunter2", "sessionid=abcdef", "sig=abcd1234", "pass=hunter2",
    ],
    "email": [
        "bob@example.com", "x:bob.b+tag@mail.example.co.uk", "bob_at_example_dot_com", "bob.builder-at-example.com",
        "bob (at) example (dot) com", "müller@exämple.de",
    ],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "pay-NO93 8601 1117 947 now"],
    "card": [
        "4111 1111 1111 1111", "4111-1111-1111-1111", "5500005555555559", "378282246310005", "x4111111111111111x",
        "4111111111111111 12/29", "4111.1111.1111.1111", "٤١١١١١١١١١١١١١١١", "4111  1111  1111  1111",
    ],
    "ssn": [
        "078-05-1120", "078 05 1120", "ssn:078.05.1120", "078\n05\n1120", "user-078-05-1120", "078-05-1120-",
        "a.078-05-1120", "111-22-3333111-22-3333", "078-05-1120078-05-1120",
    ],
    "phone": [
        "+49 30 901820-14", "030 9018201", "(415) 555-0132", "415-555-0132", "1-415-555-0132", "0041 44 668 18 00",
        "user-415-555-0132", "415-555-0132415-555-0133", "020 7946 0958", "01 23 45 67 89", "06.12.34.56.78",
    ],
    "ip": [
        "203.0.113.195", "203.0.113.195.", "x.203.0.113.195", "host-203.0.113.195:80", "2001:db8::1", "fe80::1", "::1",
        "[2001:db8::1]",
    ],
    "token": [
        "q8Zr2LxV0aT7mKp3WdY9sNc4", "agent:Zx81kQ0vTn4mY7bLp2Rw9sDf6",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709", "q8zr2lxv0at7mkp3wdy9snc4", "Q8ZR2LXV0AT7MKP3WDY9SNC4",
    ],
    "number": ["agent-123456789", "x4155550132", "cafe-123456789", "0_7_8_0_5_1_1_2_0"],
    "encoded": ["aGVsbG8gd29ybGQh", "agent_aGVsbG8gd29ybGQh", "6c6f6f6b206c6f6f6b206c6f6f6b"],
}  # fmt: skip

LEFT_ALONE = """
    gpt-4o gpt-4o-2024-08-06 gpt-4o-mini-2024-07-18 gpt-4.1-mini gpt-3.5-turbo-0125 gpt-4-1106-preview o1-2024-12-17
    o3-mini-2025-01-31 claude-sonnet-4-5-20250929 claude-3-5-sonnet-20241022 claude-opus-4-1-20250805
    anthropic.claude-3-5-sonnet-20241022-v2:0 us.anthropic.claude-sonnet-4-20250514-v1:0 gemini-2.5-flash-preview-05-20
    meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8
    mistralai/Mixtral-8x22B-Instruct-v0.1 Qwen/Qwen2.5-72B-Instruct-Turbo qwen2.5:14b-instruct-q4_K_M
    deepseek-ai/DeepSeek-R1-Distill-Llama-70B ft:gpt-4o-mini-2024-07-18:acme::9aBcDeFg text-embedding-3-large
    acme acme-2 tenant-00042 tenant_007 Acme.Inc. eu-west-1:acme 3.11.7 1.45.2 2.0.0rc1 0.7.5.dev3+g1a2b3c4 v1.2.3
    MagenticOneGroupChatManager RoundRobinGroupChat OpenAIChatCompletionClient TextMessageTerminationCondition
    StopAsyncIteration autogen_agentchat.teams._group_chat.MagenticOne std::map billing-7d9f8b6c5d-x2x9z
    ip-172-31-45-12.ec2.internal 3f2a9c1b7d4e autogen.message.queue.duration 2024-08-06T12:00:00
    123456789abc worker-a123456789b0 01ARZ3NDEKTSV4RRFFQ69G5FAV sk-learn task-management-service-with-long-name
    01arz3ndektsv4rrffq69g5fav look-at-me walk.at.home data_at_rest 9f86d081884c7d659a2feaa0c55ad015
    0b5cf5b1-0bfb-4c2e-8b8e-3b6f2c1f4a11 planner_0b5cf5b1-0bfb-4c2e-8b8e-3b6f2c1f4a11 0b5cf5b10bfb4c2e8b8e3b6f2c1f4a11
""".split()  # noqa: SIM905  # to be read, not quoted word by word


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in FOUND.items() for text in texts])
def test_what_is_found_and_by_what_name(reason: str, text: str) -> None:
    """Each detector has examples of what it finds, at the start, in the middle and at the end."""
    assert detect(text) == reason


def test_every_detector_has_an_example() -> None:
    """A pattern without an example is a guess."""
    assert set(FOUND) == set(REASONS)


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_names_of_models_tenants_and_versions_are_left_alone(text: str) -> None:
    """What the library sends is never taken for a secret."""
    assert detect(text) is None


@given(st.uuids(version=4), st.sampled_from(["{}", "planner_{}", "{}:0", "x/{}"]))
def test_uuids_are_left_alone(identity: uuid.UUID, around: str) -> None:
    """They are full of digits, and mean nothing; with dashes and without."""
    assert detect(around.format(identity)) is None
    assert detect(around.format(identity.hex)) is None


@given(st.integers(10**31, 10**32 - 1))
def test_a_number_in_the_form_of_a_uuid_is_none(number: int) -> None:
    """Digits alone are no UUID: an account number in its form is found."""
    digits = str(number)
    dashed = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    assert detect(dashed) is not None
    assert not shapes.SHAPES["uuid"].fits(dashed)


@pytest.mark.parametrize("encoding", ALL_ENCODINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_every_secret_is_found_in_every_encoding(secret: str, encoding: str) -> None:
    """By whatever name: text that was encoded is suspicious in itself; where numbers are names, too."""
    text = ALL_ENCODINGS[encoding](SECRETS[secret])[:MAX_TEXT]
    assert detect(text) is not None
    if secret != "bare card" or encoding != "plain":
        assert detect(text, numbers=False) is not None


@pytest.mark.parametrize("between", [*" .-_/:,|~+*'·\n\t\u00a0\u2009\u3000", "  ", " - ", "--", ". ", "..."])
@pytest.mark.parametrize("name", ["card", "bare card", "ssn", "iban", "phone"])
def test_a_number_is_found_whatever_stands_between_its_digits(name: str, between: str) -> None:
    """In its usual groups, and spaced out one by one."""
    secret = SECRETS[name].lstrip("+")
    spaced = between.join(character for character in secret if character.isalnum())
    assert detect(spaced, numbers=False) is not None
    grouped = re.sub(r"\W", lambda _: between, secret if name != "bare card" else "5500 0055 5555 5559")
    if name != "phone":  # without its plus it is any number
        assert detect(grouped, numbers=False) is not None


def is_card(digits: str) -> bool:
    """Luhn's check as it is written down: every other digit from the right is doubled, and its digits are added."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += sum(map(int, str(int(digit) * (1 + place % 2))))
    return (digits[0] in "3456" or (len(digits) >= 16 and 220 <= int(digits[:3]) <= 272)) and total % 10 == 0


@given(st.text("0123456789", min_size=1, max_size=40))
def test_a_card_is_found_wherever_it_stands_in_a_number(digits: str) -> None:
    """Of 13 to 19 digits alone; of 16 at any place in a longer number; of 15 or 16 at either end."""
    count = len(digits)
    wanted = [digits] if 13 <= count <= 19 else []
    wanted += [part for size in (15, 16) if count >= size for part in (digits[:size], digits[-size:])]
    wanted += [digits[start : start + 16] for start in range(count - 15)] if count > 19 else []
    assert numbers.has_card(digits) == any(map(is_card, wanted))


NECESSARY = st.one_of(
    st.builds(
        lambda before, secret, encoding, after: (before + ALL_ENCODINGS[encoding](secret) + after)[:MAX_TEXT],
        st.text(max_size=4), st.sampled_from(sorted(SECRETS.values())), st.sampled_from(sorted(ALL_ENCODINGS)),
        st.text(max_size=4),
    ),
    st.text(max_size=60),
    st.text("AaBbeEyYJjkKsS019+/=_-.:@ ,", max_size=60),
    st.binary(min_size=6, max_size=40).map(lambda raw: base64.b64encode(raw).decode()),
    st.text("abcdefghIJKLMNOP0123456789 .,@", min_size=6, max_size=40).flatmap(
        lambda text: st.sampled_from([encode(text) for encode in ALL_ENCODINGS.values()])
    ),
)  # fmt: skip


@given(NECESSARY)
@settings(max_examples=2000, deadline=None)
def test_no_short_cut_loses_anything(text: str) -> None:
    """A detector finds nothing in a text without its traits; nothing is decoded from a text that denies it."""
    found = detectors.traits(text)
    if len(text) >= detectors.LONG:
        surest = (detector.name for detector in detectors.DETECTORS[:3] if detector.finds(text))
        assert detectors.surest(text) == next(surest, None)
    for detector in detectors.DETECTORS:
        if detector.finds(text):
            assert detector.needs & found, detector.name
    if encodings.may_hold_text(text):
        return
    assert not list(encodings.decoded(text))
    if disguises.is_plain(text):
        assert {form.text for form in disguises.uncovered(text)} <= {text}


@given(st.text("abcdefgiknpstwyACDEIQSZ._-/0123456789", max_size=14), st.text("0123456789", min_size=14, max_size=14))
@settings(max_examples=3000, deadline=None)
def test_what_is_said_of_a_name_holds_for_every_digit_in_it(text: str, digits: str) -> None:
    """One judgement for all names that differ in digits alone is the judgement of each."""
    another = re.sub("[0-9]", lambda found: digits[found.start()], text)
    if detectors.is_name(text.encode().translate(encodings.ALL_DIGITS).decode()):
        assert detect(text) is None
        assert detect(another) is None
        assert {form.text for form in disguises.uncovered(another)} <= {another}


@pytest.mark.parametrize(
    "text", ["bob%2540example.com", r"bob\\u0040example.com", "bоb@ехаmрlе.соm", "b o b @ example.com"]
)
def test_disguises_on_top_of_each_other_come_off(text: str) -> None:
    """Encoded twice, in look-alike letters, spaced."""
    assert detect(text) == "email"


@given(st.text(max_size=MAX_TEXT))
@settings(max_examples=200, deadline=None)
def test_any_text_has_few_readings_and_no_error(text: str) -> None:
    """Whatever comes in, work is bounded and nothing is raised."""
    found = list(readings(text))
    assert text not in {reading.text for reading in found}
    assert len(found) < MAX_READINGS
    if disguises.has_one_reading(text):
        assert not found
    assert len({reading.text for reading in found}) == len(found)
    assert detect(text) in (None, *REASONS)


def test_what_is_disguised_beyond_the_bounds_is_suspicious() -> None:
    """Neither ever deeper disguises nor ever more of them push a secret out of sight."""
    deep = "bob@example.com"
    for _ in range(8):
        deep = "".join(f"%{byte:02X}" for byte in deep.encode())[:MAX_TEXT]
    assert detect("bob%252525252540example.com") is not None
    assert detect(deep) is not None
    decoys = ".".join(base64.b64encode(f"ab{number}cd ".encode()).decode() for number in range(100, 140))
    assert detect(decoys + "." + base64.b64encode(b"bob@example.com").decode()) is not None


def test_what_unfolds_without_end_is_suspicious() -> None:
    """A letter that stands for eighteen, a thousand times: not read in all its forms, and not let pass either."""
    text = "\ufdfa" * MAX_TEXT
    assert sum(len(reading.text) for reading in readings(text)) <= disguises.MAX_READ
    assert detect(text, numbers=False) == "encoded"


@given(
    st.lists(st.sampled_from(["%25", "&amp;", "=3D", "Zm9v", "\\u0025", "１", "(at)", "\ufdfa", "4e"]), max_size=200)
)
@settings(max_examples=100, deadline=None)
def test_the_readings_of_a_text_are_bounded_in_sum(pieces: list[str]) -> None:
    """Whatever it is made of."""
    assert sum(len(reading.text) for reading in readings("".join(pieces)[:MAX_TEXT])) <= disguises.MAX_READ


def test_texts_without_a_bound_are_refused() -> None:
    """Whoever scans bounds the length first."""
    with pytest.raises(ValueError, match="bounded"):
        detect("x" * (MAX_TEXT + 1))


@pytest.mark.parametrize("shape", [shape for shape in shapes.SHAPES.values() if shape.scanned], ids=lambda s: s.name)
@given(st.text(max_size=14) | st.text("ab1209._-/[]%", max_size=14))
def test_shapes_take_any_digit_where_they_take_one(shape: shapes.Shape, text: str) -> None:
    """Where a name passes for all that differ from it in digits, they all have the shape."""
    zeros = text.encode(errors="replace").translate(encodings.ALL_DIGITS).decode()
    assert shape.fits(zeros) == shape.fits(text.encode(errors="replace").decode())


PATTERNS = {
    f"{module.__name__}.{name}": pattern
    for module in (detectors, disguises, encodings, numbers, shapes)
    for name, pattern in vars(module).items()
    if isinstance(pattern, re.Pattern)
}


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_has_a_repetition_without_end_inside_a_repetition(name: str) -> None:
    """What backtracks for ever is a repetition of repetitions; every pattern is looked at as Python compiled it."""
    pattern = PATTERNS[name]
    assert longest_nesting(_parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)) <= 1


def longest_nesting(parsed: object) -> int:
    """How many repetitions without an upper bound below 64 stand inside each other."""
    deepest = 0
    for operation, argument in parsed:
        inside = 0
        parts = argument if isinstance(argument, tuple | list) else (argument,)
        for part in parts:
            if isinstance(part, _parser.SubPattern):
                inside = max(inside, longest_nesting(part))
            elif isinstance(part, list):
                inside = max([inside, *(longest_nesting(p) for p in part if isinstance(p, _parser.SubPattern))])
        if operation in (_constants.MAX_REPEAT, _constants.MIN_REPEAT) and argument[1] > 64:
            inside += 1
        deepest = max(deepest, inside)
    return deepest


def test_the_check_of_patterns_sees_a_bad_one() -> None:
    """The check itself can fail."""
    assert longest_nesting(_parser.parse(r"(?:a+)+b")) == 2
