"""The view that stays: draws when there is news, a key, or another size, until `q`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FrameType
from typing import Final

from rich.console import Console

from .keyboard import HANGUP, Keyboard
from .poller import Look, Poller
from .screen import ORDERS, View, draw

_REDRAW: Final = 1.0  # seconds, when nothing else asks for it


class Live:
    """One live view on a terminal; `run` once.

    Args:
        where: the sidecar's address, to be shown.
    """

    def __init__(self, console: Console, poller: Poller, where: str, view: View) -> None:
        self._console = console
        self._poller = poller
        self._where = where
        self._keyboard = Keyboard(sys.stdin.fileno())
        self._view = replace(view, keys=self._keyboard.there)
        self._newest = Look()
        self._shown = self._newest
        self._suspending = False

    def run(self, interval: float) -> None:
        """Show until a key or a signal ends it; the terminal is then as it was."""
        with (
            _handling(signal.SIGWINCH, self._keyboard.wake),
            _handling(signal.SIGTSTP, self._suspend),
            self._poller.following(interval, self._take),
        ):
            while self._show():
                os.kill(os.getpid(), signal.SIGSTOP)  # Ctrl-Z; goes on here when it is continued

    def _show(self) -> bool:
        """Show until the end, or until it is to be suspended; whether it is."""
        with self._keyboard.keys(), self._console.screen() as screen:
            while not self._suspending:
                if not self._view.paused:
                    self._shown = self._newest
                size = self._console.size
                screen.update(draw(self._shown, self._view, self._where, time.monotonic(), size.width, size.height))
                if self._obey(self._keyboard.wait(_REDRAW)):
                    return False
        self._suspending = False
        return True

    def _obey(self, keys: str) -> bool:
        """Do what the keys say; whether that is to end."""
        if keys == HANGUP:
            return True
        for key in keys.lower():
            if key == "q":
                return True
            if key == "s":
                names = list(ORDERS)
                following = names[(names.index(self._view.order) + 1) % len(names)]
                self._view = replace(self._view, order=following)
            elif key == "p":
                self._view = replace(self._view, paused=not self._view.paused)
        return False

    def _take(self, look: Look) -> None:
        self._newest = look
        self._keyboard.wake()

    def _suspend(self) -> None:
        self._suspending = True
        self._keyboard.wake()


@contextlib.contextmanager
def _handling(number: signal.Signals, do: Callable[[], object]) -> Iterator[None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        do()

    before = signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, before)
