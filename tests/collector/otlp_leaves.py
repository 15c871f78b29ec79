"""Every place in OTLP where text or bytes can stand, found in its descriptors, and a request for each.

A field that a later OTLP adds appears here by itself; nobody has to remember it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from collector_process import SERVICES, Collector
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from instrumentation import conventions

MARK_KEY = conventions.TENANT_ID
#: an allowed key whose value is free: what stands there is judged by its value alone
VALUE_KEY = conventions.AGENT_TYPE
RESOURCE_KEY = "host.name"
_TEXT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


@dataclass(frozen=True)
class Leaf:
    """One field of type string or bytes, and the way to it from the request."""

    signal: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.signal}:{'.'.join(self.path)}"

    def plant(self, canary: str, mark: str, key: str = "") -> Message:
        """A request that is ordinary in all else, with `canary` here and `mark` as its record's tenant.

        A value stands below an allowed key, or below `key`.
        """
        request = _ordinary(self, mark)
        at: Any = request
        for name in self.path[:-1]:
            at = _enter(at, name)
            if key and name.endswith("attributes"):
                at.key = key
        field = at.DESCRIPTOR.fields_by_name[self.path[-1]]
        value: Any = canary if field.type == FieldDescriptor.TYPE_STRING else canary.encode()
        if hasattr(getattr(at, field.name), "append"):  # a repeated field
            getattr(at, field.name).append(value)
        else:
            setattr(at, field.name, value)
        return request


def leaves() -> list[Leaf]:
    """All leaves of the three requests; values are followed to the depth of a list in a map in a value."""
    return [
        Leaf(signal, path) for signal, (_, request, _) in SERVICES.items() for path in _walk(request.DESCRIPTOR, (), ())
    ]


def _walk(message: Descriptor, path: tuple[str, ...], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for field in message.fields:
        here = (*path, field.name)
        if field.type in _TEXT:
            yield here
        elif field.message_type is not None and above.count(field.message_type.full_name) < 2:
            yield from _walk(field.message_type, here, (*above, field.message_type.full_name))


def _ordinary(leaf: Leaf, mark: str) -> Message:
    request: Any = SERVICES[leaf.signal][1]()
    if leaf.signal == "traces":
        resource = request.resource_spans.add()
        record = resource.scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name="process worker")
    elif leaf.signal == "logs":
        resource = request.resource_logs.add()
        record = resource.scope_logs.add().log_records.add(severity_number=9)
    else:
        resource = request.resource_metrics.add()
        metric = resource.scope_metrics.add().metrics.add(
            name=conventions.TENANT_LOOP_DELAY.name, unit=conventions.TENANT_LOOP_DELAY.unit
        )
        known = {field.name for field in metric.DESCRIPTOR.oneofs_by_name["data"].fields}
        kinds = [name for name in leaf.path if name in known]
        data = getattr(metric, kinds[0] if kinds else "gauge")
        if "aggregation_temporality" in data.DESCRIPTOR.fields_by_name:
            data.aggregation_temporality = 2
        record = data.data_points.add(time_unix_nano=1_700_000_000_000_000_000)
    name = resource.resource.attributes.add(key="service.name")
    name.value.string_value = "billing"
    record.attributes.add(key=MARK_KEY).value.string_value = mark
    return request


def _enter(at: Any, name: str) -> Any:
    """The message below `name`: the first of a list of records, a new one where attributes stand."""
    items = getattr(at, name)
    if isinstance(items, Message):
        items.SetInParent()
        return items
    if items and not name.endswith("attributes"):
        return items[0]
    added = items.add()
    names = added.DESCRIPTOR.fields_by_name
    if "key" in names:
        added.key = RESOURCE_KEY if at.DESCRIPTOR.name == "Resource" else VALUE_KEY
    if "trace_id" in names:  # a link or an exemplar
        added.trace_id, added.span_id = b"l" * 16, b"l" * 8
    return added


LEAVES = leaves()
ATTRIBUTES = (
    "resource.attributes",
    "spans.attributes",
    "events.attributes",
    "points.attributes",
    "records.attributes",
)


def whole_record_goes(leaf: Leaf) -> bool:
    """A link, or a metric that nobody knows: there is nothing to clean."""
    return "links" in leaf.path or leaf.path[-2:] in {("metrics", "name"), ("metrics", "unit")}


def value_of_allowed_key(leaf: Leaf, kind: str) -> bool:
    """`kind` directly below an allowed key; what its value says is the sidecar's to judge."""
    return ".".join(leaf.path).endswith(tuple(f"{place}.value.{kind}" for place in ATTRIBUTES))


def survivors(collector: Collector, word: str, text: Callable[[int], str]) -> set[Leaf]:
    """Plant a canary in every leaf, wait for all records that should arrive, see which ones still sing."""
    expected: list[tuple[str, str]] = []
    for index, leaf in enumerate(LEAVES):
        mark = f"{word}-mark-{index}-"
        status = collector.send(leaf.signal, leaf.plant(text(index), mark))
        if leaf.path[-1].endswith("_id"):
            assert status is not grpc.StatusCode.OK, f"{leaf}: an id of illegal length was taken"
            continue
        assert status is grpc.StatusCode.OK, f"{leaf} was refused"
        if not whole_record_goes(leaf):
            expected.append((leaf.signal, mark))
    for signal, mark in expected:
        collector.upstream.wait_for(signal, mark.encode())
    out = collector.upstream.everything() + collector.page().encode()
    return {leaf for index, leaf in enumerate(LEAVES) if text(index).encode() in out}
