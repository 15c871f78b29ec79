"""Where it matters whose a record is, records in a row come out as one by one, too: quotas, tiers, tenants' keys."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from otlp_peers import attributes
from row_trials import TIERS, Rows, outcome

from sidecar.conventions import POLICIES
from sidecar.redaction import MasterKey, Policy, Pseudonyms, Redactor, rows
from sidecar.redaction.engine import Pass
from sidecar.redaction.policy import shipped_file
from sidecar.redaction.rows import RowsPass
from sidecar.redaction.wire_format import delimited
from sidecar.senders.debtors import Debtors

NAMES = Pseudonyms(MasterKey("k1", bytes(32)))
SPAN = delimited(1, bytes(range(200, 216))) + delimited(2, bytes(range(200, 208))) + delimited(5, b"chat m")
ACME_OWES = Debtors(frozenset({b"acme"}))
NOBODY_OWES = Debtors(frozenset())
#: Those who may be asked for: nobody, quotas, tiers, tiers in which the tenant's key matters.
WAYS = list(itertools.product(("none", "hash", "pseudonymise"), (None, NOBODY_OWES, ACME_OWES)))


@functools.cache
def redactor(policy: str, action: str) -> Redactor:
    tiers = "" if action == "none" else TIERS.replace("ACTION", action)
    return Redactor(Policy.parse(shipped_file(f"{policy}.yaml") + tiers.encode()), NAMES)


def attribute(key: str, value: str) -> bytes:
    return delimited(9, attributes({key: value})[0].SerializeToString())


def of(tenant: str, *more: bytes) -> bytes:
    """A span of a tenant, in the usual form."""
    tool = attribute("gen_ai.tool.name", "search")
    event = delimited(11, b"\x09" + bytes(8) + delimited(2, b"exception") + delimited(3, attributes_of("TimeoutError")))
    return SPAN + attribute("tenant.id", tenant) + tool + b"".join(more) + event


def attributes_of(error: str) -> bytes:
    content: bytes = attributes({"exception.type": error})[0].SerializeToString()
    return content


def spans(*contents: bytes) -> bytes:
    return delimited(1, delimited(2, b"".join(delimited(2, content) for content in contents)))


def same(payload: bytes, action: str, debtors: Debtors | None, policy: str = "default", tenants: Any = None) -> Any:
    """The outcome, the same both ways, twice."""
    long_way = outcome(Pass, redactor(policy, action), "traces", payload, tenants, debtors)
    for _ in range(2):
        assert outcome(Rows, redactor(policy, action), "traces", payload, tenants, debtors) == long_way
    return long_way


MIXED = [of("acme"), of("globex"), of("tenant-00042"), SPAN + attribute("gen_ai.tool.name", "web"), of("globex")] * 3


@pytest.fixture
def unwalked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No record may be walked."""

    def walked(*_: object) -> None:
        pytest.fail("a record was walked")

    monkeypatch.setattr(Rows, "_record", walked)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("action", "debtors"), WAYS)
@pytest.mark.usefixtures("unwalked")
def test_records_of_many_tenants_are_judged_together(policy: str, action: str, debtors: Debtors | None) -> None:
    """In one request, of tenants of all tiers, of one in debt and of nobody: none is walked, and each is counted."""
    left, records_in, records_out, dropped, _, taken, refused = same(spans(*MIXED), action, debtors, policy)
    assert records_in == 15
    assert records_out == 15 - sum(dropped.values())
    if debtors is None:
        assert taken == refused == {}
    else:
        assert sum(records for records, _ in taken.values()) == records_out
        assert refused == ({b"acme": 3} if debtors is ACME_OWES else {})
        size = sum(map(len, (content for content in MIXED if debtors is NOBODY_OWES or b"acme" not in content)))
        assert sum(charged for _, charged in taken.values()) == size
    assert (b"acme" in left) == (debtors is not ACME_OWES)


@pytest.mark.usefixtures("unwalked")
def test_each_tier_has_its_own_rules_in_a_row() -> None:
    """What one tier drops, another shows by another name, and each tenant by its own; others send it as it is."""
    left, *_, actions, _, _ = same(spans(*MIXED, of("bank-1"), of("bank-2")), "pseudonymise", None)
    assert actions == {("drop", "policy"): 12, ("pseudonymise", "policy"): 24}
    names = {bytes(left[at + 4 : at + 22]) for at in range(len(left)) if left.startswith(b"p-k1", at)}
    assert len(names) == 9  # of three tenants, of a name, a tool and an exception


