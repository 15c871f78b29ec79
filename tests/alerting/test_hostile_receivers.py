"""Whatever a receiver answers: a word for the metric, a bounded wait, and the poller notices nothing."""

from __future__ import annotations

import math
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alert_receiver import ADMIN_URL, PATIENCE, Answer, Receiver, answer, firing, raw, resolved, running_receiver
from structlog.testing import capture_logs

from sidecar.alerts.alertmanager import Alertmanager
from sidecar.alerts.courier import Courier, Message
from sidecar.alerts.outbox import Outbox
from sidecar.alerts.post import Endpoint, UndeliveredError
from sidecar.alerts.webhook import Webhook

PATH = "/hook/s3cr3t"


def outcome(url: str, seconds: float = PATIENCE) -> tuple[str, bool, float | None] | None:
    """What a POST came to; None means taken."""
    try:
        Endpoint(url + PATH, seconds).post(b"{}", {})
    except UndeliveredError as error:
        return error.reason, error.final, error.after
    return None


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(200), None),
        (answer(204), None),
        (answer(200, b"x" * 10_000_000), None),
        (raw(HEAD + b"Content-Length: 1000\r\n\r\nhalf"), None),
        (raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzzz\r\n"), None),
        (answer(301, Location="http://127.0.0.1:1/"), ("status_3xx", True, None)),
        (answer(400), ("status_4xx", True, None)),
        (answer(408), ("status_4xx", False, None)),
        (answer(429, Retry_After="7"), ("status_429", False, 7.0)),
        (answer(429, Retry_After="99999999999999999999"), ("status_429", False, 300.0)),
        (answer(429, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT"), ("status_429", False, None)),
        (answer(429, Retry_After="-1"), ("status_429", False, None)),
        (raw(b"HTTP/1.1 503 -\r\nRetry-After: \xb2\r\n\r\n"), ("status_5xx", False, None)),
        (raw(HEAD[:9]), ("protocol", False, None)),
        (raw(b""), ("protocol", False, None)),
        (raw(b"SSH-2.0-x\r\n"), ("protocol", False, None)),
        (raw(HEAD + b"A: b\r\n" * 200 + b"\r\n"), ("protocol", False, None)),
        (raw(HEAD + b"A: " + b"b" * 100_000 + b"\r\n\r\n"), ("protocol", False, None)),
        (raw(b"HTTP/1.1 999 ?\r\n\r\n"), ("status_9xx", True, None)),
    ],
)
def test_every_answer_has_one_meaning(
    receiver: Receiver, given: Answer, expected: tuple[str, bool, float | None] | None
) -> None:
    """Taken, later, or no; the body of an answer is of no interest, however long or broken."""
    receiver.answers.append(given)
    assert outcome(receiver.url) == expected
    assert len(receiver.requests) == 1


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    """The address is the operator's choice: a receiver must not send the sidecar elsewhere."""
    with running_receiver() as elsewhere:
        receiver.always = answer(307, Location=elsewhere.url + "/")
        assert outcome(receiver.url) == ("status_3xx", True, None)
        assert elsewhere.requests == []


def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor could a variable send the alerts elsewhere."""
    with running_receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert outcome(receiver.url) is None
        assert proxy.requests == []


def test_a_receiver_that_hangs_is_left(receiver: Receiver) -> None:
    """After the deadline, as a timeout."""
    receiver.always = receiver.hang
    assert outcome(receiver.url, seconds=0.2) == ("timeout", False, None)


@pytest.fixture
def dripping() -> Iterator[str]:
    """A server that sends one byte of a header after another, for as long as anybody listens."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.sendall(HEAD + b"X: ")
                while not done.wait(0.005):
                    connection.sendall(b"x")
            except OSError:
                pass

    thread = threading.Thread(target=drip)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    done.set()
    thread.join()
    listener.close()


def test_a_receiver_that_drips_is_left(dripping: str) -> None:
    """One deadline for the whole answer: a byte now and then does not extend it."""
    assert outcome(dripping, seconds=0.3) == ("timeout", False, None)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nobody.invalid", f"http://{'a' * 70}.x"])
def test_nobody_there(url: str) -> None:
    """A closed port, an unknown name, a name that is none."""
    assert outcome(url) == ("unreachable", False, None)


def test_tls_with_a_stranger_is_refused(tmp_path: Path) -> None:
    """A certificate that nobody vouches for: the alert does not leave."""
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    got.append(secure.recv(10))
            except OSError:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        assert outcome(f"https://127.0.0.1:{listener.getsockname()[1]}") == ("tls", False, None)
        thread.join()
    assert b"".join(got) == b""


def test_a_wish_for_patience_is_granted(receiver: Receiver) -> None:
    """429 with Retry-After: not a message before that, and the log has no secret of the URL."""
    receiver.answers.append(answer(429, Retry_After="40"))
    courier = Courier("webhook", Webhook(lambda: ADMIN_URL), Endpoint(receiver.url + PATH), clock=lambda: 0.0)
    courier.submit(firing())
    with capture_logs() as lines:
        assert courier.step(0.0) == 40.0
        courier.submit(resolved())
        assert courier.step(39.9) == 40.0
        assert courier.step(40.0) == 40.0
    assert [line["event"] for line in lines] == ["receiver cannot take alerts, retrying", "receiver answers again"]
    assert "s3cr3t" not in str(lines)


def test_a_no_is_counted_and_not_repeated(receiver: Receiver) -> None:
    """Of these changes nobody was told: they are dropped, with a line in the log for the first of a row."""
    receiver.always = answer(401)
    courier = Courier("webhook", Webhook(lambda: ADMIN_URL), Endpoint(receiver.url + PATH))
    with capture_logs() as lines:
        for number in range(3):
            courier.submit(firing(service=f"s{number}"))
            courier.step(float(number))
    assert courier.outbox.counts() == (3, 0, {"refused": 3}, 0)
    assert [line["event"] for line in lines] == ["receiver refuses alerts"]
    assert courier.step(1e6) == math.inf


def test_the_poller_waits_for_no_receiver(receiver: Receiver) -> None:
    """A thousand changes are taken while the receiver hangs; when it answers, it hears what is true."""
    receiver.answers.append(receiver.hang)
    courier = Courier("alertmanager", Alertmanager(lambda: ADMIN_URL), Endpoint(receiver.url + PATH))
    courier.start()
    try:
        courier.submit(firing())
        receiver.wait_for(1)
        for number in range(999):
            courier.submit(resolved(f"t{number}"))
        assert len(receiver.requests) == 1
        receiver.released.set()
        receiver.wait_until(lambda: sum(len(request.document) for request in receiver.requests) >= 1 + 2 * 999)
    finally:
        courier.stop(PATIENCE)
    assert courier.outbox.counts() == (1000, 1000, {}, 0)


class Faulty:
    """A route with a fault of our own."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def next(self, outbox: Outbox, now: float) -> Message | float:
        self.asked.set()
        raise RuntimeError("of this route")

    def sent(self, message: Message, now: float) -> None:
        raise AssertionError


def test_a_fault_of_ours_ends_no_courier(receiver: Receiver) -> None:
    """It is counted, with its type in the log, and tried again later."""
    route = Faulty()
    courier = Courier("webhook", route, Endpoint(receiver.url))
    with capture_logs() as lines:
        courier.start()
        assert route.asked.wait(PATIENCE)
        courier.submit(firing())
        courier.stop(PATIENCE)
    assert courier.failures()["fault"] >= 1
    assert not courier._thread.is_alive()
    assert "RuntimeError" in str(lines)
    assert "of this route" not in str(lines)
