"""Alerts reach every sink once, whatever another sink does, and leave bounded traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sidecar.alerts import Alert, Alerts, LogSink, MetricsSink, printable
from sidecar.alerts.sinks import MAX_TENANTS

BEGAN = datetime(2030, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)


def firing(tenant: str = "acme", **changed: Any) -> Alert:
    about: dict[str, Any] = {
        "name": "EventLoopStalled",
        "status": "firing",
        "labels": {
            "alertname": "EventLoopStalled", "tenant_id": tenant, "service_name": "s", "instance": "i",
        },
        "annotations": {"summary": "it hangs", "stack": "a.py:1 f\nb.py:2 g"},
        "starts_at": BEGAN,
    }  # fmt: skip
    return Alert(**{**about, **changed})


def resolved(tenant: str = "acme", seconds: float = 2.5) -> Alert:
    return firing(tenant, status="resolved", ends_at=BEGAN + timedelta(seconds=seconds))


class Recording:
    def __init__(self, name: str = "recording") -> None:
        self.name = name
        self.alerts: list[Alert] = []

    def submit(self, alert: Alert) -> None:
        self.alerts.append(alert)


class Failing:
    name = "failing"

    def submit(self, alert: Alert) -> None:
        raise RuntimeError("of this sink")


def test_a_failing_sink_is_isolated_and_counted(registry: Any, sample: Callable[..., float | None]) -> None:
    """The sinks before and after it get every alert; the log has the type, not the message."""
    before, after = Recording("before"), Recording("after")
    alerts = Alerts([before, Failing(), after], registry)
    with capture_logs() as lines:
        alerts.submit(firing())
        alerts.submit(resolved())
    assert before.alerts == after.alerts == [firing(), resolved()]
    assert sample("tenantscope_alert_sink_failures_total", sink="failing") == 2
    assert sample("tenantscope_alert_sink_failures_total", sink="before") == 0
    assert [line["error"] for line in lines] == ["RuntimeError"] * 2
    assert "of this sink" not in str(lines)


def test_the_same_change_is_told_once() -> None:
    """Labels, start and status make a change; another start is another alert."""
    sink = Recording()
    alerts = Alerts([sink])
    for alert in (firing(), firing(), resolved(), resolved(), firing("globex"), firing(starts_at=BEGAN + timedelta(1))):
        alerts.submit(alert)
    assert [(alert.status, alert.labels["tenant_id"]) for alert in sink.alerts] == [
        ("firing", "acme"), ("resolved", "acme"), ("firing", "globex"), ("firing", "acme"),
    ]  # fmt: skip


def test_the_last_alerts_are_remembered() -> None:
    """256 of them, newest last."""
    alerts = Alerts([])
    for number in range(300):
        alerts.submit(firing(str(number)))
    assert [alert.labels["tenant_id"] for alert in alerts.recent()] == [str(number) for number in range(44, 300)]


def test_a_fingerprint_is_of_the_labels_alone_and_stable() -> None:
    """Order, status, annotations and times don't matter; and it does not change between versions."""
    alert = firing()
    assert alert.fingerprint == resolved().fingerprint
    assert alert.fingerprint == firing(labels=dict(reversed(alert.labels.items()))).fingerprint
    assert alert.fingerprint != firing("globex").fingerprint
    assert alert.fingerprint == "4a7d8a526bad45c0"


def test_an_alert_cannot_be_changed() -> None:
    """Sinks get the same object, and none can spoil it for the next."""
    labels = {"tenant_id": "acme"}
    alert = replace(firing(), labels=labels)
    labels["tenant_id"] = "globex"
    assert alert.labels["tenant_id"] == "acme"
    with pytest.raises(TypeError):
        alert.labels["tenant_id"] = "globex"  # type: ignore[index]


def test_an_alert_as_json_has_rfc_3339_times() -> None:
    """In UTC, with milliseconds."""
    shown = resolved().as_dict()
    assert shown["starts_at"] == "2030-01-02T03:04:05.678Z"
    assert shown["ends_at"] == "2030-01-02T03:04:08.178Z"
    assert firing().as_dict()["ends_at"] is None


def test_the_log_line_can_be_read() -> None:
    """What, who, where, how long, and the innermost frame; what a terminal would obey is escaped."""
    annotations = {
        "summary": "it hangs",
        "duration_ms": "120",
        "stack": "\n".join(f"/a/long/path/file{n}.py:1 f" for n in range(64)),
        "victims": ", ".join(f"tenant-{n}" for n in range(20)),
        "runbook_url": "https://runbooks.example/x",
    }
    with capture_logs() as lines:
        LogSink().submit(firing("evil\n\x1b[31m\u202etenant", annotations=annotations))
    assert lines == [
        {
            "log_level": "warning",
            "event": "alert",
            "status": "firing",
            "alertname": "EventLoopStalled",
            "tenant_id": "evil\\n\\x1b[31m\\u202etenant",
            "service_name": "s",
            "instance": "i",
            "duration_ms": "120",
            "summary": "it hangs",
            "at": "/a/long/path/file63.py:1 f",
        }
    ]


def test_stalls_are_counted_by_tenant(registry: Any, sample: Callable[..., float | None]) -> None:
    """Count, seconds, and a gauge that exists only while a stall lasts, also with two at once."""
    sink = MetricsSink(registry)
    where = {"tenant_id": "acme", "service_name": "s", "instance": "i"}
    sink.submit(firing())
    sink.submit(firing(starts_at=BEGAN + timedelta(1)))
    assert sample("tenantscope_stall_active", **where) == 1
    sink.submit(resolved())
    assert sample("tenantscope_stall_active", **where) == 1
    sink.submit(resolved(seconds=1))
    assert sample("tenantscope_stall_active", **where) is None
    assert sample("tenantscope_stalls_total", tenant_id="acme") == 2
    assert sample("tenantscope_stall_seconds_total", tenant_id="acme") == pytest.approx(3.5)
    assert sample("tenantscope_alerts_total", alertname="EventLoopStalled", status="firing") == 2


def test_tenants_in_the_metrics_are_bounded(registry: Any, sample: Callable[..., float | None]) -> None:
    """Beyond the bound they are `other`; none is lost from the sum."""
    sink = MetricsSink(registry)
    for number in range(MAX_TENANTS + 50):
        sink.submit(firing(f"tenant-{number}"))
        sink.submit(resolved(f"tenant-{number}"))
    assert sample("tenantscope_stalls_total", tenant_id="other") == 50
    assert sample("tenantscope_stalls_total", tenant_id=f"tenant-{MAX_TENANTS - 1}") == 1
    assert sample("tenantscope_stalls_total", tenant_id=f"tenant-{MAX_TENANTS}") is None


@given(st.text(st.characters(), max_size=600))
def test_any_text_becomes_one_bounded_printable_line(text: str) -> None:
    """Lone surrogates, control and format characters included; printable text stays as it is."""
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) <= 512
    shown.encode("utf-8")
    if text.isprintable() and len(text) <= 512:
        assert shown == text
