"""Single keys from a terminal, and whatever else should wake the one who waits for them.

What it refuses: to leave the terminal in another mode than it found it in, and to take a key that is sent as an escape
sequence (an arrow, a mouse) for the letters in it. Where input is no terminal there are no keys, only waking.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios
import tty
from collections.abc import Iterator
from typing import Final

HANGUP: Final = "hangup"  # what `wait` says when the terminal is gone
_ESCAPE: Final = "\x1b"


class Keyboard:
    """Keys from the file descriptor `tty_fd`. There is one in a process, and it lasts as long."""

    def __init__(self, tty_fd: int) -> None:
        self._tty = tty_fd if os.isatty(tty_fd) else None
        self._awake, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def there(self) -> bool:
        """Whether keys can come at all."""
        return self._tty is not None

    @contextlib.contextmanager
    def keys(self) -> Iterator[None]:
        """While inside, keys come one by one and unseen; Ctrl-C and Ctrl-Z still are signals."""
        if self._tty is None:
            yield
            return
        before = termios.tcgetattr(self._tty)
        try:
            tty.setcbreak(self._tty, termios.TCSADRAIN)
            yield
        finally:
            with contextlib.suppress(termios.error):  # the terminal may be gone
                # What was typed ahead was meant for this program, not for the shell after it.
                termios.tcsetattr(self._tty, termios.TCSAFLUSH, before)

    def wait(self, seconds: float) -> str:
        """The next keys, `HANGUP`, or nothing after a `wake` or after `seconds`."""
        sources = [self._awake] if self._tty is None else [self._awake, self._tty]
        ready, _, _ = select.select(sources, [], [], seconds)
        if self._awake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._awake, 4096)
        if self._tty not in ready or self._tty is None:
            return ""
        try:
            typed = os.read(self._tty, 64)
        except OSError:
            return HANGUP
        keys = typed.decode("utf-8", "replace")
        return HANGUP if not keys else "" if keys.startswith(_ESCAPE) else keys

    def wake(self) -> None:
        """End a `wait`, from any thread or signal handler."""
        with contextlib.suppress(BlockingIOError):  # full: it will wake up anyway
            os.write(self._wake, b"\0")
