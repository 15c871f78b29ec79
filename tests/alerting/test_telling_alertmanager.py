"""What an Alertmanager is sent, and when: firing, again before it lapses, resolved. Time is the test's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from alert_receiver import ADMIN_URL, BEGAN, Receiver, answer, firing, resolved

from sidecar.alerts.alertmanager import MAX_ALERTS, Alertmanager
from sidecar.alerts.courier import Courier
from sidecar.alerts.post import Endpoint

NOW = BEGAN + timedelta(seconds=10)


def telling(receiver: Receiver, wall: datetime = NOW) -> Courier:
    route = Alertmanager(lambda: ADMIN_URL, lifetime=180.0, wall=lambda: wall)
    return Courier("alertmanager", route, Endpoint(f"{receiver.url}/api/v2/alerts"), clock=lambda: 0.0)


def posted(receiver: Receiver) -> list[dict[str, Any]]:
    """All alerts of all requests, in order."""
    assert all(request.path == "/api/v2/alerts" for request in receiver.requests)
    return [alert for request in receiver.requests for alert in request.document]


def test_a_firing_alert_is_sent_with_an_end_ahead(receiver: Receiver) -> None:
    """Labels with a severity, evidence in annotations, where to look it up."""
    courier = telling(receiver)
    courier.submit(firing())
    assert courier.step(0.0) == 0.0
    (alert,) = posted(receiver)
    assert alert == {
        "labels": {
            "alertname": "EventLoopStalled", "tenant_id": "acme", "service_name": "billing", "instance": "i-1",
            "severity": "warning",
        },
        "annotations": {"summary": "acme holds it", "stack": "a.py:1 f\nb.py:2 g", "duration_ms": "100"},
        "startsAt": "2030-01-02T03:04:05.678Z",
        "endsAt": "2030-01-02T03:07:15.678Z",
        "generatorURL": f"{ADMIN_URL}/status",
    }  # fmt: skip


def test_it_is_sent_again_after_a_third_of_its_lifetime(receiver: Receiver) -> None:
    """And says when, so that nobody polls; a failed repetition is tried again long before the alert lapses."""
    courier = telling(receiver)
    courier.submit(firing())
    courier.step(0.0)
    assert courier.step(0.0) == 60.0
    assert courier.step(59.9) == 60.0
    receiver.answers.append(answer(503))
    assert 60.0 < courier.step(60.0) <= 61.0
    assert courier.step(61.0) == 61.0
    assert courier.step(61.0) == 121.0
    assert len(posted(receiver)) == 3


def test_a_resolution_is_sent_once_with_its_end(receiver: Receiver) -> None:
    """And then there is nothing to look at any more."""
    courier = telling(receiver)
    courier.submit(firing())
    courier.step(0.0)
    courier.submit(resolved())
    assert courier.step(1.0) == 1.0
    assert courier.step(1.0) == float("inf")
    assert [alert["endsAt"] for alert in posted(receiver)][1] == "2030-01-02T03:04:07.678Z"
    assert courier.outbox.items() == []


def test_what_was_over_before_it_was_told_is_told_as_both(receiver: Receiver) -> None:
    """Alertmanager notifies nobody of an end whose beginning it never saw."""
    courier = telling(receiver)
    courier.submit(firing())
    courier.submit(resolved())
    courier.step(0.0)
    courier.step(0.0)
    courier.step(0.0)
    first, second = posted(receiver)
    assert first["endsAt"] > first["startsAt"] == second["startsAt"]
    assert (first["endsAt"], second["endsAt"]) == ("2030-01-02T03:07:15.678Z", "2030-01-02T03:04:07.678Z")


def test_a_clock_that_was_set_back_makes_no_alert_of_the_future(receiver: Receiver) -> None:
    """Alertmanager would take one that ends in the future for firing."""
    courier = telling(receiver, wall=BEGAN - timedelta(hours=1))
    courier.submit(firing())
    courier.step(0.0)
    courier.submit(resolved())
    courier.step(0.0)
    assert [(alert["startsAt"], alert["endsAt"]) for alert in posted(receiver)] == [
        ("2030-01-02T02:04:05.678Z", "2030-01-02T02:07:05.678Z"),
        ("2030-01-02T02:04:05.678Z", "2030-01-02T02:04:05.678Z"),
    ]


def test_a_flood_goes_out_in_parts(receiver: Receiver) -> None:
    """Many tenants at once: messages of a bounded size, each alert once."""
    courier = telling(receiver)
    for number in range(2 * MAX_ALERTS + 1):
        courier.submit(firing(f"t{number}"))
    while courier.step(0.0) == 0.0:
        pass
    assert [len(request.document) for request in receiver.requests] == [MAX_ALERTS, MAX_ALERTS, 1]
    assert len({alert["labels"]["tenant_id"] for alert in posted(receiver)}) == 2 * MAX_ALERTS + 1


def test_a_tenant_that_flaps_is_told_in_sum(receiver: Receiver) -> None:
    """Ten messages at once, then one in six seconds; the changes between are a number on the next one."""
    courier = telling(receiver)
    for number in range(40):
        start = BEGAN + timedelta(seconds=number)
        courier.submit(firing(starts_at=start))
        while courier.step(0.0) == 0.0:
            pass
        courier.submit(resolved(starts_at=start))
        while courier.step(0.0) == 0.0:
            pass
    courier.submit(firing("globex"))
    assert courier.step(0.0) == 0.0
    assert len([alert for alert in posted(receiver) if alert["labels"]["tenant_id"] == "acme"]) == 10
    courier.step(6.0)
    courier.step(12.0)
    sums = [alert["annotations"].get("suppressed_changes") for alert in posted(receiver)][11:]
    assert sums == ["68", None]
    taken, told, dropped, waiting = courier.outbox.counts()
    assert (taken, told, dropped, waiting) == (81, 81, {}, 0)


def test_an_allowance_holds_within_one_message(receiver: Receiver) -> None:
    """A tenant with alerts of twenty instances at once gets ten of them, then one in six seconds."""
    courier = telling(receiver)
    for number in range(20):
        courier.submit(firing(instance=f"i-{number}"))
    assert courier.step(0.0) == 0.0
    assert len(posted(receiver)) == 10
    assert courier.step(0.0) == 6.0
    courier.step(6.0)
    assert len(posted(receiver)) == 11


def test_foreign_text_is_bounded_and_printable(receiver: Receiver) -> None:
    """Control characters, lone surrogates and a stack without end come out escaped and cut; line breaks stay."""
    courier = telling(receiver)
    evil = "x\n\x1b[31m\u202e\ud800\0" + "y" * 10_000
    stack = "\n".join(f"f{n}.py:1 \x07g" for n in range(5000)) + "\ninnermost"
    labels = {**firing().labels, "tenant_id": evil, "instance": ""}
    courier.submit(firing(labels=labels, annotations={"summary": evil, "stack": stack}))
    courier.step(0.0)
    (alert,) = posted(receiver)
    assert "instance" not in alert["labels"]
    assert alert["labels"]["tenant_id"].startswith("x\\n\\x1b[31m\\u202e\\ud800\\x00yy")
    texts = [*alert["labels"].values(), alert["annotations"]["summary"], *alert["annotations"]["stack"].split("\n")]
    assert all(text.isprintable() for text in texts)
    assert alert["annotations"]["stack"].endswith("\ninnermost")
    assert len(receiver.requests[0].body) < 40_000
