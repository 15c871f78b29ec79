"""What a parent and a worker say to each other arrives as it was said, or not at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otlp_peers import PATIENCE

from sidecar.redaction import MasterKey, Policy, Redacted
from sidecar.senders.debtors import Debtors
from sidecar.workers import messages
from sidecar.workers.member import Version
from sidecar.workers.messages import INSTALL, READY, REDACT, Ended, Link


@given(kind=st.integers(0, 255), parts=st.lists(st.binary(max_size=300), max_size=8))
@settings(deadline=None)
def test_messages_arrive_as_they_were_sent(kind: int, parts: list[bytes]) -> None:
    """Kind and parts, empty ones too, one message after the other."""
    left, right = map(Link, socket.socketpair())
    for _ in range(2):
        left.send(kind, *parts)
    assert [right.receive(), right.receive()] == [(kind, parts)] * 2
    left.close()
    with pytest.raises(Ended):
        right.receive()
    right.close()


def test_a_message_larger_than_the_sockets_buffers_arrives() -> None:
    """In pieces, as there is room."""
    left, right = map(Link, socket.socketpair())
    parts = [os.urandom(3_000_000), b"", os.urandom(1_000_000)]
    sender = threading.Thread(target=left.send, args=(1, *parts))
    sender.start()
    assert right.receive(time.monotonic() + PATIENCE) == (1, parts)
    sender.join()
    left.close()
    right.close()


def test_who_does_not_answer_in_time_is_not_waited_for() -> None:
    """Neither with a message that is not there, nor with one that nobody reads."""
    left, right = map(Link, socket.socketpair())
    with pytest.raises(TimeoutError):
        right.receive(time.monotonic() + 0.05)
    with pytest.raises(TimeoutError):
        left.send(1, bytes(8_000_000), by=time.monotonic() + 0.05)
    left.close()
    right.close()


def test_who_stops_in_the_middle_is_not_waited_for() -> None:
    """A part that has begun to arrive has no more time than one that has not."""
    theirs, ours = socket.socketpair()
    link = Link(ours)
    theirs.sendall(b"\x04\x01" + (100).to_bytes(4, "little") + b"the beginning of it")
    with pytest.raises(TimeoutError):
        link.receive(time.monotonic() + 0.05)
    theirs.close()
    link.close()


def test_a_limit_is_that_of_one_message() -> None:
    """Who waits without one waits on, whatever the limit of the message before was."""
    left, right = map(Link, socket.socketpair())
    left.send(1, b"first")
    assert right.receive(time.monotonic() + 0.05) == (1, [b"first"])
    received: list[tuple[int, list[bytes]]] = []
    waiting = threading.Thread(target=lambda: received.append(right.receive()))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    left.send(2, b"second")
    waiting.join(PATIENCE)
    assert received == [(2, [b"second"])]
    left.close()
    right.close()


@pytest.mark.parametrize(
    "said",
    [b"\x04\x02\xff\xff\xff\xff\xff\xff\xff\xff", b"\x04\xff" + bytes(1020), b"\x04", b"\x04\x01\x05\x00\x00\x00ab"],
    ids=["too large", "too many parts", "cut off", "cut off in a part"],
)
def test_nonsense_is_not_believed(said: bytes) -> None:
    """Whoever says it is treated like one who hung up, before memory is taken for it."""
    left, right = socket.socketpair()
    left.sendall(said)
    left.close()
    link = Link(right)
    with pytest.raises(Ended):
        link.receive()
    link.close()


WORDS = st.text(st.characters(codec="ascii", categories=("Ll",)), min_size=1, max_size=8)
COUNTS = st.integers(0, 2**31)


ACTIONS = st.dictionaries(st.tuples(WORDS, WORDS), COUNTS)
TAKEN = st.dictionaries(st.binary(), st.tuples(COUNTS, COUNTS))
REDACTED = st.builds(
    Redacted, st.binary(), COUNTS, COUNTS, st.dictionaries(WORDS, COUNTS), ACTIONS, TAKEN,
    st.dictionaries(st.binary(), COUNTS),
)  # fmt: skip
DEBTORS = st.builds(Debtors, st.frozensets(st.binary()), st.none() | st.frozensets(st.binary()))


@given(REDACTED, st.none() | st.frozensets(st.text(st.characters(exclude_categories=["Cs"]))), st.none() | DEBTORS)
def test_what_is_said_of_a_request_arrives_as_it_was(
    redacted: Redacted, tenants: frozenset[str] | None, debtors: Debtors | None
) -> None:
    """Every count under its words, every tenant, in whatever bytes its id is."""
    assert messages.redacted_in([messages.account(redacted)], redacted.payload) == redacted
    assert messages.tenants_in(messages.tenants(tenants)) == tenants
    assert messages.debtors_in(messages.debtors(debtors)) == debtors


@pytest.mark.parametrize(
    "account", [b"", b"[]", b"{}", b"[1, 1, {}, 3]", b'["a", 1, {}, []]', b"\xff", b"[1,1,[],[],{},{}]"]
)
def test_an_account_that_makes_no_sense_is_no_answer(account: bytes) -> None:
    """It is not taken for a request in which nothing happened."""
    with pytest.raises(Ended):
        messages.redacted_in([account], b"")


def worker() -> tuple[subprocess.Popen[str], Link]:
    """A worker of its own, that has started."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", "sidecar.workers.process", str(theirs.fileno()), str(os.getpid())],
        pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    theirs.close()
    link = Link(ours)
    assert link.receive(time.monotonic() + PATIENCE)[0] == READY
    return process, link


def test_a_worker_ends_when_its_parent_hangs_up() -> None:
    """In good order."""
    process, link = worker()
    link.close()
    assert process.wait(PATIENCE) == 0
    process.communicate()


@pytest.mark.parametrize("case", ["unknown version", "another program's policy", "unknown kind"])
def test_a_worker_gives_up_on_what_its_parent_never_says(case: str) -> None:
    """It redacts by nothing that it was not given, and not by a policy that comes out different here."""
    process, link = worker()
    version = list(Version(1, Policy.default(), MasterKey("k1", bytes(32))).parts())
    if case == "unknown version":
        link.send(INSTALL, *version)
        link.send(REDACT, messages.version(2), b"traces", b"", b"", b"bob@example.com")
    elif case == "another program's policy":
        version[3] = b"0123456789ab"
        link.send(INSTALL, *version)
    else:
        link.send(99, b"bob@example.com")
    with pytest.raises(Ended):
        link.receive(time.monotonic() + PATIENCE)
    assert process.wait(PATIENCE) == 3
    _, log = process.communicate()
    assert "a redaction worker gives up" in log
    assert "bob" not in log
    link.close()
