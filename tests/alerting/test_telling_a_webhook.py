"""What a webhook's receiver is sent, and when: at once, then gathered, signed. Time is the test's."""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alert_receiver import ADMIN_URL, Receiver, answer, firing, resolved, unhurried
from hypothesis import given
from hypothesis import strategies as st

from sidecar.alerts.courier import BACKOFF, Courier
from sidecar.alerts.post import Endpoint
from sidecar.alerts.signature import HEADER, read_secret, sign
from sidecar.alerts.webhook import MAX_ALERTS, Webhook

INTERVAL = 30.0


def telling(receiver: Receiver, **more: Any) -> Courier:
    route = Webhook(lambda: ADMIN_URL, interval=INTERVAL)
    endpoint, backoff = Endpoint(f"{receiver.url}/hooks/s3cr3t?x=1"), replace(BACKOFF, chance=lambda: 0.0)
    return Courier("webhook", route, endpoint, backoff=backoff, clock=lambda: 0.0, **more)


def settle(courier: Courier, now: float) -> float:
    """Everything that is due; when to look again."""
    while (wake := courier.step(now)) == now:
        pass
    return wake


def told(receiver: Receiver) -> list[list[tuple[str, str]]]:
    """Per message: (tenant, status) of its alerts."""
    return [
        [(alert["labels"]["tenant_id"], alert["status"]) for alert in request.document["alerts"]]
        for request in receiver.requests
    ]


def test_a_message_has_the_shape_of_alertmanagers_own(receiver: Receiver) -> None:
    """Version 4, every field; the running Alertmanager agrees (test_real_alertmanager)."""
    courier = telling(receiver)
    courier.submit(firing())
    courier.step(0.0)
    (request,) = receiver.requests
    assert request.path == "/hooks/s3cr3t?x=1"
    assert request.headers["Content-Type"] == "application/json"
    labels = {
        "severity": "warning", "alertname": "EventLoopStalled", "tenant_id": "acme", "service_name": "billing",
        "instance": "i-1",
    }  # fmt: skip
    annotations = {"summary": "acme holds it", "stack": "a.py:1 f\nb.py:2 g", "duration_ms": "100"}
    assert request.document == {
        "version": "4",
        "groupKey": '{}:{alertname="EventLoopStalled", service_name="billing"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "tenantscope",
        "groupLabels": {"alertname": "EventLoopStalled", "service_name": "billing"},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": ADMIN_URL,
        "alerts": [
            {
                "status": "firing",
                "labels": labels,
                "annotations": annotations,
                "startsAt": "2030-01-02T03:04:05.678Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": f"{ADMIN_URL}/status",
                "fingerprint": firing().fingerprint,
            }
        ],
    }


def test_the_first_of_a_group_goes_at_once_the_rest_is_gathered(receiver: Receiver) -> None:
    """The next message lists all that fires and what ended since; a group that is all over is forgotten."""
    courier = telling(receiver)
    courier.submit(firing("acme"))
    settle(courier, 0.0)
    courier.submit(firing("globex"))
    courier.submit(firing("initech"))
    courier.submit(resolved("initech"))
    assert settle(courier, 1.0) == INTERVAL
    assert settle(courier, INTERVAL) == math.inf
    courier.submit(resolved("acme"))
    courier.submit(resolved("globex"))
    settle(courier, 2 * INTERVAL)
    assert told(receiver) == [
        [("acme", "firing")],
        [("globex", "firing"), ("initech", "resolved"), ("acme", "firing")],
        [("acme", "resolved"), ("globex", "resolved")],
    ]
    assert [request.document["status"] for request in receiver.requests] == ["firing", "firing", "resolved"]
    assert set(receiver.requests[1].document["commonLabels"]) == {"alertname", "service_name", "instance", "severity"}
    courier.submit(firing("acme"))
    settle(courier, 2 * INTERVAL + 1)
    assert told(receiver)[3:] == [[("acme", "firing")]]


