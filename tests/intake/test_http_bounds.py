"""What a client cannot do to the HTTP listener: bodies, heads, connections and time are bounded."""

from __future__ import annotations

import errno
import gzip
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import zstandard
from http_listener import HEAD, QUICK, NextStage, Served, connected, serving, until_the_end
from hypothesis import given, settings
from hypothesis import strategies as st
from otlp_peers import PATIENCE

from sidecar.conventions import Signal
from sidecar.intake import Admission, Hand, HttpIntake, Malformed
from sidecar.intake.bodies import inflated
from sidecar.intake.turns import Turn, Turns
from sidecar.intake.verdicts import Refusal
from sidecar.ledger import Ledger
from sidecar.network.address import listener
from sidecar.network.otlp import MAX_REQUEST_BYTES
from sidecar.senders.clients import Client, Clients


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


def test_a_request_over_the_limit_is_refused_before_the_next_stage(served: Served) -> None:
    """4 MiB: announced, in chunks, or blown up from a few kilobytes."""
    too_large = bytes(MAX_REQUEST_BYTES + 1)
    assert served.post(body=too_large)[0] == 413
    assert served.post(body=gzip.compress(too_large), headers={"Content-Encoding": "gzip"})[0] == 413
    assert served.post(body=zstandard.compress(too_large), headers={"Content-Encoding": "zstd"})[0] == 413
    with connected(served) as connection:
        head = b"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\n"
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        answer = b""
        chunk = b"40000\r\n" + bytes(0x40000) + b"\r\n"
        try:
            for _ in range(20):
                connection.sendall(chunk)
        except ConnectionError:
            pass
        answer = until_the_end(connection)
        assert not answer or b" 413 " in answer
    assert served.stage.taken == []
    assert served.answered == {("traces", "resource_exhausted"): 4}
    assert served.post(body=bytes(MAX_REQUEST_BYTES))[0] == 200


