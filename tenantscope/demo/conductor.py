"""Runs the demo: starts sidecar and application, watches them, stops them in order, searches, judges.

Order at the end: the application first, for its library flushes when it stops; then wait until the sidecar
has forwarded what it received, read its status a last time, stop it, and only then search its files. Every
wait has a deadline, and whatever happens no process and no folder is left behind.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, Self

from tenantscope.console.server import Console
from tenantscope.view.client import Admin

from .admin import SearchedAdmin
from .canaries import Canaries, new_marker
from .handover import CAST, HOG, Plan, Report
from .model_server import ModelServer
from .outcome import Outcome
from .picture import Picture
from .processes import Child, ChildDiedError
from .screen import Screen
from .search import Searcher
from .tap import APPLICATION, Tap

_POLL: Final = 0.2
_METRICS_EVERY: Final = 5  # polls
_START_LIMIT: Final = 20.0
_STOP_LIMIT: Final = 20.0
_DRAIN_LIMIT: Final = 15.0
_SIDECAR_STOP_LIMIT: Final = 10.0
_QUIET_POLLS: Final = 3

STATE: Final = "sidecar's state folder"
CELLS: Final = "cells in shared memory"
STATUS: Final = "/status"
# How the sidecar says that it is ready, and where, when it was free to choose its ports.
_READY: Final = re.compile(r"sidecar ready.* listen=\S*:(?P<listen>\d+) .*\badmin=\S*:(?P<admin>\d+)")
# Where a tenant's id must turn up, or the place was not read properly.
_READABLE: Final = (f"{APPLICATION}, messages", STATE, CELLS, STATUS)


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    seconds: float = 30.0
    json: Path | None = None
    headless: bool = False
    keep: bool = False


def run(options: Options) -> int:
    """Run the demo; returns the exit status, 0 only if nothing leaked and nothing was lost."""
    for number in (
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # as Ctrl-C: children have sessions of their own, and would live on
        signal.signal(number, _interrupt)
    screen = Screen(options.headless)
    screen.title()
    try:
        with Conductor(options, screen) as conductor:
            conductor.start()
            conductor.watch()
            outcome = conductor.finish()
    except ChildDiedError as error:
        screen.failed(str(error))
        return 1
    except KeyboardInterrupt:
        screen.failed("interrupted")
        return 130
    screen.summary(outcome)
    if options.json is not None:
        options.json.write_text(json.dumps(outcome.as_json(), indent=2) + "\n")
    return 1 if outcome.failures else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Conductor:
    """One run. A context manager: leaving it ends all processes and removes all folders."""

    def __init__(self, options: Options, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        self._stack = ExitStack()
        self._canaries = Canaries(new_marker())
        self._searcher = Searcher(self._canaries.marker, control=HOG)
        self._picture = Picture(CAST)
        self._polls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._screen.close()
        # A second Ctrl-C must not stop the cleaning up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._stack.close()
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(self) -> None:
        """Start everything, and wait until the sidecar watches the application's loop."""
        self._folder = self._make_folder(None)
        shared_memory = Path("/dev/shm")  # noqa: S108  # a private folder is made in it
        self._cells = self._make_folder(shared_memory if shared_memory.is_dir() else None)
        model = ModelServer(self._canaries.plant)
        self._stack.callback(model.close)
        model.start()
        self._tap = Tap(self._searcher)
        self._stack.callback(self._tap.close)
        self._tap.start()
        self._sidecar = self._start_sidecar()
        self._application = self._start_application(model.url)
        self._until(self._sidecar_listens, _START_LIMIT, "the sidecar to listen")
        console = Console(Admin(f"127.0.0.1:{self._admin_port}"))
        self._screen.banner(self._options.seconds, self._stack.enter_context(console.running()))
        self._screen.open()
        self._until(lambda: self._poll().ready, _START_LIMIT, "the sidecar to watch the application")

    def watch(self) -> None:
        """Draw until the time is up or Ctrl-C."""
        began = time.monotonic()
        try:
            while (elapsed := time.monotonic() - began) < self._options.seconds:
                self._check()
                self._screen.draw(self._poll(), elapsed, self._options.seconds)
                time.sleep(min(_POLL, max(0.0, began + self._options.seconds - time.monotonic())))
        except KeyboardInterrupt:
            self._screen.say("Interrupted: stopping in good order; once more to give up.")

    def finish(self) -> Outcome:
        """Stop everything in order, search what is left, and judge."""
        self._search_folder(CELLS, self._cells)  # now, for a closed loop takes its cell with it
        self._application.close_input()
        failures = []
        if not self._wait_drawing(lambda: not self._application.running(), _STOP_LIMIT, "the application is stopping"):
            failures.append(f"the application did not stop within {_STOP_LIMIT:g} s")
        elif self._application.wait(0) != 0:
            raise ChildDiedError(f"the application failed:\n{self._application.tail()}")
        if not self._wait_drawing(self._drained, _DRAIN_LIMIT, "the sidecar is forwarding the last records"):
            failures.append(f"the sidecar was not done within {_DRAIN_LIMIT:g} s")
        self._poll(with_metrics=True)
        self._search_folder(STATE, self._folder / "state")  # with the write-ahead log, and again without it below
        self._sidecar.terminate()
        status = self._sidecar.wait(_SIDECAR_STOP_LIMIT)
        if status != 0:
            failures.append(f"the sidecar did not stop in good order (status {status}):\n{self._sidecar.tail()}")
        self._tap.close()
        self._search_folder(STATE, self._folder / "state")
        self._searcher.file("sidecar's output", self._folder / "sidecar.out")
        self._searcher.file("library's log", self._folder / "application.out")
        return self._outcome(failures)

    def _outcome(self, failures: list[str]) -> Outcome:
        path = self._folder / "report.json"
        report = Report.load(path) if path.exists() else Report()
        planted = {*self._canaries.planted(), *report.canaries}
        outcome = Outcome(
            picture=self._picture,
            planted=len(planted),
            leaked={
                canary: f"{sighting.channel}, {sighting.spelling}"
                for canary, sighting in self._searcher.leaked(planted).items()
            },
            searched=dict(self._searcher.searched),
            report=report,
            failures=failures,
            kept=self._folder if self._options.keep else None,
        )
        unread = [place for place in _READABLE if not self._searcher.controls[place]]
        outcome.judge(unread + self._searcher.unreadable)
        return outcome

    # Parts --------------------------------------------------------------------------------------------------
    def _make_folder(self, parent: Path | None) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="tenantscope-demo-", dir=parent))
        if parent is not None or not self._options.keep:
            self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _start_sidecar(self) -> Child:
        settings = {
            "TENANTSCOPE_LISTEN": "127.0.0.1:0",
            "TENANTSCOPE_ADMIN": "127.0.0.1:0",
            "TENANTSCOPE_STATE_DIR": str(self._folder / "state"),
        }
        command = [sys.executable, "-m", "sidecar"]
        return self._child(Child("sidecar", command, settings, self._folder / "sidecar.out"))

    def _sidecar_listens(self) -> bool:
        """Whether the sidecar has said on which ports it listens; takes them."""
        said = _READY.search(self._sidecar.said())
        if said is None:
            return False
        self._tap.aim(int(said["listen"]))
        self._admin_port = int(said["admin"])
        self._admin = SearchedAdmin(self._admin_port, self._searcher)
        return True

    def _start_application(self, model_url: str) -> Child:
        plan = Plan(
            marker=self._canaries.marker,
            model_url=model_url,
            report=str(self._folder / "report.json"),
            log=str(self._folder / "application.log"),
            limit=self._options.seconds + _START_LIMIT + _STOP_LIMIT,
        )
        plan.save(self._folder / "plan.json")
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._tap.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "500",  # milliseconds: the table is to be live
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "TENANTSCOPE_CELL_DIR": str(self._cells),
        }
        command = [sys.executable, "-m", "tenantscope.demo.app", str(self._folder / "plan.json")]
        return self._child(Child("application", command, settings, self._folder / "application.out"))

    def _child(self, child: Child) -> Child:
        self._stack.callback(child.kill)
        return child

    def _check(self) -> None:
        self._sidecar.check()
        self._application.check()

    def _poll(self, with_metrics: bool = False) -> Picture:
        status = self._admin.status()
        if status is not None:
            self._picture.take(status, time.monotonic())
        self._polls += 1
        if with_metrics or self._polls % _METRICS_EVERY == 0:
            self._admin.metrics()
        return self._picture

    def _until(self, condition: Callable[[], bool], limit: float, what: str) -> None:
        deadline = time.monotonic() + limit
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                tails = f"{self._sidecar.tail()}\n{self._application.tail()}"
                raise ChildDiedError(f"waited {limit:g} s for {what}:\n{tails}")
            self._screen.draw(self._picture, 0.0, self._options.seconds, "starting")
            time.sleep(_POLL / 4)

    def _wait_drawing(self, condition: Callable[[], bool], limit: float, doing: str) -> bool:
        deadline = time.monotonic() + limit
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._sidecar.check()
            self._screen.draw(self._poll(), 0.0, self._options.seconds, doing)
            time.sleep(_POLL / 2)
        return True

    def _drained(self) -> bool:
        """Whether nothing is queued and nothing more came in for a few polls."""
        seen: set[str] = set()
        for _ in range(_QUIET_POLLS):
            records = self._poll().records
            if not records or any(counts.get("queued") for counts in records.values()):
                return False
            seen.add(json.dumps(records, sort_keys=True))
            time.sleep(_POLL)
        return len(seen) == 1

    def _search_folder(self, name: str, folder: Path) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self._searcher.file(name, path)
