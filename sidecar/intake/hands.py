"""Who is redacted now: one request at a time for each processor that redacts, the others wait for their turn.

Threads that compute at the same time take the interpreter from each other every millisecond. All of them end late, and
each change of threads costs what the processor had in its caches. One after the other, each ends as early as it could,
and the last no later. Whose turn it is goes by what each sender has had (`shares.py`).

What computes is a thread of its own, which goes on with the next request when it is through with one: the threads that
have received them run now on this processor and now on that, and would find nothing that they need in its caches.

A request that takes longer than a slice keeps its hand, and counts no longer: the next one is worked on beside it. So
nobody waits long for a large request of somebody else, nor for ever for one that hangs.

Where the system has no thread to give, the one that has received the request computes.

What it refuses: nothing. How many come here, the places bound (`turns.py`), and so how many threads there are.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from .shares import Shares

#: Longer than most requests take, and short enough to wait for.
SLICE_SECONDS: Final = 0.025
IDLE_SECONDS: Final = 30.0

_T = TypeVar("_T")


class Waiting:
    """One request that waits for a hand, or has one.

    Attributes:
        since: seconds on the clock, when it got its hand; None while it waits.
        done: whether its work is.
        through: released when it is; or when there is no thread to do it, and who waits must.
    """

    def __init__(self, sender: str, work: Callable[[], Any]) -> None:
        self.sender = sender
        self.since: float | None = None
        self.done = False
        self.through = threading.Lock()
        self.through.acquire()
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None

    def do(self) -> None:
        """Do its work. Raises nothing."""
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001  # it is the caller's
            self._error = error
        self.done = True

    def result(self) -> Any:
        """What its work returned. Raises what that raised."""
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # it would hold this frame, and so itself


class _Thread:
    """One that does what it is given, one after the other."""

    def __init__(self) -> None:
        self.given: Waiting | None = None
        self.called = threading.Lock()  # released when something was given to it
        self.called.acquire()


class Hands:
    """Shares hands among senders. Thread-safe.

    Args:
        count: requests that are worked on at once.
        clock: seconds, monotonic.
        idle_seconds: after which a thread that has nothing to do ends.
    """

    def __init__(
        self, count: int = 1, clock: Callable[[], float] = time.monotonic, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._count = count
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._working: dict[Waiting, None] = {}  # in the order in which they got their hands
        self._line: dict[str, deque[Waiting]] = {}
        self._shares = Shares(clock)
        self._idle: list[_Thread] = []

    def do(self, sender: str, work: Callable[[], _T]) -> _T:
        """What `work` returns, which is done by a hand; waits for it. Raises what that raises."""
        waiting = self.ask(sender, work)
        while not waiting.through.acquire(timeout=-1 if waiting.since is not None else self.look()):
            pass
        if not waiting.done:
            waiting.do()
            with self._lock:
                self._leave(waiting)
        result: _T = waiting.result()
        return result

    def ask(self, sender: str, work: Callable[[], Any]) -> Waiting:
        """Stand in line, without waiting: its work is done now or later."""
        waiting = Waiting(sender, work)
        with self._lock:
            if sender not in self._line:
                self._line[sender] = deque()
                self._shares.came(sender)
            self._line[sender].append(waiting)
            self._grant()
        return waiting

    def look(self) -> float:
        """See whether somebody's slice is over; seconds until the next one's is."""
        with self._lock:
            self._grant()
            return min(self._left(), default=SLICE_SECONDS)

    def _run(self, thread: _Thread) -> None:
        while True:
            called = thread.called.acquire(timeout=self._idle_seconds)
            with self._lock:
                if thread.given is None:
                    self._idle.remove(thread)
                    return
                if not called:
                    thread.called.acquire()  # it was called a moment too late
                waiting, thread.given = thread.given, None
            waiting.do()
            try:
                with self._lock:
                    self._idle.append(thread)  # the last one is taken first: it goes on with the next
                    self._leave(waiting)
            finally:
                waiting.through.release()
            del waiting  # and the request with it

    def _leave(self, waiting: Waiting) -> None:
        del self._working[waiting]
        self._shares.left(waiting.sender)
        self._grant()

    def _grant(self) -> None:
        while self._line:
            if len(self._left()) >= self._count:
                return
            sender = self._shares.next(self._line)
            waiting = self._line[sender].popleft()
            self._stood(sender)
            waiting.since = self._clock()
            self._working[waiting] = None
            thread = self._thread()
            if thread is None:
                waiting.through.release()
            else:
                thread.given = waiting
                thread.called.release()

    def _thread(self) -> _Thread | None:
        """One that has nothing to do; None where the system has none to give."""
        if self._idle:
            return self._idle.pop()
        thread = _Thread()
        try:
            threading.Thread(target=self._run, args=(thread,), name="hand", daemon=True).start()
        except Exception:  # noqa: BLE001  # RuntimeError, mostly; no memory, maybe
            return None
        return thread

    def _left(self) -> list[float]:
        """What is left of each slice that is not over."""
        now = self._clock()
        ends = [working.since + SLICE_SECONDS - now for working in self._working if working.since is not None]
        return [left for left in ends if left > 0]

    def _stood(self, sender: str) -> None:
        if not self._line[sender]:
            del self._line[sender]
