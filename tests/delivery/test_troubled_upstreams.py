"""Upstreams in trouble, over real sockets: half open, reset, silent, expired, too talkative. Nothing is lost."""

from __future__ import annotations

import contextlib
import datetime
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from otlp_peers import PATIENCE, Upstream, refuse, running_upstream, trace_request

from sidecar.delivery import Batch, Credentials, RetryLater, UpstreamOtlp, upstream
from sidecar.network.address import upstream as parse_upstream

BATCH = Batch("traces", trace_request(3), 3)


class Line:
    """A TCP connection between the sidecar and an upstream that can be cut, or fall silent without being cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []
        self.connections = 0
        self.silent: set[int] = set()  # connections by number, from 1 on
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                with self._changed:
                    self.connections += 1
                    number = self.connections
                    self._sockets += [near, far]
                    self._changed.notify_all()
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(source, sink, number), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if number not in self.silent:
                    sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RD)  # its own thread ends, too
        source.close()

    def wait_for(self, connections: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.connections >= connections, PATIENCE), "no new connection"

    def reset(self) -> None:
        """What a crash of the machine in between looks like: RST, in both directions."""
        with self._changed:
            self.silent.update(range(1, self.connections + 1))  # nothing gets through any more
            for each in self._sockets:
                with contextlib.suppress(OSError):  # it is closed already
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    each.shutdown(socket.SHUT_RD)
            self._sockets.clear()

    def close(self) -> None:
        self._listening.close()
        self.reset()


@contextmanager
def line_to(peer: Upstream) -> Iterator[Line]:
    line = Line(peer.port)
    try:
        yield line
    finally:
        line.close()


@contextmanager
def sender(url: str, credentials: Credentials | None = None, deadline: float = PATIENCE) -> Iterator[UpstreamOtlp]:
    destination = UpstreamOtlp(parse_upstream(url), credentials, deadline=deadline)
    try:
        yield destination
    finally:
        destination.close()


def until_taken(destination: UpstreamOtlp) -> int:
    """How many attempts it took."""
    for attempt in range(1, 100):
        with contextlib.suppress(RetryLater):
            destination.deliver(BATCH)
            return attempt
    raise AssertionError("never taken")


def test_a_half_open_connection_is_found_by_keepalive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes go nowhere and nobody says so: the ping finds out, and the next attempt has a connection of its own."""
    assert upstream.KEEPALIVE_MS * 2 <= 30_000  # a ping, and the wait for its answer
    quick = tuple((key, 200 if "keepalive" in key or "ping" in key else value) for key, value in upstream._OPTIONS)
    monkeypatch.setattr(upstream, "_OPTIONS", quick)
    with running_upstream() as peer, line_to(peer) as line, sender(line.url) as destination:
        destination.deliver(BATCH)
        line.silent.add(1)
        with pytest.raises(RetryLater, match="upstream_unavailable"):  # and not the deadline, which is far away
            destination.deliver(BATCH)
        assert until_taken(destination) >= 1
        line.wait_for(2)
        assert len(peer.taken) == 2


def test_a_reset_in_the_middle_of_a_call_is_tried_again_under_the_same_name() -> None:
    """The upstream may have taken it: the batch's id tells."""
    with running_upstream() as peer, line_to(peer) as line, sender(line.url) as destination:

        def reset(context: grpc.ServicerContext) -> bytes:
            line.reset()
            return b""

        peer.answers.append(reset)
        named = Batch("traces", BATCH.payload, 3, "same-name")
        with pytest.raises(RetryLater, match="upstream_unavailable"):
            destination.deliver(named)
        for _ in range(100):
            with contextlib.suppress(RetryLater):
                destination.deliver(named)
                break
        assert [sent["tenantscope-batch-id"] for sent in peer.metadata] == ["same-name"] * 2


def test_an_answer_that_is_too_large_is_no_refusal() -> None:
    """gRPC has one status for that and for a request that is too large: only the latter would be halved."""
    with running_upstream() as peer, sender(peer.url) as destination:
        peer.answers.append(lambda context: bytes(2 * 1024 * 1024))
        with pytest.raises(RetryLater, match="upstream_oversized_reply"):
            destination.deliver(BATCH)
        assert destination.deliver(BATCH) == 0


def test_an_upstream_that_is_slow_and_answers_is_waited_for() -> None:
    """Slow is not dead, as long as it is within the deadline; beyond it, the attempt is given up."""
    release = threading.Event()
    with running_upstream() as peer, sender(peer.url, deadline=0.2) as hasty, sender(peer.url) as patient:
        peer.answers.append(lambda context: b"" * release.wait(PATIENCE))
        with pytest.raises(RetryLater, match="upstream_deadline_exceeded"):
            hasty.deliver(BATCH)
        peer.answers.append(lambda context: b"" * release.wait(0.5))
        assert patient.deliver(BATCH) == 0
        release.set()


@pytest.mark.parametrize("where", ["details", "trailer", "both", "nonsense"])
def test_retry_info_is_read_from_either_trailer(where: str) -> None:
    """OTLP's own place, and the one that Python's exporter reads; nonsense is no wish."""
    info = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=3, nanos=500_000_000))

    def answer(context: grpc.ServicerContext) -> bytes:
        if where == "details":
            return refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, 3.5)(context)
        trailers = [("google.rpc.retryinfo-bin", info.SerializeToString())] if where != "nonsense" else []
        if where == "both":
            trailers.append(("grpc-status-details-bin", b"\xff\xff"))
        if where == "nonsense":
            trailers = [("google.rpc.retryinfo-bin", b"\xff\xff"), ("grpc-status-details-bin", b"\xff\xff")]
        context.set_trailing_metadata(trailers)
        context.abort(grpc.StatusCode.UNAVAILABLE, "later")
        raise AssertionError

    with running_upstream() as peer, sender(peer.url) as destination:
        peer.answers.append(answer)
        with pytest.raises(RetryLater) as later:
            destination.deliver(BATCH)
    assert later.value.after == (None if where == "nonsense" else 3.5)


def test_an_expired_certificate_is_never_spoken_to(tmp_path: Path) -> None:
    """Neither in the clear nor otherwise; a new one, and everything goes on."""
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)

    def credentials(not_after: datetime.datetime | None) -> grpc.ServerCredentials:
        leaf = authority.issue_cert("localhost", not_after=not_after)
        return grpc.ssl_server_credentials([(leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes())])

    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    with running_upstream("localhost:0", credentials(past)) as peer:
        with sender(peer.url, Credentials(ca=ca), deadline=2.0) as destination, pytest.raises(RetryLater):
            destination.deliver(BATCH)
        assert peer.requests == []
    with running_upstream("localhost:0", credentials(None)) as peer, sender(peer.url, Credentials(ca=ca)) as renewed:
        assert renewed.deliver(BATCH) == 0