def test_groups_do_not_wait_for_each_other(receiver: Receiver) -> None:
    """One service's message is no reason to gather another's."""
    courier = telling(receiver)
    courier.submit(firing("acme", "billing"))
    settle(courier, 0.0)
    courier.submit(firing("acme", "support"))
    settle(courier, 1.0)
    assert [request.document["groupLabels"]["service_name"] for request in receiver.requests] == ["billing", "support"]


def test_nothing_is_repeated(receiver: Receiver) -> None:
    """An alert that goes on firing, again and for hours, is told once."""
    courier = telling(receiver)
    courier.submit(firing())
    settle(courier, 0.0)
    courier.submit(firing())
    assert settle(courier, 3600.0) == math.inf
    assert len(receiver.requests) == 1


def test_a_message_that_the_receiver_could_not_take_is_tried_again(receiver: Receiver) -> None:
    """Later and later, without another alert being lost; then with what is true by then."""
    receiver.answers.extend([answer(500)] * 3)
    courier = telling(receiver)
    courier.submit(firing())
    assert courier.step(0.0) == 0.25
    assert courier.step(0.1) == 0.25
    assert courier.step(0.25) == 0.75
    courier.submit(resolved())
    assert courier.step(0.75) == 1.75
    assert courier.step(1.75) == 1.75
    assert told(receiver) == [[("acme", "firing")]] * 2 + [[("acme", "resolved")]] * 2
    assert receiver.requests[-1].document["alerts"][0]["annotations"]["suppressed_changes"] == "1"
    assert courier.failures() == {"status_5xx": 3}
    assert courier.outbox.counts() == (2, 2, {}, 0)


def test_a_group_that_the_receiver_chokes_on_delays_no_other(receiver: Receiver) -> None:
    """The next attempt is another group's."""
    receiver.answers.append(answer(500))
    courier = telling(receiver)
    courier.submit(firing(service="poison"))
    courier.submit(firing(service="billing"))
    courier.step(0.0)
    courier.step(1.0)
    services = [request.document["groupLabels"]["service_name"] for request in receiver.requests]
    assert services == ["poison", "billing"]


def test_a_large_group_is_cut_and_the_rest_comes_with_the_next_message(receiver: Receiver) -> None:
    """`truncatedAlerts` says how many are missing."""
    courier = telling(receiver)
    for number in range(MAX_ALERTS + 3):
        courier.submit(firing(f"t{number}"))
    settle(courier, 0.0)
    settle(courier, INTERVAL)
    assert [request.document["truncatedAlerts"] for request in receiver.requests] == [3, 3]
    tenants = {tenant for message in told(receiver) for tenant, _ in message}
    assert len(tenants) == MAX_ALERTS + 3


def test_a_flood_of_one_tenant_holds_back_that_tenant_alone(receiver: Receiver) -> None:
    """Its changes wait for its allowance; the group's message goes out with the others."""
    courier = telling(receiver)
    for number in range(12):
        courier.submit(firing("flood", instance=f"i-{number}"))
    courier.submit(firing("acme"))
    settle(courier, 0.0)
    assert sorted(told(receiver)[0]) == sorted([("flood", "firing")] * 10 + [("acme", "firing")])
    settle(courier, INTERVAL)
    assert len(told(receiver)[1]) == 13
    assert courier.outbox.counts() == (13, 13, {}, 0)


def test_what_is_held_back_looks_as_it_was_told(receiver: Receiver) -> None:
    """Another tenant's news may go out before it: the end that waits is neither told nor counted as told."""
    courier = telling(receiver)
    for number in range(10):
        courier.submit(firing("flood", instance=f"i-{number}"))
    settle(courier, 0.0)
    for number in range(10):
        courier.submit(resolved("flood", instance=f"i-{number}"))
    courier.submit(firing("acme"))
    settle(courier, INTERVAL)
    assert sorted(told(receiver)[1]) == sorted(
        [("acme", "firing")] + [("flood", "resolved")] * 5 + [("flood", "firing")] * 5
    )
    assert courier.outbox.counts() == (21, 16, {}, 5)
    settle(courier, 2 * INTERVAL)
    assert sorted(told(receiver)[2]) == sorted([("acme", "firing")] + [("flood", "resolved")] * 5)
    assert courier.outbox.counts() == (21, 21, {}, 0)