def test_a_bomb_costs_no_memory() -> None:
    """Half a gigabyte from half a megabyte, gzip and zstd, a window of gigabytes: at most 32 MB more, in a process."""
    code = """if True:
        import gzip, resource, zlib, zstandard
        from sidecar.intake.admission import Malformed
        from sidecar.intake.bodies import inflated
        from sidecar.intake.verdicts import Refusal
        packing, packed = zlib.compressobj(9, wbits=31), []
        for _ in range(512):
            packed.append(packing.compress(bytes(1 << 20)))
        bombs = [("gzip", b"".join(packed) + packing.flush())]
        small = zstandard.ZstdCompressor(level=3).compressobj()
        bombs.append(("zstd", b"".join(small.compress(bytes(1 << 20)) for _ in range(512)) + small.flush()))
        # a frame with a window of 2 GiB, and one raw block
        bombs.append(("zstd", bytes.fromhex("28b52ffd00a8") + b"\\x09\\x00\\x00a"))
        inflated(gzip.compress(bytes(1 << 22)), "gzip"), inflated(zstandard.compress(bytes(1 << 22)), "zstd")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for encoding, bomb in bombs:
            try:
                inflated(bomb, encoding)
            except (Refusal, Malformed) as refused:
                print(type(refused).__name__, end=" ")
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 32 * 1024)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Refusal", "Refusal", "Malformed", "True"]


def test_a_byte_a_chunk_is_too_much_work(served: Served) -> None:
    """Taking them apart would cost more than they hold."""
    with connected(served) as connection:
        head = b"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\n"
        try:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000)
        except ConnectionError:
            return
        answer = until_the_end(connection)
        assert not answer or b" 413 " in answer
    assert served.stage.taken == []


@pytest.mark.parametrize("size", [20_000, 200_000])
def test_a_head_over_the_limit_is_refused(served: Served, size: int) -> None:
    """Headers are bounded."""
    with connected(served) as connection:
        try:
            connection.sendall(b"POST /v1/traces HTTP/1.1\r\nX: " + b"x" * size)
        except ConnectionError:
            return
        answer = until_the_end(connection)
        assert not answer or b" 431 " in answer


@pytest.mark.parametrize("said", [b"", b"POST /v1/traces HT", HEAD[:-2]])
def test_a_head_that_does_not_come_ends_the_connection(said: bytes) -> None:
    """Nothing, a part, all but the end: closed without an answer."""
    with serving(seconds=QUICK) as served, connected(served) as connection:
        connection.sendall(said)
        assert until_the_end(connection) == b""


def test_a_head_that_trickles_in_ends_the_connection() -> None:
    """A byte now and then extends nothing."""
    with serving(seconds=QUICK) as served, connected(served) as connection:
        ended = threading.Event()

        def trickle() -> None:
            for byte in HEAD * 10:
                if ended.wait(0.02):
                    return
                try:
                    connection.sendall(bytes((byte,)))
                except OSError:
                    return

        sender = threading.Thread(target=trickle)
        sender.start()
        assert until_the_end(connection) == b""
        ended.set()
        sender.join()
        assert served.stage.taken == []


def test_a_body_that_does_not_come_is_given_up() -> None:
    """408, counted, closed; also when it trickles."""
    with serving(seconds=QUICK) as served, connected(served) as connection:
        ended = threading.Event()

        def trickle() -> None:
            connection.sendall(HEAD)
            while not ended.wait(0.02):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

        sender = threading.Thread(target=trickle)
        sender.start()
        assert b" 408 " in until_the_end(connection)
        ended.set()
        sender.join()
        assert served.answered == {("traces", "cancelled"): 1}


def test_an_idle_connection_is_closed() -> None:
    """It may be kept for a while after a request, and not for ever."""
    with serving(seconds=QUICK) as served, connected(served) as connection:
        connection.sendall(HEAD + bytes(100))
        assert b" 200 " in connection.recv(65536)
        assert until_the_end(connection) == b""


def test_idle_connections_do_not_keep_others_out() -> None:
    """Far more than there are places: the oldest that says nothing goes, and a request gets through every time."""
    with serving(most=8) as served, ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connected(served))
        for _ in range(5):
            assert served.post()[0] == 200
        assert served.intake.connections <= 8


def test_a_client_that_is_being_served_is_not_cut_off_for_others() -> None:
    """Only who waits without a request makes room."""
    entered, release = threading.Event(), threading.Event()

    def consume(signal: Signal, payload: bytes, client: Client, hand: Hand) -> int:
        entered.set()
        release.wait(PATIENCE)
        return 0

    intake = HttpIntake(listener("127.0.0.1:0"), Admission(Clients(None), consume), Ledger(), most=2)
    intake.start()
    served = Served(intake, NextStage(), Ledger())
    answers: list[int] = []
    sender = threading.Thread(target=lambda: answers.append(served.post()[0]))
    sender.start()
    assert entered.wait(PATIENCE)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connected(served))
        release.set()
        sender.join(PATIENCE)
    intake.stop(0)
    assert answers == [200]


class Line(Turns):
    """Turns that say when somebody stands in line."""

    def __init__(self) -> None:
        super().__init__(places=1)
        self.asked = threading.Event()

    def ask(self, sender: str, cut: Callable[[], object] = lambda: None) -> Turn:
        turn = super().ask(sender, cut)
        if not turn.granted.is_set():
            self.asked.set()
        return turn


def test_a_client_that_waits_for_its_turn_is_not_cut_off_for_others() -> None:
    """It has a request, though nothing of it has been read: connections that say nothing go before it."""
    turns = Line()
    intake = HttpIntake(listener("127.0.0.1:0"), Admission(Clients(None), lambda *_: 0, turns), Ledger(), most=2)
    intake.start()
    served = Served(intake, NextStage(), Ledger())
    answers: list[int] = []
    with turns.take("somebody else"):
        sender = threading.Thread(target=lambda: answers.append(served.post()[0]))
        sender.start()
        assert turns.asked.wait(PATIENCE)
        with ExitStack() as stack:
            silent = [stack.enter_context(connected(served)) for _ in range(4)]
            assert until_the_end(silent[0]) == b""
    sender.join(PATIENCE)
    intake.stop(0)
    assert answers == [200]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["gzip", "zstd"]))
def test_any_bytes_are_inflated_or_refused(noise: bytes, encoding: str) -> None:
    """Noise, and what was whole once and has been cut or changed."""
    good = gzip.compress(b"payload" * 20) if encoding == "gzip" else zstandard.compress(b"payload" * 20)
    chance = random.Random(noise)
    damaged = bytearray(good)
    damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    for body in (noise, good[: chance.randrange(len(good))], bytes(damaged), good + noise):
        with suppress(Malformed, Refusal):
            assert len(inflated(body, encoding)) <= MAX_REQUEST_BYTES
    assert inflated(good, encoding) == b"payload" * 20


@pytest.mark.parametrize("cut", range(1, 20))
def test_what_was_compressed_and_cut_is_malformed(cut: int) -> None:
    """A part of a request is no request."""
    for encoding, packed in (("gzip", gzip.compress(b"payload" * 20)), ("zstd", zstandard.compress(b"payload" * 20))):
        with pytest.raises(Malformed):
            inflated(packed[:-cut], encoding)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=400))
def test_any_bytes_on_a_connection_are_survived(noise: bytes) -> None:
    """Whatever is said, the next one is served."""
    with shared() as served:
        with connected(served) as connection:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
            until_the_end(connection)
        assert served.post()[0] == 200


@contextmanager
def shared() -> Iterator[Served]:
    with serving(seconds=QUICK) as served:
        yield served


def test_requests_that_smuggle_are_refused(served: Served) -> None:
    """Two lengths, or a length and chunks: nobody would agree where the request ends."""
    head = b"POST /v1/traces HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\n"
    for lengths in (
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Content-Length : 5\r\n",
    ):
        with connected(served) as connection:
            connection.sendall(head + lengths + b"\r\nhello")
            assert until_the_end(connection).split(b" ")[1] in (b"400", b"501")
    assert served.stage.taken == []


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EHOSTUNREACH, errno.EMFILE])
def test_a_connection_that_fails_before_it_is_taken_ends_nothing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Linux tells of what went wrong with a new connection when it is to be accepted; the next one is."""
    failed = threading.Event()
    accept = socket.socket.accept

    def fail_once(listening: socket.socket) -> Any:
        accepted = accept(listening)
        if not failed.is_set():
            failed.set()
            accepted[0].close()
            raise OSError(number, "as the system says")
        return accepted

    monkeypatch.setattr(socket.socket, "accept", fail_once)
    with serving() as served:
        with connected(served) as lost:
            assert until_the_end(lost) == b""
        assert failed.is_set()
        assert served.post()[0] == 200
        assert served.intake.ready
