"""A restart of the sidecar neither repeats an alert nor forgets that somebody was told of it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from alert_receiver import ADMIN_URL, BEGAN, Receiver, answer, firing, resolved, unhurried
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sidecar.alerts import Alert
from sidecar.alerts.alertmanager import Alertmanager
from sidecar.alerts.courier import GRACE_SECONDS, Courier
from sidecar.alerts.outbox import Item
from sidecar.alerts.post import Endpoint
from sidecar.alerts.state_file import StateFile, decode, encode
from sidecar.alerts.webhook import GROUP_SECONDS, Webhook

RESTARTED = BEGAN + timedelta(hours=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "webhook.json"


@pytest.fixture
def begin(receiver: Receiver, file: Path) -> Callable[[], Courier]:
    """A courier as a sidecar has it after its start; the one before is simply gone, as after SIGKILL."""

    def courier() -> Courier:
        made = Courier(
            "webhook",
            Webhook(lambda: ADMIN_URL),
            Endpoint(receiver.url),
            state=StateFile(file),
            clock=lambda: 0.0,
            wall=lambda: RESTARTED,
        )
        made.restore()
        return made

    return courier


def settle(courier: Courier, now: float) -> float:
    while (wake := courier.step(now)) == now:
        pass
    return wake


def told(receiver: Receiver) -> list[tuple[str, str]]:
    return [
        (alert["labels"]["tenant_id"], alert["status"])
        for request in receiver.requests
        for alert in request.document["alerts"]
    ]


def test_what_fired_before_and_is_gone_is_resolved(begin: Callable[[], Courier], receiver: Receiver) -> None:
    """After a grace in which its loop may report it again; said once, with the reason."""
    before = begin()
    before.submit(firing())
    settle(before, 0.0)
    after = begin()
    assert settle(after, 0.0) == GRACE_SECONDS
    assert settle(after, GRACE_SECONDS + GROUP_SECONDS) == float("inf")
    assert told(receiver) == [("acme", "firing"), ("acme", "resolved")]
    (alert,) = receiver.requests[1].document["alerts"]
    assert (alert["startsAt"], alert["endsAt"]) == ("2030-01-02T03:04:05.678Z", "2030-01-02T04:04:05.678Z")
    assert alert["annotations"]["summary"].endswith("when the sidecar was restarted, and nobody has reported it since.")
    assert after.outbox.counts() == (1, 1, {}, 0)
    assert settle(begin(), 1e6) == float("inf")
    assert len(receiver.requests) == 2


def test_what_still_fires_is_not_told_again(begin: Callable[[], Courier], receiver: Receiver) -> None:
    """The loop reports its stall to the new sidecar, which can't know its start to the microsecond: the same alert."""
    before = begin()
    before.submit(firing())
    settle(before, 0.0)
    after = begin()
    after.submit(firing(starts_at=BEGAN + timedelta(microseconds=900)))
    assert settle(after, 10 * GRACE_SECONDS) == float("inf")
    assert told(receiver) == [("acme", "firing")]
    after.submit(resolved(starts_at=BEGAN + timedelta(microseconds=900)))
    settle(after, 20 * GRACE_SECONDS)
    assert told(receiver) == [("acme", "firing"), ("acme", "resolved")]


def test_what_nobody_was_told_is_told_after_the_restart(begin: Callable[[], Courier], receiver: Receiver) -> None:
    """The receiver was away when the sidecar ended; the resolution that it missed is not lost."""
    before = begin()
    before.submit(firing())
    settle(before, 0.0)
    receiver.answers.append(answer(503))
    before.submit(resolved())
    settle(before, GROUP_SECONDS)
    after = begin()
    settle(after, GROUP_SECONDS)
    settle(after, 2 * GROUP_SECONDS)
    assert told(receiver) == [("acme", "firing"), ("acme", "resolved"), ("acme", "resolved")]
    taken, settled, dropped, waiting = after.outbox.counts()
    assert (taken, settled, dropped, waiting) == (1, 1, {}, 0)


def test_the_state_is_written_before_the_message_goes_out(
    begin: Callable[[], Courier], receiver: Receiver, file: Path
) -> None:
    """So a sidecar that dies at any moment knows afterwards what it may have told."""
    seen: list[Item] = []

    def look(handler: Any) -> None:
        seen.extend(decode(file.read_bytes()))
        answer()(handler)

    receiver.always = look
    courier = begin()
    courier.submit(firing())
    settle(courier, 0.0)
    assert [(item.alert.status, item.told) for item in seen] == [("firing", "")]
    assert [item.told for item in decode(file.read_bytes())] == ["firing"]


def test_a_restart_with_many_alerts_is_no_storm(begin: Callable[[], Courier], receiver: Receiver) -> None:
    """Fifty firing alerts: nothing at the start, and one group's messages when they are over."""
    before = begin()
    for number in range(50):
        before.submit(firing(f"t{number}"))
    settle(before, 0.0)
    sent = len(receiver.requests)
    for _ in range(20):
        settle(begin(), 0.0)
    assert len(receiver.requests) == sent
    last = begin()
    settle(last, 0.0)
    settle(last, GRACE_SECONDS + GROUP_SECONDS)
    assert len(receiver.requests) == sent + 1
    assert len(receiver.requests[-1].document["alerts"]) == 50


