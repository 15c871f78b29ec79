"""What a policy may do besides letting pass: drop, mask, hash, pseudonymise, truncate; for everybody or for a tier."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_peers import sum_request

from sidecar.redaction import MasterKey, Policy, PolicyError, Pseudonyms, Redactor
from sidecar.redaction.pseudonyms import expand, extract

NAMES = Pseudonyms(MasterKey("k7", b"s" * 32))
POLICY = """\
version: 1
attributes:
  tenant.id: {type: string, shape: tenant, max_length: 64}
  a.name: {type: string, shape: identifier, max_length: 64}
  a.user: {action: pseudonymise}
  a.session: {action: hash}
  a.note: {action: mask}
  a.off: {action: drop}
  a.long: {action: truncate, type: string, shape: free, max_length: 200, length: 12}
events: {}
resource:
  service.name: {type: string, shape: identifier, max_length: 64}
fields:
  Span.name: {shape: identifier, max_length: 64, misfit: mask}
  Metric.name: {shape: identifier, max_length: 64}
patterns:
  order: 'ORD-[0-9]{6}'
  badge: '(?i)badge [a-z]{2}[0-9]+'
tiers:
  quiet:
    tenants: [bank, "bank-*"]
    attributes:
      a.name: {action: mask}
      a.extra: {type: bool}
    fields:
      Span.name: {shape: enum, values: [work], misfit: mask}
  loud:
    tenants: ["bank-open*"]
    attributes:
      a.note: {type: string, shape: free, max_length: 64}
"""
REDACTOR = Redactor(Policy.parse(POLICY.encode()), NAMES)


def spans(*attributes: dict[str, object], name: str = "job") -> bytes:
    """A request with a span for each mapping of attributes."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for each in attributes:
        span = scope.spans.add(name=name)
        for key, value in each.items():
            made = span.attributes.add(key=key).value
            if isinstance(value, bool):
                made.bool_value = value
            elif isinstance(value, int):
                made.int_value = value
            else:
                made.string_value = value
    return request.SerializeToString()


def left(payload: bytes, redactor: Redactor = REDACTOR) -> list[Span]:
    """The spans that leave."""
    found = ExportTraceServiceRequest.FromString(redactor.redact("traces", payload).payload)
    return [span for resource in found.resource_spans for scope in resource.scope_spans for span in scope.spans]


def attributes(span: Span) -> dict[str, object]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes}


def test_each_action_does_its_own() -> None:
    """And is counted by its own word."""
    said = {"tenant.id": "acme", "a.name": "planner", "a.user": "bob@example.com", "a.session": "s-1", "a.note": 7,
            "a.off": "x", "a.long": "all is well in the house"}  # fmt: skip
    payload = spans(said)
    (span,) = left(payload)
    assert attributes(span) == {
        "tenant.id": "acme",
        "a.name": "planner",
        "a.user": NAMES.of(b"acme", b"bob@example.com"),
        "a.session": NAMES.hash(b"s-1"),
        "a.note": "[redacted:policy]",
        "a.long": "all is well ",
    }
    assert dict(REDACTOR.redact("traces", payload).actions) == {
        ("pseudonymise", "policy"): 1,
        ("hash", "policy"): 1,
        ("mask", "policy"): 1,
        ("drop", "policy"): 1,
        ("truncate", "length"): 1,
    }


@pytest.mark.parametrize("text", ["mail bob@example.com", "a" * 10 + " sk-proj-Ab3dEf6hIj9kLm2nOp5q", "x" * 201])
def test_a_text_is_judged_whole_before_it_is_cut(text: str) -> None:
    """A secret across the cut, of which a half would look like nothing, masks the text; one too long goes."""
    for span in left(spans({"a.long": text})):
        assert attributes(span).get("a.long", "[redacted:").startswith("[redacted:")


def test_a_pseudonym_belongs_to_a_tenant() -> None:
    """One person with two tenants has two; within a tenant, one. A hash is one for all."""
    same = {"a.user": "bob", "a.session": "bob"}
    first, again, other, nobodys = (
        attributes(span) for span in left(spans(*({"tenant.id": t, **same} for t in ("acme", "acme", "globex")), same))
    )
    assert first["a.user"] == again["a.user"]
    assert len({first["a.user"], other["a.user"], nobodys["a.user"], first["a.session"]}) == 4
    assert first["a.session"] == other["a.session"]


def test_the_order_of_attributes_makes_no_difference() -> None:
    """Whose a record is is known before anything in it is judged."""
    before, behind = left(spans({"tenant.id": "acme", "a.user": "bob"}, {"a.user": "bob", "tenant.id": "acme"}))
    assert attributes(before) == attributes(behind)


def test_without_a_key_nothing_is_hashed() -> None:
    """A digest without a key could be looked up: ten million phone numbers are two minutes."""
    (span,) = left(spans({"a.user": "bob", "a.session": "s"}), Redactor(Policy.parse(POLICY.encode())))
    assert attributes(span) == {"a.user": "[redacted:policy]", "a.session": "[redacted:policy]"}


