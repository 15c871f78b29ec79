"""The status comes over a socket that anything may answer on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_sidecar import CALM, STALLED, as_status, recorded

from tenantscope.view.status import NotAStatusError, Status, read

NAMES = sorted(recorded(STALLED)) + sorted({*recorded(STALLED)["stalls"][0], *recorded(STALLED)["loops"][0]})
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["\x1b[2J", "a\nb", "\u202eevil", "\ud800", "x" * 5000]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=6),
    max_leaves=30,
)


def values(tree: object) -> list[object]:
    """Every leaf and every key of what was read."""
    if isinstance(tree, dict):
        return [value for pair in tree.items() for part in pair for value in values(part)]
    if isinstance(tree, list | tuple):
        return [value for part in tree for value in values(part)]
    return [tree]


def assert_fit_to_be_shown(status: Status) -> None:
    for value in values(asdict(status)):
        if isinstance(value, str):
            assert value.isprintable()
            assert len(value) <= 512
        elif isinstance(value, int | float):
            assert 0 <= value < 2**64


@pytest.mark.parametrize("name", [CALM, STALLED])
def test_a_real_status_is_read_without_a_fault(name: str) -> None:
    """What the sidecar really says is what this side expects, value for value."""
    document, status = recorded(name), as_status(recorded(name))
    assert status.faults == 0
    assert (status.pid, status.destination, status.records) == (
        document["pid"],
        "embedded store",
        document["records"],
    )
    assert [asdict(stored) for stored in status.tenants] == document["tenants"]
    assert [share.delay_caused_seconds for share in status.loops[0].tenants] == [
        share["delay_caused_seconds"] for share in document["loops"][0]["tenants"]
    ]
    assert [(stall.active, list(stall.stack)) for stall in status.stalls] == [
        (stall["active"], stall["stack"]) for stall in document["stalls"]
    ]
    assert [alert.status for alert in status.alerts] == [alert["status"] for alert in document["alerts"]]


@given(TREES)
def test_any_json_gives_a_status_that_is_fit_to_be_shown_or_is_refused(tree: object) -> None:
    """No input raises anything else, and nothing that a terminal would obey gets through."""
    try:
        status = as_status(tree)
    except NotAStatusError:
        assert not isinstance(tree, dict)
    else:
        assert_fit_to_be_shown(status)


@given(st.data())
def test_a_real_status_with_any_value_replaced_is_fit_to_be_shown(data: st.DataObject) -> None:
    """One hostile value somewhere in a document that is right everywhere else."""
    document: Any = recorded(STALLED)
    inside = document
    while True:
        keys = list(inside) if isinstance(inside, dict) else list(range(len(inside)))
        key = data.draw(st.sampled_from(keys))
        if not (isinstance(inside[key], dict | list) and inside[key]) or data.draw(st.booleans()):
            break
        inside = inside[key]
    inside[key] = data.draw(TREES)
    assert_fit_to_be_shown(as_status(document))


@given(st.binary())
def test_bytes_that_are_no_status_are_refused(content: bytes) -> None:
    """Random bytes are hardly ever a JSON object."""
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        with pytest.raises(NotAStatusError):
            read(content)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"[" * 100_000, b"1" * 5000, b'"ok"'])
def test_what_is_no_object_is_refused_in_words(content: bytes) -> None:
    """The words are ours, none of them the document's."""
    with pytest.raises(NotAStatusError, match="its answer is"):
        read(content)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("pid",), "12"),
        (("pid",), -1),
        (("pid",), True),
        (("version",), 7),
        (("loops",), {}),
        (("loops", 0), "loop"),
        (("loops", 0, "heartbeat_age_seconds"), float("nan")),
        (("loops", 0, "running"), "acme"),
        (("loops", 0, "tenants", 0, "loop_seconds"), float("inf")),
        (("loops", 0, "tenants", 0, "waits"), 10**30),
        (("stalls", 0, "stack"), [1]),
        (("stalls", 0, "active"), "yes"),
        (("tenants", 0, "tenant"), None),
        (("records", "traces"), 3),
        (("records", "\x1b]0;x\x07"), {}),
    ],
)
def test_a_value_of_the_wrong_kind_is_counted_and_the_rest_is_read(place: tuple[Any, ...], value: object) -> None:
    """Nothing is left out in silence."""
    document: Any = recorded(STALLED)
    inside = document
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    status = as_status(document)
    assert status.faults == 1
    assert status.destination == "embedded store"


def test_what_an_older_sidecar_does_not_say_is_no_fault() -> None:
    """Fields that are missing are empty."""
    assert as_status({}) == Status()
