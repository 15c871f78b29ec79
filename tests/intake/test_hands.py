"""Who is redacted now, on a clock that is moved by hand, and between threads."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from otlp_peers import PATIENCE

from sidecar.intake.hands import SLICE_SECONDS, Hands, Waiting


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def working(asked: list[Waiting]) -> list[bool]:
    return [waiting.since is not None for waiting in asked]


def test_so_many_are_worked_on_as_there_are_hands() -> None:
    """The others come when one is through."""
    hands = Hands(2, Clock())
    asked = [hands.ask(sender) for sender in "abcd"]
    assert working(asked) == [True, True, False, False]
    hands.leave(asked.pop(1))
    assert working(asked) == [True, True, False]


def test_who_has_had_the_least_is_next() -> None:
    """A sender of many requests waits behind its own: who comes later and had nothing goes first."""
    clock = Clock()
    hands = Hands(1, clock)
    first, *flood = [hands.ask("flood") for _ in range(8)]
    clock.now += SLICE_SECONDS / 2
    calm = hands.ask("calm")
    hands.leave(first)
    assert working([calm, *flood]) == [True] + 7 * [False]


def test_a_request_of_more_than_a_slice_is_worked_on_beside_the_next() -> None:
    """Nobody waits for its end; and it does not make room for two."""
    clock = Clock()
    hands = Hands(1, clock)
    large, *others = [hands.ask(sender) for sender in ("large", "a", "b")]
    clock.now += SLICE_SECONDS * 0.75
    assert hands.look() == pytest.approx(SLICE_SECONDS / 4)
    assert working([large, *others]) == [True, False, False]
    clock.now += SLICE_SECONDS / 2
    assert hands.look() == SLICE_SECONDS
    assert working([large, *others]) == [True, True, False]
    hands.leave(large)
    assert working(others) == [True, False]


def test_what_is_still_worked_on_has_been_had() -> None:
    """Who has a request that takes longer than a slice does not get the next hand before somebody who has none."""
    clock = Clock()
    hands = Hands(1, clock)
    asked = [hands.ask("large") for _ in range(3)]
    clock.now += SLICE_SECONDS / 2
    calm = hands.ask("calm")
    clock.now += SLICE_SECONDS
    hands.look()
    assert working([calm, *asked]) == [True, True, False, False]


def test_who_gives_up_waiting_is_in_nobodys_way() -> None:
    """Nor does it lose a hand."""
    hands = Hands(1, Clock())
    first, second, third = (hands.ask(sender) for sender in "abc")
    hands.leave(second)
    hands.leave(first)
    assert third.since is not None


@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans()), max_size=60))
def test_hands_are_never_lost_and_never_overbooked(count: int, steps: list[tuple[str, int, bool]]) -> None:
    """Whoever comes and goes: within a slice there are so many at work, and none waits for nothing."""
    clock = Clock()
    hands = Hands(count, clock)
    held: list[Waiting] = []
    for sender, leaver, leaves in steps:
        clock.now += SLICE_SECONDS * 0.3
        if leaves and held:
            hands.leave(held.pop(leaver % len(held)))
        else:
            held.append(hands.ask(sender))
        hands.look()
        fresh = [one for one in held if one.since is not None and clock.now - one.since < SLICE_SECONDS]
        assert len(fresh) <= count
        assert len(fresh) == count or all(working(held))
    for waiting in held:
        hands.leave(waiting)
    assert working([hands.ask("a") for _ in range(count + 1)]) == count * [True] + [False]


def test_threads_wait_for_a_hand_and_get_one() -> None:
    """One after the other, none of them beside another."""
    hands = Hands(1, lambda: 0.0)  # no slice is ever over
    at_work: list[int] = []
    most: list[int] = []

    def run(number: int) -> None:
        for _ in range(50):
            with hands.at_work(str(number)):
                at_work.append(number)
                most.append(len(at_work))
                at_work.remove(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert most == 200 * [1]


def test_one_that_hangs_keeps_nobody_waiting() -> None:
    """Those behind it come in when its slice is over, without anybody to wake them."""
    hands = Hands(1)
    release, through = threading.Event(), threading.Event()

    def hang() -> None:
        with hands.at_work("a"):
            release.wait(PATIENCE)

    def wait() -> None:
        with hands.at_work("b"):
            through.set()

    hanging = threading.Thread(target=hang)
    hanging.start()
    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        assert through.wait(PATIENCE)
        assert not release.is_set()
    finally:
        release.set()
        hanging.join(PATIENCE)
        waiting.join(PATIENCE)
