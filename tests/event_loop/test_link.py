"""The link to a watchdog that comes late, refuses, or goes away: tried again with patience, and only when needed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from instrumentation import diagnostics
from instrumentation.loop.account import Account
from instrumentation.loop.cell import Cell
from instrumentation.loop.link import FIRST_DELAY, LONGEST_DELAY, Backoff, Link
from sidecar.wire import CONNECTED
from sidecar.wire import watchdog_pb2 as wire

DEADLINE = 30.0
SERVICE = "tenantscope.watchdog.v1.Watchdog"


class Impatient(Backoff):
    """Asks the real one, notes what it said, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[float] = []

    def delay(self) -> float:
        self.said.append(super().delay())
        return 0


class Watchdog:
    """Takes streams, or refuses them; keeps what they say."""

    def __init__(self) -> None:
        self.refuse: grpc.StatusCode | None = None
        self.streams = 0
        self.reports: queue.Queue[wire.Report] = queue.Queue()
        self.goes_away = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(8))
        handler = grpc.stream_stream_rpc_method_handler(self._watch, wire.Report.FromString)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Watch": handler}),))
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _watch(self, reports: Iterator[wire.Report], context: grpc.ServicerContext) -> Iterator[bytes]:
        self.streams += 1
        if self.refuse is not None:
            context.abort(self.refuse, "no")
        context.send_initial_metadata(((CONNECTED, "1"),))
        over = threading.Event()  # the application has taken its leave
        threading.Thread(target=self._read, args=(reports, over), daemon=True).start()
        while not (self.goes_away.wait(0.01) or over.is_set()):
            pass
        yield from ()

    def _read(self, reports: Iterator[wire.Report], over: threading.Event) -> None:
        with suppress(Exception):  # how gRPC says that the stream is over
            for report in reports:
                self.reports.put(report)
        over.set()

    def announced(self) -> int:
        """The next loop that is told of."""
        while True:
            report = self.reports.get(timeout=DEADLINE)
            if report.HasField("announce"):
                return report.announce.loop_id

    def stop(self) -> None:
        self.goes_away.set()
        self._server.stop(0).wait(DEADLINE)


class Application:
    """Loops in name, and a link that tells of them."""

    def __init__(self, endpoint: str, cells: Path, clock: Any) -> None:
        self.accounts: dict[int, Account] = {}
        self.backoff = Impatient()
        self._cells, self._clock = cells, clock
        self.link = Link(endpoint, "service", "instance", lambda: self.accounts, lambda *_: None, self.backoff)

    def open_loop(self, loop_id: int) -> None:
        cell = Cell.create(self._cells, loop_id, 1)
        self.accounts[loop_id] = Account(_NoLoop(), loop_id, 16, cell, self._clock)  # type: ignore[arg-type]
        self.link.announce(self.accounts[loop_id])

    def close_loop(self, loop_id: int) -> None:
        account = self.accounts.pop(loop_id)
        account.finish()
        account.cell.release()

    def close(self) -> None:
        self.link.stop(DEADLINE)
        for loop_id in list(self.accounts):
            self.close_loop(loop_id)


class _NoLoop:
    """Something that an account can refer to weakly."""


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog()
    yield watchdog
    watchdog.stop()


@pytest.fixture
def application(watchdog: Watchdog, cells: Path, clock: Any) -> Iterator[Application]:
    application = Application(watchdog.endpoint, cells, clock)
    yield application
    application.close()


def test_a_loop_is_accounted_where_there_are_no_more_threads(
    application: Application, watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the watchdog is told of it when there is one for the next loop."""

    def no_more_threads(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        application.open_loop(1)
    application.open_loop(2)
    assert {watchdog.announced(), watchdog.announced()} == {1, 2}


def test_each_delay_is_twice_the_last_one_and_none_is_everybodys() -> None:
    """From a quarter of a second to ten seconds, less up to a half; from the beginning again once it worked."""
    runs = []
    for _ in range(50):
        backoff = Backoff()
        runs.append([backoff.delay() for _ in range(10)])
        for number, delay in enumerate(runs[-1]):
            full = min(LONGEST_DELAY, FIRST_DELAY * 2**number)
            assert full / 2 <= delay <= full
        backoff.reset()
        assert backoff.delay() <= FIRST_DELAY
    assert len({run[-1] for run in runs}) > 1


def test_without_a_loop_nobody_is_asked(application: Application, watchdog: Watchdog) -> None:
    """The first loop starts the link; a process that has none does not even have the thread."""
    assert application.link._thread is None
    application.open_loop(1)
    assert watchdog.announced() == 1
    assert watchdog.streams == 1


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.FAILED_PRECONDITION])
def test_a_watchdog_that_refuses_is_asked_more_and_more_seldom(
    application: Application, watchdog: Watchdog, code: grpc.StatusCode
) -> None:
    """Being refused is no connection, though there is somebody; when it takes us, patience is fresh again."""
    watchdog.refuse = code
    application.open_loop(1)
    wait_until(lambda: len(application.backoff.said) >= 6)
    assert application.backoff.said[5] > FIRST_DELAY * 8
    watchdog.refuse = None
    assert watchdog.announced() == 1
    watchdog.goes_away.set()
    before = len(application.backoff.said)
    wait_until(lambda: len(application.backoff.said) > before + 1)
    assert application.backoff.said[-1] <= FIRST_DELAY


def test_a_link_without_loops_waits_for_the_next_one(application: Application, watchdog: Watchdog) -> None:
    """Cut off when all its loops are closed, it does not come back for their sake."""
    application.open_loop(1)
    assert watchdog.announced() == 1
    application.close_loop(1)
    lost = diagnostics.counts().get("link.lost", 0)
    watchdog.goes_away.set()
    wait_until(lambda: diagnostics.counts().get("link.lost", 0) > lost)
    streams = watchdog.streams
    wait_until(lambda: not application.link._needed.is_set())
    watchdog.goes_away.clear()
    application.open_loop(2)
    assert watchdog.announced() == 2
    assert watchdog.streams == streams + 1


def test_stopping_ends_the_wait_for_a_watchdog(cells: Path, clock: Any) -> None:
    """Nobody is at the endpoint, and the next try is seconds away."""
    application = Application("unix:/nonexistent/tenantscope.sock", cells, clock)
    application.link._backoff = Backoff()
    application.open_loop(1)
    thread = application.link._thread
    assert thread is not None
    wait_until(lambda: application.link._backoff._next == LONGEST_DELAY or application.link._backoff._next > 0.5)
    application.close()
    assert not thread.is_alive()


def wait_until(condition: Callable[[], object]) -> None:
    """Another thread has to come round to it; a deadline, no timing."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)
