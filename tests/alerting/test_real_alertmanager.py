"""A real Alertmanager behind a recording proxy, and behind it a receiver of its webhook: does the news get through?"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import programs
import pytest
from alert_receiver import ADMIN_URL, PATIENCE, Receiver, firing, resolved, running_receiver

from sidecar.alerts.alertmanager import Alertmanager
from sidecar.alerts.courier import Courier
from sidecar.alerts.post import Endpoint
from sidecar.alerts.webhook import Webhook


@pytest.fixture
def alertmanager(tmp_path: Path, receiver: Receiver) -> Iterator[str]:
    """Its address. It puts together what our own messages do."""
    with programs.alertmanager(tmp_path, receiver.url, groups=("alertname", "service_name")) as address:
        yield address


@pytest.fixture
def proxy(alertmanager: str) -> Iterator[Receiver]:
    """Hands on what it records: a test can wait for what the sidecar sends."""

    def hand_on(handler: BaseHTTPRequestHandler) -> None:
        request = recorder.requests[-1]  # the courier sends one at a time
        connection = http.client.HTTPConnection(alertmanager, timeout=PATIENCE)
        connection.request("POST", request.path, request.body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        statuses.append(response.status)
        handler.send_response(response.status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    statuses: list[int] = []
    with running_receiver() as recorder:
        recorder.always = hand_on
        yield recorder
    assert set(statuses) == {200}


def known(address: str) -> list[dict[str, Any]]:
    """What the Alertmanager holds for firing."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request("GET", "/api/v2/alerts")
    document = json.loads(connection.getresponse().read())
    connection.close()
    return list(document)


def statuses(receiver: Receiver) -> list[str]:
    return [alert["status"] for request in receiver.requests for alert in request.document["alerts"]]


def test_people_hear_of_a_stall_and_of_its_end(alertmanager: str, proxy: Receiver, receiver: Receiver) -> None:
    """Firing, sent again before it lapses, resolved; the lifetime is short here, and still nothing lapses between."""
    courier = Courier(
        "alertmanager", Alertmanager(lambda: ADMIN_URL, lifetime=4.5), Endpoint(f"{proxy.url}/api/v2/alerts")
    )
    began = datetime.now(UTC)
    courier.start()
    try:
        courier.submit(firing(starts_at=began))
        (notified,) = receiver.wait_for(1)
        assert notified.document["status"] == "firing"
        (alert,) = notified.document["alerts"]
        assert alert["labels"] == {**firing().labels, "severity": "warning"}
        assert alert["annotations"] == firing().annotations
        assert alert["generatorURL"] == f"{ADMIN_URL}/status"
        # Beyond the end that the first message gave: it holds because it was sent again in time.
        sent = proxy.wait_for(5)
        first_end = datetime.fromisoformat(sent[0].document[0]["endsAt"])
        assert datetime.now(UTC) > first_end
        (held,) = known(alertmanager)
        assert held["status"]["state"] == "active"
        assert datetime.fromisoformat(held["endsAt"]) > first_end
        assert statuses(receiver) == ["firing"]
        courier.submit(resolved(starts_at=began, ends_at=datetime.now(UTC)))
        receiver.wait_for(2)
        assert statuses(receiver) == ["firing", "resolved"]
    finally:
        courier.stop(PATIENCE)
    assert courier.failures() == {}
    assert known(alertmanager) == []


def test_an_alert_whose_sidecar_is_gone_lapses(alertmanager: str, proxy: Receiver, receiver: Receiver) -> None:
    """Nothing rings for ever because a sender died."""
    courier = Courier(
        "alertmanager", Alertmanager(lambda: ADMIN_URL, lifetime=1.0), Endpoint(f"{proxy.url}/api/v2/alerts")
    )
    courier.submit(firing(starts_at=datetime.now(UTC)))
    courier.step(0.0)
    receiver.wait_for(2)
    assert statuses(receiver) == ["firing", "resolved"]


def test_our_webhook_has_the_shape_of_alertmanagers(alertmanager: str, proxy: Receiver, receiver: Receiver) -> None:
    """The same stall by both ways: the same fields, and the same values but for the sender's own."""
    began = datetime.now(UTC) - timedelta(seconds=1)
    alerts = [firing(tenant, starts_at=began) for tenant in ("acme", "globex")]
    by_alertmanager = Courier("alertmanager", Alertmanager(lambda: ADMIN_URL), Endpoint(f"{proxy.url}/api/v2/alerts"))
    with running_receiver() as direct:
        by_webhook = Courier("webhook", Webhook(lambda: ADMIN_URL), Endpoint(direct.url))
        for courier in (by_alertmanager, by_webhook):
            for alert in alerts:
                courier.submit(replace(alert))
            courier.step(0.0)
        theirs = receiver.wait_until(lambda: len(receiver.requests[-1:]) == 1)[0].document
        ours = direct.requests[0].document
    assert set(ours) == set(theirs)
    assert [set(alert) for alert in ours["alerts"]][:1] == [set(alert) for alert in theirs["alerts"]][:1]
    same = ("version", "status", "truncatedAlerts", "groupKey", "groupLabels")
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    told = {alert["labels"]["tenant_id"]: alert for alert in ours["alerts"]}
    for alert in theirs["alerts"]:
        mine = told[alert["labels"]["tenant_id"]]
        for name in ("status", "labels", "annotations", "endsAt", "generatorURL"):
            assert mine[name] == alert[name]
        # Alertmanager leaves out zeroes at the end of a second's fraction.
        assert datetime.fromisoformat(mine["startsAt"]) == datetime.fromisoformat(alert["startsAt"])


def test_hostile_text_does_not_stop_an_alert(alertmanager: str, proxy: Receiver, receiver: Receiver) -> None:
    """Alertmanager takes what we make of it."""
    evil = "x\n\r\x1b[31m\u202e\ud800\0" + "é" * 1000
    courier = Courier("alertmanager", Alertmanager(lambda: ADMIN_URL), Endpoint(f"{proxy.url}/api/v2/alerts"))
    labels = {**firing().labels, "tenant_id": evil, "instance": ""}
    courier.submit(firing(labels=labels, annotations={"summary": evil}, starts_at=datetime.now(UTC)))
    courier.step(0.0)
    (notified,) = receiver.wait_for(1)
    assert notified.document["alerts"][0]["labels"]["tenant_id"].startswith("x\\n\\r\\x1b[31m")
    assert courier.outbox.counts() == (1, 1, {}, 0)
