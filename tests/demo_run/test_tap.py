"""The tap between application and sidecar changes nothing, and shows the searcher every message whole."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantscope.demo.search import Searcher
from tenantscope.demo.tap import ANSWERS, APPLICATION, DataFrames, Tap

CANARY = "q7marker0zkd4e5f6a7b8c"
METHOD = "/tenantscope.test.Echo/Echo"


def new_searcher() -> Searcher:
    return Searcher(CANARY[:11], "acme")


class Echo(grpc.GenericRpcHandler):
    """Answers every call with what it sent, turned round."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request[::-1])


@pytest.fixture
def echo_port() -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture
def searcher() -> Searcher:
    return new_searcher()


@pytest.fixture
def tap(searcher: Searcher) -> Iterator[Tap]:
    tap = Tap(searcher)
    tap.start()
    yield tap
    tap.close()


def call(port: int, *messages: bytes) -> list[bytes]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        echo = channel.unary_unary(METHOD)
        pending = [echo.future(message, wait_for_ready=True, timeout=30) for message in messages]
        return [answer.result() for answer in pending]


def test_calls_pass_unchanged_and_are_searched_both_ways(tap: Tap, searcher: Searcher, echo_port: int) -> None:
    """Real gRPC through the tap: same answers; the canary is seen going there and, reversed, coming back."""
    tap.aim(echo_port)
    message = f"acme {CANARY}".encode()
    assert call(tap.port, message) == [message[::-1]]
    tap.close()
    seen = {(sighting.channel, sighting.spelling) for sighting in searcher.sightings()}
    assert (f"{APPLICATION}, messages", "plain") in seen
    assert (f"{ANSWERS}, messages", "reversed") in seen
    assert searcher.controls[f"{APPLICATION}, messages"] == 1


def test_a_canary_cut_by_http2_frames_is_seen_whole(tap: Tap, searcher: Searcher, echo_port: int) -> None:
    """Long messages travel in several frames, many at a time; the canary is put together again."""
    tap.aim(echo_port)
    messages = [os.urandom(16_384 - shift) + CANARY.encode() + os.urandom(20_000) for shift in range(0, 48, 2)]
    assert call(tap.port, *messages) == [message[::-1] for message in messages]
    tap.close()
    there = [s for s in searcher.sightings() if s.channel == f"{APPLICATION}, messages"]
    whole = [s for s in there if CANARY.encode() in s.window]
    assert len(whole) == len(messages)


def test_a_caller_that_comes_before_the_target_waits_for_it(tap: Tap, echo_port: int) -> None:
    """Application and sidecar may start at the same time; the tap holds the call until it knows where to."""
    with futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(call, tap.port, b"early")
        tap.aim(echo_port)
        assert answer.result(30) == [b"ylrae"]


def test_when_nobody_listens_there_the_caller_is_cut_off(tap: Tap) -> None:
    """As without the tap, a dead sidecar is a closed connection, not a silent one."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    tap.aim(port)
    with socket.create_connection(("127.0.0.1", tap.port), timeout=30) as caller:
        assert caller.recv(1) == b""


def test_closing_cuts_every_connection_and_ends_every_thread(searcher: Searcher, echo_port: int) -> None:
    """Nothing of the tap outlives it, callers that wait for a target included."""
    before = threading.active_count()
    tap = Tap(searcher)
    tap.start()
    with socket.create_connection(("127.0.0.1", tap.port), timeout=30) as waiting:
        tap.close(timeout=30)
        with contextlib.suppress(ConnectionResetError):  # when it was never accepted
            assert waiting.recv(1) == b""
    assert threading.active_count() == before


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 3, 5]), st.integers(1, 9)), min_size=1, max_size=20),
    st.integers(1, 60),
    st.booleans(),
)
def test_interleaved_padded_frames_are_put_together_by_stream(
    cuts: list[tuple[int, int]], piece: int, padded: bool
) -> None:
    """Whatever order streams take turns in, and however the bytes arrive, each stream is read on its own."""
    left = dict.fromkeys((1, 3, 5), CANARY.encode())
    wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    for stream, length in [*cuts, (1, 99), (3, 99), (5, 99)]:
        part, left[stream] = left[stream][:length], left[stream][length:]
        end = 0x1 if length == 99 else 0
        body = bytes([4]) + part + b"\x00" * 4 if padded else part
        wire += frame(0, end | (0x8 if padded else 0), stream, body) + frame(6, 0, 0, b"\x00" * 8)
    searcher = new_searcher()
    frames = DataFrames("here", searcher)
    for start in range(0, len(wire), piece):
        frames.feed(wire[start : start + piece])
    frames.close()
    assert list(searcher.leaked([CANARY])) == [CANARY]
    assert len(searcher.sightings()) == 3