def test_a_group_goes_on_after_a_restart(begin: Callable[[], Courier], receiver: Receiver) -> None:
    """What is new in it is gathered, not sent at once: a sidecar that restarts again and again rings no bell."""
    before = begin()
    before.submit(firing("acme"))
    settle(before, 0.0)
    after = begin()
    settle(after, 0.0)
    after.submit(firing("globex"))
    assert settle(after, 1.0) == GROUP_SECONDS
    assert settle(after, GROUP_SECONDS - 0.1) == GROUP_SECONDS
    assert len(receiver.requests) == 1


def test_an_alertmanager_hears_of_it_at_once_lest_it_lapses(receiver: Receiver, file: Path) -> None:
    """A repetition is no notification: Alertmanager knows it by its labels."""

    def begin() -> Courier:
        made = Courier(
            "alertmanager", Alertmanager(lambda: ADMIN_URL, wall=lambda: RESTARTED), Endpoint(receiver.url),
            state=StateFile(file), clock=lambda: 0.0, wall=lambda: RESTARTED,
        )  # fmt: skip
        made.restore()
        return made

    before = begin()
    before.submit(firing())
    settle(before, 0.0)
    after = begin()
    settle(after, 0.0)
    settle(after, GRACE_SECONDS)
    first, again, over = (request.document[0] for request in receiver.requests)
    assert first["labels"] == again["labels"] == over["labels"]
    assert (again["startsAt"], over["endsAt"]) == (first["startsAt"], "2030-01-02T04:04:05.678Z")


texts = st.dictionaries(st.text(max_size=10), st.text(st.characters(), max_size=20), max_size=4)
moments = st.datetimes(timezones=st.just(UTC))


@st.composite
def items(draw: st.DrawFn) -> Item:
    labels = draw(texts)
    firing = Alert("EventLoopStalled", "firing", labels, draw(texts), draw(moments))
    over = Alert("EventLoopStalled", "resolved", labels, draw(texts), draw(moments), draw(moments))
    resolved = draw(st.booleans())
    told: Any = draw(st.sampled_from(["", "firing", "resolved"]))
    return Item(firing, over if resolved else None, told, draw(st.integers(0, 99)), inherited=not resolved)


@unhurried
@given(st.lists(items(), max_size=5))
def test_what_is_written_is_read(written: list[Item]) -> None:
    """Any text, lone surrogates included; what fires is inherited."""
    assert decode(encode(written)) == written


@unhurried
@given(st.binary(max_size=200))
def test_garbage_is_refused_in_one_way(content: bytes) -> None:
    """Whatever is in the file."""
    with pytest.raises(ValueError):  # noqa: PT011  # whatever json or we have to say of it
        decode(content)


VALID = json.loads(encode([Item(firing(), None, "firing", 1), Item(firing("globex"), resolved("globex"), "", 2)]))
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@unhurried
@given(st.data())
def test_a_file_with_something_else_in_one_place_is_refused_or_harmless(data: st.DataObject) -> None:
    """A ValueError or items that can be written again; nothing in between."""
    document = json.loads(json.dumps(VALID))
    place: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    if data.draw(st.booleans()) or isinstance(place, list):
        place[key] = data.draw(junk)
    else:
        del place[key]
    try:
        read = decode(json.dumps(document).encode())
    except ValueError:
        return
    assert decode(encode(read)) == read


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"version": 2, "items": []}', b"\xff\xfe", b"[]"])
def test_a_file_that_is_none_of_ours_costs_its_memory_alone(
    begin: Callable[[], Courier], receiver: Receiver, file: Path, content: bytes
) -> None:
    """One line in the log; the next change replaces it."""
    file.write_bytes(content)
    with capture_logs() as lines:
        courier = begin()
    assert [line["event"] for line in lines] == ["state of alerts not readable; starting without"]
    courier.submit(firing())
    settle(courier, 0.0)
    assert told(receiver) == [("acme", "firing")]
    assert len(decode(file.read_bytes())) == 1


def test_the_file_is_ours_alone(begin: Callable[[], Courier], file: Path) -> None:
    """0600 whatever the umask, replaced as a whole, with nothing left beside it; also after a crash in the middle."""
    file.with_suffix(".new").write_text("half")
    before = os.umask(0)
    try:
        courier = begin()
        courier.submit(firing())
        settle(courier, 0.0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_file_is_not_read(begin: Callable[[], Courier], file: Path, kind: str) -> None:
    """A link could point at another's file, a FIFO would wait for its writer."""
    if kind == "link":
        other = file.with_name("other")
        other.write_bytes(encode([Item(firing(), None, "firing", 1)]))
        file.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(file)
    else:
        file.mkdir()
    with capture_logs() as lines:
        assert begin().outbox.items() == []
    assert len(lines) == 1


def test_a_disk_that_refuses_delays_no_alert(begin: Callable[[], Courier], receiver: Receiver, file: Path) -> None:
    """It is counted, and said once; people are told all the same."""
    courier = begin()
    file.mkdir()  # nothing can replace it
    with capture_logs() as lines:
        courier.submit(firing())
        settle(courier, 0.0)
    assert told(receiver) == [("acme", "firing")]
    assert courier.failures() == {"state_file": 2}
    assert [line["event"] for line in lines] == ["state of alerts not written"]
