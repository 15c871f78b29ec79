"""One trial of a long request: records by the dozen in the form that exporters send, values that many of them share.

That is what is judged by the hundred (`rows.py`), and its whole promise is that nobody can tell. So `row_trial(seed)`
asks three: the engine, the same engine that walks every record, and the reference redactor. Bytes and counts must be
the same, twice, for what the first time left in memos counts the second time; and nothing of the secret may be left.
Some senders may name some tenants only, some tenants are over their quota, some policies have tiers, some requests are
damaged: there the walk alone is asked, the reference too where it knows the rule.
"""

from __future__ import annotations

import functools
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message
from redaction_samples import (
    CONTENT,
    ENCODINGS,
    RARE_ENCODINGS,
    REQUESTS,
    SECRETS,
    TEXTS,
    Composer,
    records,
    traces_of,
    unknown_fields,
)  # fmt: skip
from reference_redactor import Reference

from sidecar.conventions import POLICIES, SIGNALS, Signal
from sidecar.redaction import MasterKey, Policy, Pseudonyms, Redactor
from sidecar.redaction.bounds import TooMuch
from sidecar.redaction.engine import Pass
from sidecar.redaction.policy import shipped_file
from sidecar.redaction.rows import RowsPass
from sidecar.redaction.texts import Refused
from sidecar.redaction.wire_format import Broken
from sidecar.senders.debtors import Debtors

#: Records of a trial that were judged with others, and those that were walked: whether this tries what it is for.
SEEN: Final[Counter[str]] = Counter()

_ALL: Final = [*(ENCODINGS | RARE_ENCODINGS).values()]
MAY_NAME: Final = frozenset({"acme", "globex", "unknown", ""})
_DEBTORS: Final = (Debtors(frozenset({b"acme"})), Debtors(frozenset(), frozenset({b"acme", b"unknown"})))
#: Tiers to put behind a policy, with an action in the place of the word.
TIERS: Final = """
tiers:
  quiet:
    tenants: [acme, "tenant-*"]
    attributes:
      gen_ai.tool.name: {action: drop}
    fields:
      Span.name: {action: drop}
  banks:
    tenants: [globex, "bank-*"]
    attributes:
      gen_ai.tool.name: {action: ACTION}
    events:
      exception.type: {action: ACTION}
    fields:
      Span.name: {action: ACTION}
"""
_NAMES: Final = Pseudonyms(MasterKey("k1", bytes(32)))
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


