"""From the spans of the sidecar's store to conversations: which there are, and the tree of one.

What it refuses: to loop where spans claim to be their own ancestors, and to lose a span whose parent is not there: it
stands at the top.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.alerts import printable

_TEXT: Final = 200
_MOST: Final = 1000  # spans of one tree

Json = dict[str, Any]


def conversations(spans: list[Json]) -> list[Json]:
    """One entry for each trace, the newest first: what it began with, whose it is, how long, how many failed."""
    traces: dict[str, list[Json]] = {}
    for span in filter(_sound, spans):
        traces.setdefault(span["trace_id"], []).append(span)
    found = []
    for trace_id, members in traces.items():
        ids = {span["span_id"] for span in members}
        first = min(members, key=lambda span: (span["parent_span_id"] in ids, span["start_ns"]))
        begin, end = min(span["start_ns"] for span in members), max(span["end_ns"] for span in members)
        found.append(
            {
                "trace_id": trace_id,
                "name": _text(first["name"]),
                "tenant": _text(first["tenant"]),
                "at": begin / 1e9,
                "seconds": (end - begin) / 1e9,
                "spans": len(members),
                "errors": sum(span["status"] == "error" for span in members),
            }
        )
    return sorted(found, key=lambda trace: -float(trace["at"]))


def tree(spans: list[Json]) -> list[Json]:
    """The spans of one trace in the order of the tree, each with its depth and its place in time.

    `offset` and `seconds` are seconds since the first began.
    """
    sound = sorted(filter(_sound, spans), key=lambda span: span["start_ns"])[:_MOST]
    known = {span["span_id"] for span in sound}
    children: dict[str, list[Json]] = {}
    for span in sound:
        parent = span["parent_span_id"]
        children.setdefault(parent if parent in known and parent != span["span_id"] else "", []).append(span)
    began = sound[0]["start_ns"] if sound else 0
    lines: list[Json] = []
    seen: set[str] = set()
    waiting = [(span, 0) for span in reversed(children.get("", []))]
    while waiting or len(seen) < len(known):
        if not waiting:  # what is left goes round in a circle: it is cut open at its earliest
            waiting.append((next(span for span in sound if span["span_id"] not in seen), 0))
        span, depth = waiting.pop()
        if span["span_id"] in seen:
            continue
        seen.add(span["span_id"])
        lines.append(_line(span, depth, began))
        waiting += [(child, depth + 1) for child in reversed(children.get(span["span_id"], []))]
    return lines


def _line(span: Json, depth: int, began: int) -> Json:
    attributes = span["attributes"] if isinstance(span["attributes"], dict) else {}
    return {
        "span_id": span["span_id"],
        "name": _text(span["name"]),
        "tenant": _text(span["tenant"]),
        "status": _text(span["status"]),
        "depth": depth,
        "offset": (span["start_ns"] - began) / 1e9,
        "seconds": max(0, span["end_ns"] - span["start_ns"]) / 1e9,
        "attributes": {_text(key): _text(value) for key, value in sorted(attributes.items())},
    }


def _sound(span: Json) -> bool:
    texts = ("trace_id", "span_id", "parent_span_id", "name", "tenant", "status")
    return (
        all(isinstance(span.get(key), str) for key in texts)
        and all(type(span.get(key)) is int for key in ("start_ns", "end_ns"))
        and "attributes" in span
    )


def _text(value: object) -> str:
    return printable(str(value), _TEXT)
