"""Descriptors + table + policy → one plan a message: what to do when a tag comes along.

A plan is a dictionary from the tag as it stands on the wire, wire type included, to a step. A field that the
table does not name, or that comes with another wire type than its own, is not in it: the engine drops what it
does not find.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from sidecar.conventions import Signal

from .forms import Form
from .gates import AttributeGate, TextGate
from .policy import Policy
from .pseudonyms import Pseudonyms
from .schema import ROOTS, path_of
from .shapes import enum
from .steps import (
    ATTRIBUTE,
    DROP,
    FIXED,
    ID,
    INTEGER,
    INTO,
    NAME,
    PACKED_FIXED,
    PACKED_VARINTS,
    PART,
    RECORD,
    TEXT,
    Plan,
)
from .table import TABLE, Decision
from .texts import Text
from .tiers import Membership
from .wire_format import FIXED32, FIXED64, LENGTH, VARINT, tag_of

_WIRE_TYPES: Final = (VARINT, FIXED64, LENGTH, FIXED32)
_F = FieldDescriptor
_FIXED_WIDTH: Final = {
    _F.TYPE_DOUBLE: 8, _F.TYPE_FIXED64: 8, _F.TYPE_SFIXED64: 8,
    _F.TYPE_FLOAT: 4, _F.TYPE_FIXED32: 4, _F.TYPE_SFIXED32: 4,
}  # fmt: skip
# Numbers below the bound are of the type; signed 32-bit ones that are not zigzag take all 64 bits when
# negative.
_VARINT_BOUND: Final[dict[int, int]] = {
    _F.TYPE_BOOL: 2, _F.TYPE_UINT32: 1 << 32, _F.TYPE_SINT32: 1 << 32,
    _F.TYPE_UINT64: 1 << 64, _F.TYPE_SINT64: 1 << 64, _F.TYPE_INT64: 1 << 64,
}  # fmt: skip


class RecordPlan(NamedTuple):
    """The plan of a record under the rules of one tier, or of everybody.

    Attributes:
        plan: for its fields.
        form: what it mostly looks like.
        keyed: whether its tenant's own key goes into what leaves.
    """

    plan: Plan
    form: Form
    keyed: bool


class TenantPlans(NamedTuple):
    """The plans of a record, by whose it is.

    Attributes:
        attributes: the tag of the record's attributes.
        everybody: for tenants without a tier.
        tiers: by the name of the tier.
        membership: who is in which.
        asks: whether it matters whose a record is.
    """

    attributes: int
    everybody: RecordPlan
    tiers: Mapping[str, RecordPlan]
    membership: Membership
    asks: bool

    def of(self, tenant: bytes) -> RecordPlan:
        """The plan for a record of this tenant."""
        name = self.membership.tier_of(tenant)
        return self.everybody if name is None else self.tiers[name]


# The rule of a name for which the policy has none.
_NOTHING: Final = Text(enum(()), 0)


class Planner:
    """Makes the plans of all messages that a request can hold."""

    def __init__(self, policy: Policy, names: Pseudonyms | None = None) -> None:
        #: For attributes of records: of spans, data points and log records.
        self.attributes = AttributeGate(policy.attributes, names)
        self._gates = {
            Decision.ATTRIBUTES: self.attributes,
            Decision.EVENT_ATTRIBUTES: AttributeGate(policy.events, names),
            Decision.RESOURCE_ATTRIBUTES: AttributeGate(policy.resource, names),
        }
        self._fields = policy.fields
        self._names = names
        self._plans: dict[str, Plan] = {}
        self.tiers = {name: Planner(policy.of_tier(name), names) for name in policy.tiers}
        self.membership = Membership(policy.tiers)
        for planner in (self, *self.tiers.values()):
            planner.attributes.of_tenant = self._gate_of
        self._asks_for_tenants = policy.asks_for_tenants
        self._is_keyed = policy.is_keyed

    def _gate_of(self, tenant: bytes) -> AttributeGate:
        name = self.membership.tier_of(tenant)
        return self.attributes if name is None else self.tiers[name].attributes

    def requests(self) -> dict[Signal, Plan]:
        """The plan of a request, by signal."""
        return {signal: self.plan(root) for signal, root in ROOTS.items()}

    def plan(self, message: Descriptor) -> Plan:
        """The plan of one message."""
        plan = self._plans.get(message.full_name)
        if plan is None:
            plan = self._plans[message.full_name] = {}
            for field in message.fields:
                plan.update(self._steps(field))
        return plan

    def _steps(self, field: FieldDescriptor) -> Plan:
        decision = TABLE.get(path_of(field))
        once = _bit(field)
        delimited = tag_of(field.number, LENGTH)
        match decision:
            case Decision.NUMBER:
                return _number(field, once)
            case Decision.TRACE_ID:
                return {delimited: (ID, once, 16)}
            case Decision.SPAN_ID:
                return {delimited: (ID, once, 8)}
            case Decision.TEXT if path_of(field) in self._fields:
                return {delimited: (TEXT, once, TextGate(self._fields[path_of(field)], self._names))}
            case Decision.NAME:
                rule = self._fields.get(path_of(field), _NOTHING)
                return {delimited: (NAME, once, TextGate(rule, self._names))}
            case Decision.ATTRIBUTES | Decision.EVENT_ATTRIBUTES | Decision.RESOURCE_ATTRIBUTES:
                return {delimited: (ATTRIBUTE, once, self._gates[decision])}
            case Decision.RECORD:
                return {delimited: (RECORD, once, self._tenant_plans(field.message_type))}
            case Decision.INTO | Decision.PART:
                operation = INTO if decision is Decision.INTO else PART
                return {delimited: (operation, once, self.plan(field.message_type))}
            case None:
                return {}
            case _:  # DROP, a text without a rule, and what only ever stands inside of an attribute
                return {tag_of(field.number, wire_type): (DROP, 0, "denied") for wire_type in _WIRE_TYPES}

    def _tenant_plans(self, message: Descriptor) -> TenantPlans:
        attributes = tag_of(message.fields_by_name["attributes"].number, LENGTH)
        tiers = {name: planner.record_plan(message) for name, planner in self.tiers.items()}
        return TenantPlans(attributes, self.record_plan(message), tiers, self.membership, self._asks_for_tenants)

    def record_plan(self, message: Descriptor) -> RecordPlan:
        """The same of a record, for everybody who has no other planner."""
        plan = self.plan(message)
        return RecordPlan(plan, Form(plan), self._is_keyed)


def _bit(field: FieldDescriptor) -> int:
    """The bit of a field that may stand once; the members of a oneof share one. 0 when it may repeat."""
    if field.label == FieldDescriptor.LABEL_REPEATED:
        return 0
    group = field.containing_oneof
    number: int = field.number if group is None else min(member.number for member in group.fields)
    return 1 << number


def _number(field: FieldDescriptor, once: int) -> Plan:
    repeated = field.label == FieldDescriptor.LABEL_REPEATED
    packed = tag_of(field.number, LENGTH)
    width = _FIXED_WIDTH.get(field.type)
    if width is not None:
        plan: Plan = {tag_of(field.number, FIXED64 if width == 8 else FIXED32): (FIXED, once, width)}
        # Parsers take a repeated number in either form.
        return plan | {packed: (PACKED_FIXED, 0, width)} if repeated else plan
    bound: int = _names(field.enum_type) if field.type == _F.TYPE_ENUM else _VARINT_BOUND[field.type]
    plan = {tag_of(field.number, VARINT): (INTEGER, once, bound)}
    return plan | {packed: (PACKED_VARINTS, 0, None)} if repeated else plan


def _names(enumeration: EnumDescriptor) -> int:
    """How many values an enumeration has a name for; OTLP numbers them from 0 on, without gaps."""
    numbers: list[int] = sorted(value.number for value in enumeration.values)
    if numbers != list(range(len(numbers))):
        raise NotImplementedError(f"{enumeration.full_name} has gaps")
    return len(numbers)
