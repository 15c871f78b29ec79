"""What takes too long is ended, on a clock that is moved by hand, and by the thread."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st
from otlp_peers import PATIENCE

from sidecar.intake.patience import Patience


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_takes_too_long_is_ended_once() -> None:
    """Not before its time, and not again."""
    clock, ended = Clock(), []
    patience = Patience(10, clock)
    with patience.limits(lambda: ended.append("first")):
        clock.now = 9
        with patience.limits(lambda: ended.append("second")):
            assert patience.look() == 1
            assert not ended
            clock.now = 10
            assert patience.look() == 9
            assert ended == ["first"]
            assert patience.look() == 9
        clock.now = 100
        assert patience.look() == 10
    assert ended == ["first"]


def test_one_that_cannot_be_ended_does_not_keep_the_others() -> None:
    """Whatever its end raises: it costs nobody else the deadline."""
    clock, ended = Clock(), []
    patience = Patience(1, clock)
    with patience.limits(lambda: ended.append(1 / 0)), patience.limits(lambda: ended.append(1)):
        clock.now = 1
        patience.look()
    assert ended == [1]


@given(st.lists(st.integers(0, 5), max_size=30))
def test_none_is_due_while_the_thread_sleeps(pauses: list[int]) -> None:
    """Whenever they begin: looked at when the last look said, each is ended in the moment in which it is due."""
    clock, ended, due = Clock(), [], []
    patience = Patience(7, clock)
    wake = 7.0
    with ExitStack() as running:
        for number, pause in enumerate([*pauses, 7]):
            until = clock.now + pause
            while wake <= until:
                clock.now = wake
                wake += patience.look()
            clock.now = until
            due.append((number, until + 7))
            running.enter_context(patience.limits(lambda number=number: ended.append((number, clock.now))))
        while len(ended) < len(due):
            clock.now = wake
            wake += patience.look()
    assert ended == due


def test_the_thread_looks_by_itself() -> None:
    """Nobody has to ask."""
    patience = Patience(0.01)
    ended = threading.Event()
    patience.start()
    try:
        with patience.limits(ended.set):
            assert ended.wait(PATIENCE)
    finally:
        patience.stop()
        patience.stop()