def test_a_tier_has_rules_of_its_own() -> None:
    """In the place of those for everybody; a whole id counts before a beginning, a longer one before a shorter."""
    said = {"a.name": "planner", "a.note": "fine", "a.extra": True}
    open_, branch, bank, acme = left(
        spans(*({"tenant.id": tenant, **said} for tenant in ("bank-open-1", "bank-2", "bank", "acme")))
    )
    assert attributes(open_) == {"tenant.id": "bank-open-1", "a.name": "planner", "a.note": "fine"}
    quiet = {"a.name": "[redacted:policy]", "a.note": "[redacted:policy]", "a.extra": True}
    assert attributes(branch) == {"tenant.id": "bank-2", **quiet}
    assert attributes(bank) == {"tenant.id": "bank", **quiet}
    assert attributes(acme) == {"tenant.id": "acme", "a.name": "planner", "a.note": "[redacted:policy]"}
    assert [span.name for span in (open_, branch, bank, acme)] == ["job", "redacted", "redacted", "job"]


def test_what_passed_for_one_tier_does_not_pass_for_another() -> None:
    """What was allowed before is remembered by tier."""
    for _ in range(2):
        for tenant, expected in (("acme", "planner"), ("bank", "[redacted:policy]")):
            (span,) = left(spans({"a.name": "planner", "tenant.id": tenant}))
            assert attributes(span)["a.name"] == expected


def test_tiers_count_for_metrics_too() -> None:
    """A data point is a record."""
    bank, acme = (
        REDACTOR.redact("metrics", sum_request("autogen.messages", 1, tenant=tenant, extra={"a.name": "planner"}))
        for tenant in ("bank", "acme")
    )
    assert (b"bank" in bank.payload, b"planner" in bank.payload) == (True, False)
    assert (b"acme" in acme.payload, b"planner" in acme.payload) == (True, True)


def test_a_record_that_names_two_tenants_is_dropped() -> None:
    """Nobody knows by whose rules to judge it; the same twice is one."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for ids in (("acme", "bank"), ("acme", "acme")):
        span = scope.spans.add(name="job")
        for tenant in ids:
            span.attributes.add(key="tenant.id").value.string_value = tenant
    redacted = REDACTOR.redact("traces", request.SerializeToString())
    assert (redacted.records_in, redacted.records_out, redacted.dropped) == (2, 1, {"tenant": 1})


def test_a_tenant_is_looked_for_in_attributes_alone() -> None:
    """The bytes of a forged attribute inside of another text are text."""
    inner = "\x0a\x09tenant.id\x12\x06\x0a\x04bank"
    (span,) = left(spans({"a.off": inner, "tenant.id": "acme", "a.name": "planner"}))
    assert attributes(span) == {"tenant.id": "acme", "a.name": "planner"}


@given(st.text(max_size=80))
@settings(max_examples=300, deadline=None)
def test_nothing_of_a_text_leaves_where_it_is_hashed(text: str) -> None:
    """Whatever it is: a digest of sixteen letters, or nothing."""
    (span,) = left(spans({"tenant.id": "acme", "a.user": text}))
    found = str(attributes(span).get("a.user", ""))
    assert found == "" if not text else found.startswith("p-k7-") and len(found) == 21 and found[5:].isalpha()


def test_a_tenant_is_shown_by_its_pseudonym_on_every_way() -> None:
    """In telemetry, and to the watchdog."""
    policy = POLICY.replace(
        "tenant.id: {type: string, shape: tenant, max_length: 64}", "tenant.id: {action: pseudonymise}"
    )
    redactor = Redactor(Policy.parse(policy.encode()), NAMES)
    (span,) = left(spans({"tenant.id": "Müller & Söhne"}), redactor)
    shown = NAMES.of("Müller & Söhne".encode(), "Müller & Söhne".encode())
    assert attributes(span) == {"tenant.id": shown}
    assert redactor.tenant("Müller & Söhne") == shown
    masked = Redactor(Policy.default(), NAMES).tenant("bob@example.com")
    pseudonym = NAMES.of(b"bob@example.com", b"bob@example.com")
    assert masked == f"[redacted:email:{pseudonym.removeprefix('p-k7-')[:12]}]"


@pytest.mark.parametrize(
    ("text", "mask"),
    [("ORD-123456", "order"), ("xORD-123456x", "order"), ("Badge%20ab1", "badge"), ("T1JELTEyMzQ1Ng==", "order"),
     ("ＯＲＤ-１２３４５６", "order")],
)  # fmt: skip
def test_patterns_of_a_policy_are_looked_for_in_every_reading(text: str, mask: str) -> None:
    """Wherever texts are searched, behind every disguise; redacting again changes nothing."""
    payload = spans({"tenant.id": text})
    assert attributes(left(payload)[0]) == {"tenant.id": f"[redacted:{mask}:{NAMES.tag(text.encode())}]"}
    (span,) = left(spans({"a.long": text}))
    assert attributes(span) == {"a.long": f"[redacted:{mask}]"}
    (again,) = left(spans({"a.long": f"[redacted:{mask}]"}))
    assert attributes(again) == {"a.long": f"[redacted:{mask}]"[:12]}


def test_no_pattern_can_hang() -> None:
    """What holds Python's own engine for hours is linear here."""
    policy = POLICY.replace("ORD-[0-9]{6}", "(a+)+b|(a|aa)+c|(.*)*d")
    redactor = Redactor(Policy.parse(policy.encode()), NAMES)
    assert attributes(left(spans({"a.long": "a" * 199 + "!"}), redactor)[0]) == {"a.long": "a" * 12}