@pytest.mark.parametrize(("action", "debtors"), WAYS)
def test_only_who_is_named_by_the_sender_is_charged(action: str, debtors: Debtors | None) -> None:
    """A tenant that the sender may not name is refused as such; those without one, if that may not be."""
    for tenants in ({"globex"}, {"globex", ""}, {"acme", "tenant-00042"}):
        *_, taken, refused = same(spans(*MIXED), action, debtors, tenants=frozenset(tenants))
        assert {*taken, *refused} <= {(tenant or "unknown").encode() for tenant in tenants}


CLAIM = attribute("tenant.id", "acme")
LIES = {
    "inside of a prompt": of("x", attribute("message", CLAIM.decode())).replace(attribute("tenant.id", "x"), b""),
    "inside of an event": of("x", delimited(11, delimited(2, CLAIM))).replace(attribute("tenant.id", "x"), b""),
    "in the name": SPAN + delimited(5, CLAIM),
    "under another tag": SPAN + b"\x5a" + CLAIM[1:],
    "twice the same": of("acme", CLAIM),
    "two of them": of("globex", CLAIM),
    "two of them, the other way": of("acme", attribute("tenant.id", "globex")),
    "somebody else in a prompt": of("globex", attribute("message", CLAIM.decode())),
    "as a number": SPAN + delimited(9, delimited(1, b"tenant.id") + delimited(2, b"\x18\x05")),
    "without a value": SPAN + delimited(9, delimited(1, b"tenant.id")),
    "as another key": SPAN + attribute("my.tenant.id", "acme"),
    "as the beginning of a key": SPAN + attribute("tenant.ids", "acme"),
    "as a value": SPAN + attribute("gen_ai.tool.name", "tenant.id"),
    "at length": SPAN + delimited(9, b"\x0a\x89\x00tenant.id" + delimited(2, delimited(1, b"acme"))),
    "a long one": of("acme" * 40),
    "at the end": SPAN + delimited(9, delimited(2, delimited(1, b"acme")) + delimited(1, b"tenant.id")),
    "and then something broken": of("acme") + b"\x4a\x80",
    "and something unknown": of("acme") + delimited(200, b"x"),
    "and nobody, broken": SPAN + b"\x4a\x80",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("said", LIES)
@pytest.mark.parametrize(("action", "debtors"), [*WAYS, ("none", Debtors(frozenset({b"unknown"})))])
def test_who_is_named_otherwise_is_found_by_the_walk(said: str, action: str, debtors: Debtors | None) -> None:
    """A name that is none, that stands elsewhere, twice, or in another form."""
    for tenants in (None, frozenset({"acme"}), frozenset({"globex", ""})):
        same(spans(*MIXED, LIES[said], *MIXED), action, debtors, tenants=tenants)


@pytest.mark.parametrize("action", ["drop", "mask", "hash", "pseudonymise"])
def test_what_is_rewritten_whatever_it_is_comes_out_as_one_by_one(action: str) -> None:
    """Texts, numbers, what is empty, what cannot be read, under a rule that does the same to all of them."""
    values = (delimited(1, b"search"), delimited(1, b""), delimited(1, b"s" * 200), b"", b"\x18\x05", b"\x0a\x05abc",
              b"\x0a\x85\x00abcde", b"\x0a\x02abc", b"\x0a", delimited(1, b"a") * 2, delimited(1, b"\xff"))  # fmt: skip
    tools = [delimited(9, delimited(1, b"gen_ai.tool.name") + delimited(2, value)) for value in values]
    for tool in tools:
        same(spans(SPAN + attribute("tenant.id", "globex") + tool), action, None)
    same(spans(*(SPAN + attribute("tenant.id", "globex") + tool for tool in tools)), action, None)
    same(spans(*(SPAN + attribute("tenant.id", "globex") + tool * 2 for tool in tools)), action, None)


def test_every_truncation_of_a_tenants_span_comes_out_as_one_by_one() -> None:
    """Whole to its parent or not, with a tenant in debt before and behind."""
    content = of("acme") + b"\x85\x01\x01\x00\x00\x00"
    for action, debtors in (("none", ACME_OWES), ("pseudonymise", NOBODY_OWES)):
        for size in range(len(content) + 1):
            same(spans(of("globex"), content[:size], of("acme"), of("globex")), action, debtors)
        payload = spans(content, of("globex"))
        for size in range(len(payload)):
            same(payload[:size], action, debtors)


def _unproven(records: Any, _: object) -> Any:
    return records


def _with_none(_: bytes, __: int) -> bytes:
    return b""


MUTANTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "a guess is taken for granted": ("proven", _unproven),
    "what is not cut is refused": ("is_cut", lambda _: True),
    "nobody has a name": ("tenant_in", _with_none),
    "all that is cut is walked": ("is_cut", lambda _: False),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_piece_that_is_broken_shows(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step on the way to whose a record is decides about records of these tests: without it, it is another way."""
    monkeypatch.setattr(rows, *MUTANTS[mutant])
    walked: list[object] = []
    record = Rows._record
    monkeypatch.setattr(Rows, "_record", lambda *said: walked.append(said) or record(*said))
    before = redactor("default", "none")
    wrong = False
    for lie in LIES.values():
        payload = spans(*MIXED, lie, *MIXED)
        right = outcome(Pass, before, "traces", payload, None, ACME_OWES)
        wrong |= outcome(Rows, before, "traces", payload, None, ACME_OWES) != right
    assert wrong or len(walked) > 3 * len(LIES)


@pytest.mark.parametrize("forgotten", ["_charge", "_account", "_is_in_debt"])
def test_rows_count_as_the_walk_does(forgotten: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same methods; a pass that forgets one of them is another."""
    payload = spans(*MIXED)
    right = outcome(Pass, redactor("default", "none"), "traces", payload, None, ACME_OWES)
    monkeypatch.setattr(Rows, forgotten, lambda *_: b"")
    assert outcome(Rows, redactor("default", "none"), "traces", payload, None, ACME_OWES) != right


def test_a_tenants_own_key_is_forgotten_with_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is that of the lot, no tenant's before or after it: if all were taken for one lot, it would show."""
    payload = spans(*MIXED, of("bank-1"), of("bank-2"))
    right = outcome(Pass, redactor("default", "pseudonymise"), "traces", payload)
    for plans in _plans(redactor("default", "pseudonymise")):
        for name, plan in plans.tiers.items():
            monkeypatch.setitem(plans.tiers, name, plan._replace(keyed=False))
    assert outcome(Rows, redactor("default", "pseudonymise"), "traces", payload) != right


@pytest.mark.parametrize(("action", "debtors"), WAYS)
def test_few_records_are_walked(action: str, debtors: Debtors | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one tier, or of one tenant where that matters: it would cost more to judge them together. Many are not."""
    walked: list[object] = []
    record = RowsPass._record
    monkeypatch.setattr(RowsPass, "_record", lambda *said: walked.append(said) or record(*said))
    some, many = [of("acme"), of("globex"), of("bank-1")] * 3, [*[of("globex")] * 40, of("acme"), of("acme")]
    # One lot where there are no tiers; and those in debt are refused together, however few.
    alone = 0 if action == "none" or debtors is ACME_OWES else 2
    for contents, expected in ((some, 9), (many, alone)):
        walked.clear()
        right = outcome(Pass, redactor("default", action), "traces", spans(*contents), None, debtors)
        assert outcome(RowsPass, redactor("default", action), "traces", spans(*contents), None, debtors) == right
        assert len(walked) == expected


def _plans(made: Redactor) -> list[Any]:
    """Those of spans."""
    resource = made._plans["traces"][0x0A][2]
    return [resource[0x12][2][0x12][2]]


def test_policies_ask_for_tenants_where_they_have_tiers() -> None:
    """A policy with these tiers is one, and asks for tenants; as it is shipped it does not."""
    for policy in POLICIES:
        for action, asks in (("none", False), ("hash", True), ("pseudonymise", True)):
            assert [plans.asks for plans in _plans(redactor(policy, action))] == [asks]
            keyed = [plan.keyed for plans in _plans(redactor(policy, action)) for plan in plans.tiers.values()]
            assert any(keyed) == (action == "pseudonymise")
