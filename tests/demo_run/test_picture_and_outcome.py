"""From the sidecar's status to rows, and from the end of a run to a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tenantscope.demo.handover import Report
from tenantscope.demo.outcome import Outcome
from tenantscope.demo.picture import Picture
from tenantscope.view.status import Status, read

Json = dict[str, Any]


def tenant_in_loop(tenant: str, loop_seconds: float) -> Json:
    return {
        "tenant": tenant,
        "loop_seconds": loop_seconds,
        "slices": 1,
        "longest_seconds": loop_seconds / 2,
        "delay_suffered_seconds": 1.0,
        "delay_caused_seconds": 2.0,
        "waits": 3,
    }


def loop(*tenants: Json, loop_id: int = 1) -> Json:
    return {"service": "s", "instance": "i", "pid": 7, "loop_id": loop_id, "tenants": list(tenants)}


def document(*loops: Json) -> Json:
    counts = {"received": 10, "forwarded": 7, "rejected": 1, "dropped": 2, "queued": 0}
    stored = {"tenant": "acme", "messages": 5, "errors": 1, "tokens": 80, "spans": 9, "findings": 2}
    return {
        "records": {signal: dict(counts) for signal in ("traces", "metrics", "logs")},
        "loops": list(loops),
        "stalls": [],
        "alerts": [],
        "tenants": [stored],
        "findings": [{"tenant": "acme", "rule": "agent_shared", "count": 2}],
    }


def status(*loops: Json) -> Status:
    return read(json.dumps(document(*loops)).encode())


def test_a_row_adds_up_all_loops_of_a_tenant_and_its_stored_figures() -> None:
    """Two loops and the store make one row; the longest slice is the longest of both."""
    picture = Picture(["acme"])
    picture.take(status(loop(tenant_in_loop("acme", 1.0)), loop(tenant_in_loop("acme", 4.0), loop_id=2)), 0.0)
    (row,) = picture.rows(recent=False)
    assert (row.loop_seconds, row.longest_seconds, row.delay_suffered_seconds) == (5.0, 2.0, 2.0)
    assert (row.messages, row.errors, row.tokens, row.spans, row.findings) == (5, 1, 80, 9, 2)


def test_a_closed_loop_keeps_its_last_figures() -> None:
    """At the end of a run the application is gone, and its loop with it; what it did is not."""
    picture = Picture(["acme"])
    picture.take(status(loop(tenant_in_loop("acme", 1.0))), 0.0)
    picture.take(status(), 1.0)
    assert picture.rows(recent=False)[0].loop_seconds == 1.0


def test_the_share_is_of_the_last_seconds_or_of_the_whole_run() -> None:
    """Busy once and idle now: the share of the run stays, that of the moment goes to 0."""
    picture = Picture(["acme"])
    for second in range(21):
        picture.take(status(loop(tenant_in_loop("acme", float(min(second, 10))))), float(second))
        if second == 10:
            assert picture.rows(recent=True)[0].loop_share == pytest.approx(1.0)
    assert picture.rows(recent=True)[0].loop_share == 0.0
    assert picture.rows(recent=False)[0].loop_share == pytest.approx(0.5)


def test_the_cast_has_its_rows_at_once_and_others_when_they_do_something() -> None:
    """A slot without a second of the loop is no row."""
    picture = Picture(["acme", "globex"])
    assert [row.tenant for row in picture.rows(recent=True)] == ["acme", "globex"]
    picture.take(status(loop(tenant_in_loop("unknown", 0.1), tenant_in_loop("other", 0.0))), 0.0)
    assert [row.tenant for row in picture.rows(recent=True)] == ["acme", "globex", "unknown"]


def outcome(change: Callable[[Json], object], leaked: dict[str, str]) -> Outcome:
    said = document(loop(tenant_in_loop("acme", 1.0)))
    change(said)
    picture = Picture()
    picture.take(read(json.dumps(said).encode()), 0.0)
    return Outcome(picture, planted=60, leaked=leaked, searched={"/status": 100}, report=Report())


def test_a_run_without_leaks_in_which_all_records_are_accounted_for_is_good() -> None:
    """Rejected and dropped records are accounted for, too."""
    good = outcome(lambda said: None, {})
    good.judge()
    assert good.failures == []
    assert (good.as_json()["canaries_planted"], good.as_json()["canaries_leaked"]) == (60, 0)


@pytest.mark.parametrize(
    ("change", "leaked", "unread", "word"),
    [
        (lambda said: None, {"canary": "/status, plain"}, [], "leaked"),
        (lambda said: None, {}, ["cells"], "cells"),
        (lambda said: said["records"]["metrics"].update(received=11), {}, [], "metrics"),
        (lambda said: said["records"]["logs"].update(forwarded=6, queued=1), {}, [], "queued"),
        (
            lambda said: said["records"]["traces"].update(received=0, forwarded=0, rejected=0, dropped=0),
            {},
            [],
            "no spans",
        ),
        (lambda said: said.update(records={}), {}, [], "no spans"),
    ],
)
def test_whatever_speaks_against_a_run_is_named(
    change: Callable[[Json], object], leaked: dict[str, str], unread: list[str], word: str
) -> None:
    """A leak, an unread place, a record that vanished or is stuck, no telemetry: each one fails it."""
    bad = outcome(change, leaked)
    bad.judge(unread)
    assert len(bad.failures) == 1
    assert word in bad.failures[0]


def test_telemetry_that_the_application_dropped_fails_the_run() -> None:
    """The sidecar can only account for what it was sent; the library says what it was not."""
    bad = outcome(lambda said: None, {})
    bad.report.faults = {"export.queue_full": 3, "link.lost": 1}
    bad.judge()
    assert len(bad.failures) == 1
    assert "export.queue_full" in bad.failures[0]


def test_findings_name_tenant_and_rule() -> None:
    """As they stand in the JSON file."""
    assert outcome(lambda said: None, {}).as_json()["findings"] == [
        {"tenant": "acme", "rule": "agent_shared", "count": 2}
    ]