WRONG = {
    "ORD-[0-9]{6}": ("(?=x)y", "patterns.order: is not an expression of RE2: "),
    "'ORD-[0-9]{6}'": ("'a*'", "patterns.order: is found in an empty text"),
    "  order:": ("  email:", "patterns.email: is the name of a built-in detector"),
    "  badge:": ("  Badge:", "patterns.Badge: a name has 1 to 32"),
    "action: hash": ("action: hsh", "attributes.a.session.action: is not known; did you mean hash?"),
    "{action: mask}\n  a.off": ("{action: mask, type: bool}\n  a.off", "attributes.a.note.type: is not known"),
    "length: 12": ("length: 200", "attributes.a.long.length: must be less than the longest text that fits, 200"),
    '[bank, "bank-*"]': ("[]", "tiers.quiet.tenants: must be a list"),
    "tenants: [bank,": ("tenant: [bank,", "tiers.quiet.tenant: is not known; did you mean tenants?"),
    '"bank-open*"': ("bank", "tiers.loud.tenants.0: is in the tier quiet, too"),
    '["bank-open*"]': ("['*']", "tiers.loud.tenants.0: a tenant is a whole id or a beginning"),
    "Span.name: {shape: enum": ("Metric.name: {shape: enum", "tiers.quiet.fields.Metric.name: belongs to no tenant"),
    "    fields:\n": ("    resource:\n", "tiers.quiet.resource: is not known"),
    "tiers:\n": ("teirs:\n", "teirs: is not known; did you mean tiers?"),
}


@pytest.mark.parametrize(("before", "behind", "line"), [(a, b, line) for a, (b, line) in WRONG.items()])
def test_mistakes_name_the_key(before: str, behind: str, line: str) -> None:
    """One line each; ids of tenants are in none."""
    assert before in POLICY
    with pytest.raises(PolicyError) as caught:
        Policy.parse(POLICY.replace(before, behind, 1).encode())
    said = [mistake.partition(": ")[2] for mistake in caught.value.mistakes]
    assert any(mistake.startswith(line) for mistake in said), said
    assert "bank" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ("bank-*", "bonk-*"),
        ("a.extra: {type: bool}", "a.extra: {action: drop}"),
        ("{6}", "{7}"),
        ("action: hash", "action: mask"),
    ],
)
def test_the_digest_is_of_all_rules(before: str, behind: str) -> None:
    """Of actions, patterns and tiers, too."""
    assert Policy.parse(POLICY.encode()).digest != Policy.parse(POLICY.replace(before, behind).encode()).digest


def test_keys_are_derived_as_rfc_5869_says() -> None:
    """Its test case 1 for SHA-256, the first block; and case 3, without salt and info."""
    root = extract(bytes(range(13)), b"\x0b" * 22)
    assert root.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    assert expand(root, bytes(range(0xF0, 0xFA))).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
    )
    root = extract(b"", b"\x0b" * 22)
    assert expand(root, b"").hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


def test_a_master_key_is_not_short() -> None:
    """A key that could be guessed is none."""
    with pytest.raises(ValueError, match="32"):
        Pseudonyms(MasterKey("k1", b"short"))


def test_pseudonyms_are_distinct_and_stay() -> None:
    """Known answers: what stands in a store for years must not change with a release."""
    assert NAMES.of(b"acme", b"acme") == "p-k7-hepfcfaompmeopee"
    assert NAMES.hash(b"acme") == "h-k7-dpkjflgpbjkjoolc"
    assert len({NAMES.of(str(n).encode(), b"bob") for n in range(2000)}) == 2000


@given(
    owners=st.lists(st.sampled_from(["acme", "bank", "bank-2", "bank-open-1", "", "globex"]), min_size=1, max_size=5),
    said=st.dictionaries(
        st.sampled_from(["a.name", "a.user", "a.session", "a.note", "a.off", "a.long", "a.extra", "a.else"]),
        st.sampled_from(["planner", "bob@example.com", "ORD-123456", "all is well in the house", 7, True]),
    ),
)
@settings(max_examples=200, deadline=None)
def test_tiers_are_what_each_of_them_would_be_alone(owners: list[str], said: dict[str, object]) -> None:
    """A request of many tenants is redacted span by span as if each tenant's policy were the only one."""
    together = left(spans(*({"tenant.id": owner, **said} for owner in owners)))
    alone = [
        left(spans({"tenant.id": owner, **said}), Redactor(Policy.parse(POLICY.encode()).of_tenant(owner), NAMES))[0]
        for owner in owners
    ]
    assert together == alone
