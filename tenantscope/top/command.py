"""Runs `tenantscope top`: once, as lines of JSON, or live on a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Final, NoReturn

from rich.console import Console

from tenantscope.view.client import Admin

from .lines import line
from .live import Live
from .poller import Poller
from .screen import View, absent, draw

NO_SIDECAR: Final = 1
INTERRUPTED: Final = 130
_LINES: Final = 100  # of a picture that is printed


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    admin: Admin
    view: View
    interval: float
    once: bool
    json: bool


def run(options: Options) -> int:
    """Run until it is ended; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):  # a tenant whom the terminal's encoding cannot spell must not end the view
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    console = Console(highlight=False)
    terminal = console.is_terminal and not console.is_dumb_terminal
    poller = Poller(options.admin)
    with _ending_on(signal.SIGTERM, signal.SIGHUP):
        try:
            if options.once or not (terminal or options.json):
                return _once(options, poller, console)
            if options.json:
                _follow(options, poller)
            Live(console, poller, options.admin.url, options.view).run(options.interval)
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:  # `| head`: the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _once(options: Options, poller: Poller, console: Console) -> int:
    """Look twice, an interval apart, for rates are differences, and print that."""
    look = poller.look()
    if not look.error:
        time.sleep(options.interval)
        look = poller.look()
    if look.error:
        print(*absent(look.error, options.admin.url), sep="\n", file=sys.stderr)
        return NO_SIDECAR
    if options.json:
        print(line(look, options.view, options.admin.url, datetime.now(UTC)), flush=True)
    else:
        console.print(draw(look, options.view, options.admin.url, time.monotonic(), console.width, _LINES))
        sys.stdout.flush()
    return 0


def _follow(options: Options, poller: Poller) -> NoReturn:
    """A line of JSON every interval; the first when there are rates, or there is no sidecar."""
    due = time.monotonic()
    rates = False
    while True:
        look = poller.look()
        if rates or look.error:
            print(line(look, options.view, options.admin.url, datetime.now(UTC)), flush=True)
        rates = rates or not look.error
        due = max(due + options.interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


@contextlib.contextmanager
def _ending_on(*numbers: signal.Signals) -> Iterator[None]:
    """Inside, these signals unwind the stack, so that the terminal is put back."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