@functools.cache
def _redactor(policy: str, variant: str) -> Redactor:
    if variant in ("names", "shipped"):
        return Redactor(Policy.load(policy), _NAMES if variant == "names" else None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "policy.yaml"
        action = {"tiers": "hash", "keyed tiers": "pseudonymise"}[variant]
        file.write_text(shipped_file(f"{policy}.yaml").decode() + TIERS.replace("ACTION", action))
        return Redactor(Policy.load(file), _NAMES)


class Rows(RowsPass):
    """The engine, which takes the fewest records together, and the fewest fields."""

    __slots__ = ()
    LEAST = LEAST_ASKED = LEAST_ALIKE = 1


class SomeColumns(Rows):
    """The same, which finds columns for some of them only."""

    __slots__ = ()
    LEAST_ALIKE = 4


class Walked(Rows):
    """The same, which tells how many records it had to walk."""

    __slots__ = ()

    def _record(self, plan: Any, start: int, stop: int) -> Any:
        SEEN["walked"] += 1
        return super()._record(plan, start, stop)


def outcome(
    kind: type[Pass], redactor: Redactor, signal: Signal, payload: bytes, *scope: Any
) -> tuple[Any, ...] | type[Exception]:
    """Bytes and counts, or what it raises. Raises AssertionError when the engine met what it did not expect."""
    faults: list[Exception] = []
    work = kind(payload, faults.append, *scope)
    try:
        left = work.run(redactor._plans[signal])
    except (Broken, Refused, TooMuch) as error:
        return type(error)
    assert faults == [], faults
    counts = (dict(work.dropped), dict(work.actions), dict(work.taken), dict(work.refused))
    return left, work.records_in, work.records_out, *counts


def row_trial(seed: int) -> None:
    """Make, redact, compare. Raises AssertionError, with the seed."""
    chance = random.Random(seed)
    signal, policy = chance.choice(SIGNALS), chance.choice(POLICIES)
    secret = chance.choice(sorted((SECRETS | CONTENT).values()))
    planted = chance.choice(_ALL)(secret)[:400]
    request = Writer(chance, policy, planted, secret not in CONTENT.values()).request(signal)
    payload = request.SerializeToString()
    tenants = MAY_NAME if chance.random() < 0.3 else None
    debtors = chance.choice(_DEBTORS) if chance.random() < 0.3 else None
    variant = chance.choice(("names", "tiers", "keyed tiers", "shipped", "shipped", "shipped"))
    damaged = chance.random() < 0.15
    if damaged:
        payload = _damaged(chance, payload)

    where = f"seed {seed}: rows of {signal}, {policy} ({variant}), {planted!r}"
    redactor = _redactor(policy, variant)
    # The engine first: with what the walk leaves in memos it would have nothing to find out by itself.
    first = outcome(Walked, redactor, signal, payload, tenants, debtors)
    for kind in (Pass, Rows, SomeColumns, RowsPass):
        assert outcome(kind, redactor, signal, payload, tenants, debtors) == first, where
    if not isinstance(first, tuple):
        assert damaged, where
        return
    left, records_in, records_out, dropped, *_ = first
    SEEN["records"] += records_in
    remains = REQUESTS[signal].FromString(left)
    assert unknown_fields(remains) == 0, where
    assert records_out == records(remains) == records_in - sum(dropped.values()), where
    if damaged:
        return
    assert records_in == records(request), where
    # What is cut off it, with the tag of the next field behind, is not it.
    assert planted.encode() not in left or not any(planted in text for text in _texts(remains)), where
    assert not traces_of(secret, left), where
    if variant == "shipped" and debtors is None:
        reference = Reference(request, policy, tenants)
        assert remains == request or str(remains) == str(request), where  # not a number is not equal to itself
        assert dropped == +reference.dropped, where
        assert records_out == reference.records_out, where


def _texts(message: Message) -> Iterator[str]:
    """All that a message has in its fields, each by itself."""
    for _, value in message.ListFields():
        for one in value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else (value,):
            if isinstance(one, Message):
                yield from _texts(one)
            else:
                yield one.decode("latin-1") if isinstance(one, bytes) else str(one)


def _damaged(chance: random.Random, payload: bytes) -> bytes:
    """A few bytes changed, cut out, put in; or two requests as one."""
    if chance.random() < 0.2:
        return payload * 2
    at = chance.randint(0, len(payload))
    return payload[:at] + chance.randbytes(chance.randint(0, 3)) + payload[at + chance.randint(0, 3) :]


class Writer:
    """Writes requests as exporters do. Values are of a pool: a secret, what has been seen before, what has not."""

    def __init__(self, chance: random.Random, policy: str, planted: str, anywhere: bool) -> None:
        self._chance = chance
        rules = Policy.load(policy).rules
        # Prose is a tenant's id where ids have no shape.
        self._keys = {
            section: [
                key for (place, key), rule in rules.items()
                if place == section and (anywhere or rule.written.get("shape") != "tenant")
            ]
            for section in ("attributes", "events", "resource")
        }  # fmt: skip
        self._anywhere = anywhere  # it may stand where customers' names stand, for it is found there too
        self._composer = Composer(chance.getrandbits(48), self._keys["attributes"])
        cut = chance.randrange(len(planted))
        self._pool = [
            planted, planted[cut : cut + 40], *chance.sample(TEXTS, 2), self._new(), self._new(),
            "process planner", "gpt-4o-2024-08-06", "acme", "globex", "tenant-00042",
        ]  # fmt: skip
        if not anywhere:
            self._pool = [text for text in self._pool if text == planted or text not in CONTENT.values()]
        names = ["tenant.id", "tenantscope.victim"] if anywhere else []
        self._strange = ["message", "", planted, self._new(), *names]
        self._odd = chance.choice((0.0, 0.05, 0.5))

    def request(self, signal: Signal) -> Message:
        """Of one or two resources, with scopes and, where there are such, metrics."""
        chance, request = self._chance, REQUESTS[signal]()
        groups = {"traces": "resource_spans", "metrics": "resource_metrics", "logs": "resource_logs"}[signal]
        scopes = groups.replace("resource", "scope")
        for _ in range(chance.choice((1, 1, 2))):
            group = getattr(request, groups).add()
            self._attribute(group.resource.attributes.add(), "resource")
            for _ in range(chance.choice((1, 1, 2))):
                scope = getattr(group, scopes).add()
                scope.scope.name = chance.choice(("tenantscope", self._text()))
                self._rows(signal, scope)
        return request

    def _rows(self, signal: Signal, scope: Any) -> None:
        many = self._chance.choice((1, 3, 12, 30))
        if signal == "traces":
            for _ in range(many):
                self._span(scope.spans.add())
        elif signal == "logs":
            for _ in range(many):
                self._log(scope.log_records.add())
        else:
            for _ in range(self._chance.choice((1, 2))):
                metric = scope.metrics.add(name=self._chance.choice(("autogen.messages", self._text())), unit="1")
                kind = self._chance.choice(("sum", "sum", "gauge", "histogram", "exponential_histogram", "summary"))
                for _ in range(many):
                    self._point(getattr(metric, kind).data_points.add(), kind)

    def _span(self, span: Any) -> None:
        chance = self._chance
        if chance.random() < self._odd / 5 and self._anywhere:
            self._composer.fill(span, 4)
            return
        span.trace_id, span.span_id = self._id(16), self._id(8)
        if chance.random() < 0.7:
            span.parent_span_id = self._id(8)
        span.name = self._text()
        span.kind = chance.choice((0, 1, 5, 99)) if chance.random() < self._odd else chance.randrange(6)
        span.start_time_unix_nano, span.end_time_unix_nano = chance.getrandbits(62), chance.getrandbits(62)
        self._attributes(span.attributes)
        for _ in range(chance.choice((0, 0, 1, 2))):
            event = span.events.add(name=chance.choice(("exception", self._text())))
            event.time_unix_nano = chance.choice((0, chance.getrandbits(62)))
            self._attribute(event.attributes.add(), "events")
        if chance.random() < 0.1:
            link = span.links.add(trace_id=self._id(16), span_id=self._id(8), trace_state=self._text())
            self._attribute(link.attributes.add(), "attributes")
        if chance.random() < 0.3:
            span.status.code, span.status.message = chance.randrange(3), self._text()
        if chance.random() < self._odd:
            span.trace_state, span.dropped_attributes_count = self._text(), chance.getrandbits(9)
        if chance.random() < 0.5:
            span.flags = 257

    def _log(self, record: Any) -> None:
        chance = self._chance
        if chance.random() < self._odd / 5 and self._anywhere:
            self._composer.fill(record, 4)
            return
        record.time_unix_nano = record.observed_time_unix_nano = chance.getrandbits(62)
        record.severity_number = chance.choice((9, 13, 17))
        record.severity_text = chance.choice(("INFO", "WARN", self._text()))
        if chance.random() < 0.5:
            record.body.string_value = self._text()
        self._attributes(record.attributes)
        if chance.random() < 0.5:
            record.trace_id, record.span_id, record.flags = self._id(16), self._id(8), 1
        if chance.random() < 0.3:
            record.event_name = self._text()

    def _point(self, point: Any, kind: str) -> None:
        chance = self._chance
        if chance.random() < self._odd / 5 and self._anywhere:
            self._composer.fill(point, 5)
            return
        point.start_time_unix_nano = point.time_unix_nano = chance.getrandbits(62)
        self._attributes(point.attributes)
        if kind in ("sum", "gauge"):
            if chance.random() < 0.5:
                point.as_int = chance.choice((0, 1, -1, 10**9))
            else:
                point.as_double = chance.random()
        else:
            point.count, point.sum = chance.getrandbits(20), chance.random()
        if kind == "histogram":
            point.explicit_bounds.extend((0.1, 1.0))
            point.bucket_counts.extend((1, 2, 3))
        if kind != "summary" and chance.random() < 0.3:
            exemplar = point.exemplars.add(time_unix_nano=1, as_int=2, trace_id=self._id(16), span_id=self._id(8))
            self._attribute(exemplar.filtered_attributes.add(), "attributes")

    def _attributes(self, attributes: Any) -> None:
        chance = self._chance
        many = 130 if chance.random() < self._odd / 50 else chance.randint(0, 6)
        if chance.random() < 0.7:
            attributes.add(key="tenant.id").value.string_value = chance.choice(("acme", "globex", "tenant-00042"))
        for _ in range(many):
            self._attribute(attributes.add(), "attributes")

    def _attribute(self, attribute: Any, section: str) -> None:
        chance, value = self._chance, attribute.value
        attribute.key = chance.choice(self._keys[section] if chance.random() < 0.8 else self._strange)
        match chance.randrange(10 if chance.random() < 0.5 else 30):
            case 0:
                value.int_value = chance.choice((0, 5, -1, 10**7, 4111111111111111))
            case 1:
                value.double_value = chance.choice((0.5, -1.0, float("nan"), 1e300))
            case 2:
                value.bool_value = True
            case 3:
                for _ in range(chance.randint(0, 3)):
                    value.array_value.values.add(string_value=self._text())
            case 4 if chance.random() < self._odd:
                self._composer.fill(value, 7) if self._anywhere else value.SetInParent()
            case 5:
                value.string_value = self._new() * chance.choice((3, 9, 99))
            case _:
                value.string_value = self._text()

    def _id(self, size: int) -> bytes:
        chance = self._chance
        if chance.random() < self._odd / 5:
            return chance.choice((b"", b"A" * size, chance.randbytes(size - 1), b"AKIAIOSFODNN7EXA"[:size]))
        return chance.randbytes(size)

    def _text(self) -> str:
        return self._chance.choice(self._pool) if self._chance.random() < 0.7 else self._new()

    def _new(self) -> str:
        """A name that was not there before, as agents and tools have them."""
        chance = self._chance
        return chance.choice(("Planner-{}", "agent_{}", "{}.{}", "web_{}")).format(
            "".join(chance.choices(_LETTERS, k=chance.randint(3, 9))), chance.randrange(10 ** chance.randint(1, 7))
        )
