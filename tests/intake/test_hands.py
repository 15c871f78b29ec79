"""Who is redacted now, on a clock that is moved by hand, and between threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from garbage import uncollected
from hypothesis import given, settings
from hypothesis import strategies as st
from otlp_peers import PATIENCE

from sidecar.intake.hands import SLICE_SECONDS, Hands


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """A request that is worked on until it is told to end."""

    def __init__(self, hands: Hands, sender: str) -> None:
        self._end = threading.Event()
        self.waiting = hands.ask(sender, lambda: self._end.wait(PATIENCE))

    @property
    def at_work(self) -> bool:
        return self.waiting.since is not None

    def leave(self) -> None:
        """Its work is done, and what follows from that too."""
        self._end.set()
        assert self.waiting.through.acquire(timeout=PATIENCE)


def working(asked: list[Asked]) -> list[bool]:
    return [one.at_work for one in asked]


@pytest.fixture
def ask() -> Iterator[Callable[[Hands, str], Asked]]:
    """Asks; in the end, nobody is left at work."""
    asked: list[Asked] = []

    def one(hands: Hands, sender: str) -> Asked:
        asked.append(Asked(hands, sender))
        return asked[-1]

    yield one
    for some in asked:
        some._end.set()


Ask = Callable[[Hands, str], Asked]


def test_so_many_are_worked_on_as_there_are_hands(ask: Ask) -> None:
    """The others come when one is through."""
    hands = Hands(2, Clock())
    asked = [ask(hands, sender) for sender in "abcd"]
    assert working(asked) == [True, True, False, False]
    asked.pop(1).leave()
    assert working(asked) == [True, True, False]


def test_who_has_had_the_least_is_next(ask: Ask) -> None:
    """A sender of many requests waits behind its own: who comes later and had nothing goes first."""
    clock = Clock()
    hands = Hands(1, clock)
    first, *flood = [ask(hands, "flood") for _ in range(8)]
    clock.now += SLICE_SECONDS / 2
    calm = ask(hands, "calm")
    first.leave()
    assert working([calm, *flood]) == [True] + 7 * [False]


def test_a_request_of_more_than_a_slice_is_worked_on_beside_the_next(ask: Ask) -> None:
    """Nobody waits for its end; and it does not make room for two."""
    clock = Clock()
    hands = Hands(1, clock)
    large, *others = [ask(hands, sender) for sender in ("large", "a", "b")]
    clock.now += SLICE_SECONDS * 0.75
    assert hands.look() == pytest.approx(SLICE_SECONDS / 4)
    assert working([large, *others]) == [True, False, False]
    clock.now += SLICE_SECONDS / 2
    assert hands.look() == SLICE_SECONDS
    assert working([large, *others]) == [True, True, False]
    large.leave()
    assert working(others) == [True, False]


def test_what_is_still_worked_on_has_been_had(ask: Ask) -> None:
    """Who has a request that takes longer than a slice does not get the next hand before somebody who has none."""
    clock = Clock()
    hands = Hands(1, clock)
    asked = [ask(hands, "large") for _ in range(3)]
    clock.now += SLICE_SECONDS / 2
    calm = ask(hands, "calm")
    clock.now += SLICE_SECONDS
    hands.look()
    assert working([calm, *asked]) == [True, True, False, False]


@settings(max_examples=40)
@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans()), max_size=40))
def test_hands_are_never_lost_and_never_overbooked(count: int, steps: list[tuple[str, int, bool]]) -> None:
    """Whoever comes and goes: within a slice there are so many at work, and none waits for nothing."""
    clock = Clock()
    hands = Hands(count, clock, idle_seconds=0.0)
    held: list[Asked] = []

    def leave(number: int) -> None:
        number %= len(held)
        at_work = [at for at, one in enumerate(held) if one.at_work]
        held.pop(at_work[number % len(at_work)]).leave()

    for sender, leaver, leaves in steps:
        clock.now += SLICE_SECONDS * 0.3
        if leaves and held:
            leave(leaver)
        else:
            held.append(Asked(hands, sender))
        hands.look()
        since = [one.waiting.since for one in held]
        fresh = [one for one in since if one is not None and clock.now - one < SLICE_SECONDS]
        assert len(fresh) <= count
        assert len(fresh) == count or all(working(held))
    while held:
        leave(0)
    last = [Asked(hands, "a") for _ in range(count + 1)]
    assert working(last) == count * [True] + [False]
    for one in last:
        one.leave()


def test_threads_wait_for_a_hand_and_get_one() -> None:
    """One after the other, none of them beside another."""
    hands = Hands(1, lambda: 0.0)  # no slice is ever over
    at_work: list[int] = []
    most: list[int] = []

    def work(number: int) -> int:
        at_work.append(number)
        most.append(len(at_work))
        at_work.remove(number)
        return number

    def run(number: int) -> None:
        for _ in range(50):
            assert hands.do(str(number), partial(work, number)) == number

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

    hanging = threading.Thread(target=hands.do, args=("a", lambda: release.wait(PATIENCE)))
    hanging.start()
    waiting = threading.Thread(target=hands.do, args=("b", through.set))
    waiting.start()
    try:
        assert through.wait(PATIENCE)
        assert not release.is_set()
    finally:
        release.set()
        hanging.join(PATIENCE)
        waiting.join(PATIENCE)


def test_one_thread_goes_on_with_the_next() -> None:
    """What a request needs is where the last one had it; and a thread that has nothing to do ends."""
    hands = Hands(1, idle_seconds=0.01)
    by = {hands.do(sender, threading.current_thread) for sender in "abcabc"}
    assert len(by) <= 2  # the first may have had nothing to do for too long
    assert threading.current_thread() not in by
    for thread in by:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert hands.do("a", lambda: "again") == "again"


def test_what_work_raises_is_raised_where_it_is_waited_for() -> None:
    """And nothing of it is held afterwards; the next one is worked on."""
    hands = Hands(1)
    content = b"a request that cannot be read"

    def fail() -> None:
        raise ValueError(content)

    with uncollected() as holders:
        with pytest.raises(ValueError, match="cannot be read"):
            hands.do("a", fail)
        assert hands.do("a", lambda: 1) == 1
        assert holders(content) == []


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_where_there_is_no_thread_to_be_had_who_waits_does_the_work(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Nobody waits for one; and when there are some again, one of them does it."""
    hands = Hands(1)

    def fail(_: threading.Thread) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        assert [hands.do(sender, threading.current_thread) for sender in "ab"] == [threading.current_thread()] * 2
        with pytest.raises(ZeroDivisionError):
            hands.do("a", lambda: 1 / 0)
    assert hands.do("a", threading.current_thread) is not threading.current_thread()