@unhurried
@given(body=st.binary(), secret=st.binary(min_size=16), seconds=st.integers(0, 2**40))
def test_a_signature_is_what_the_documents_say(body: bytes, secret: bytes, seconds: int) -> None:
    """HMAC-SHA256 of time, a point, and the body."""
    expected = hmac.new(secret, str(seconds).encode() + b"." + body, hashlib.sha256).hexdigest()
    assert sign(secret, body, seconds) == f"t={seconds},v1={expected}"
    assert sign(secret, body + b"x", seconds) != sign(secret, body, seconds) != sign(secret, body, seconds + 1)


def test_the_body_that_arrives_is_the_one_that_was_signed(receiver: Receiver) -> None:
    """Anew for each attempt: a receiver refuses an old time."""
    secret, times = b"0123456789abcdef", iter([1000, 2000])
    receiver.answers.append(answer(503))
    courier = telling(receiver, headers=lambda body: {HEADER: sign(secret, body, next(times))})
    courier.submit(firing("tenänt"))
    courier.step(0.0)
    courier.step(1.0)
    for request, seconds in zip(receiver.requests, (1000, 2000), strict=True):
        assert request.headers[HEADER] == sign(secret, request.body, seconds)


def test_the_check_that_the_document_shows_works(receiver: Receiver) -> None:
    """It takes what arrives, and refuses another body, another secret, another time and an old message."""
    text = (Path(__file__).parents[2] / "docs/decisions/0006-alert-delivery.md").read_text()
    names: dict[str, Any] = {"hmac": hmac, "hashlib": hashlib}
    exec(text.partition("```python\n")[2].partition("```")[0], names)
    is_genuine = names["is_genuine"]
    secret = b"0123456789abcdef"
    courier = telling(receiver, headers=lambda body: {HEADER: sign(secret, body, 1000)})
    courier.submit(firing())
    courier.step(0.0)
    (request,) = receiver.requests
    header = request.headers[HEADER]
    assert is_genuine(secret, header, request.body, 1300.0)
    assert not is_genuine(secret, header, request.body + b" ", 1000.0)
    assert not is_genuine(secret + b"x", header, request.body, 1000.0)
    assert not is_genuine(secret, header.replace("t=1000", "t=1001"), request.body, 1000.0)
    assert not is_genuine(secret, header, request.body, 1301.0)


@pytest.mark.parametrize(
    ("content", "mode", "complaint"),
    [
        (b"0123456789abcde\n", 0o600, "must hold 16 to 4096 bytes"),
        (b"", 0o600, "must hold"),
        (b"x" * 5000, 0o600, "must hold"),
        (b"0123456789abcdef", 0o604, "can be read by everybody"),
        (b"0123456789abcdef", 0o602, "can be read by everybody"),
    ],
)
def test_a_secret_that_is_none_is_refused(tmp_path: Path, content: bytes, mode: int, complaint: str) -> None:
    """Short, empty, endless, or open to everybody; the complaint has nothing of it."""
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(ValueError, match=complaint) as refused:
        read_secret(file)
    assert "0123" not in str(refused.value)


def test_a_secret_is_the_files_content_without_its_line_break(tmp_path: Path) -> None:
    """A group may read it, as with secrets that are mounted; a folder is none."""
    file = tmp_path / "secret"
    file.write_bytes(b"  0123456789abcdef\r\n")
    file.chmod(0o640)
    assert read_secret(file) == b"  0123456789abcdef"
    with pytest.raises(ValueError, match="cannot be read"):
        read_secret(tmp_path)
