"""A program on a terminal of its own, as a person has it: a pty that is its controlling terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

LIMIT = 20.0  # seconds; whatever takes longer hangs
PACKAGES = Path(__file__).parents[2]

# Makes its input the controlling terminal, so that Ctrl-C, Ctrl-Z and a new size reach it as signals.
_LAUNCH = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
_SEQUENCE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9])")


class Terminal:
    """Runs `tenantscope top` on it; a context manager that leaves no process.

    Attributes:
        process: the program; it leads a session.
        before: the modes of the terminal before it ran.
    """

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 24, **environment: str) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, lines)
        self.before = self.modes()
        command = [sys.executable, "-c", _LAUNCH, sys.executable, "-m", "tenantscope", "top", *arguments]
        plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            cwd=PACKAGES,
            env=plain | {"TERM": "xterm-256color", **environment},
        )
        self.raw = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT)
        for descriptor in {self._ours, self._theirs} - {-1}:
            os.close(descriptor)

    def modes(self) -> list[Any]:
        """What `stty` would show."""
        return termios.tcgetattr(self._theirs)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def shows(self, *words: str) -> str:
        """Read on until each of `words` was on the screen; what came since the last call, without its colours."""
        self.raw, deadline = "", time.monotonic() + LIMIT
        while True:
            text = _SEQUENCE.sub("", self.raw)
            if all(word in text for word in words):
                return text
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"never showed {words!r}:\n{text[-3000:]}"
            self.raw += os.read(self._ours, 65536).decode("utf-8", "replace")

    def ends(self) -> int:
        """Wait for the end; what it wrote last is in `raw`."""
        self._read_until(lambda: self.process.poll() is not None, "did not end")
        return self.process.returncode

    def stops(self) -> None:
        """Wait until it is stopped, as by Ctrl-Z; what it wrote before that is in `raw`."""
        state = Path(f"/proc/{self.process.pid}/stat")
        self._read_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "was not stopped")

    def _read_until(self, over: Callable[[], bool], what: str) -> None:
        """Take everything that was written until then."""
        self.raw, deadline, last = "", time.monotonic() + LIMIT, False
        while True:
            if select.select([self._ours], [], [], 0 if last else 0.02)[0]:
                self.raw += os.read(self._ours, 65536).decode("utf-8", "replace")
            elif last:
                return
            assert time.monotonic() < deadline, f"{what}:\n{self.raw[-3000:]}"
            last = last or over()

    def continues(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._ours)
        self._ours = -1
