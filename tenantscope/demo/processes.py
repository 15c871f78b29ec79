"""A child process of the demo: in a session of its own, with its output in a file, and sure to end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_PREFIXES_OF_OTHERS: Final = ("TENANTSCOPE_", "OTEL_")
_OUTPUT_BYTES: Final = 16_384


class ChildDiedError(Exception):
    """A child ended before it should. The message names it and ends with its last lines of output."""


class Child:
    """One child. Its own session keeps Ctrl-C from it, so that the conductor decides the order in which
    things end.

    Args:
        name: what to call it in messages.
        command: program and arguments.
        settings: environment variables; those that steer tenantscope or OpenTelemetry are not inherited.
        output: file that takes its standard output and error.
    """

    def __init__(self, name: str, command: Sequence[str], settings: Mapping[str, str], output: Path) -> None:
        self.name = name
        self._output = output
        environment = {k: v for k, v in os.environ.items() if not k.startswith(_PREFIXES_OF_OTHERS)}
        with output.open("wb") as sink:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter, our own modules
                command,
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=environment | dict(settings),
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise `ChildDiedError` if it has ended."""
        status = self._process.poll()
        if status is not None:
            raise ChildDiedError(f"the {self.name} ended unexpectedly (status {status}):\n{self.tail()}")

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def close_input(self) -> None:
        """Let it read the end of its standard input."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._process.terminate()

    def wait(self, timeout: float) -> int | None:
        """Its exit status; None if it has not ended after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it, and whatever it started, now. Safe to call at any time."""
        self.close_input()
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def said(self) -> str:
        """The end of its output so far, at most 16 KB."""
        with self._output.open("rb") as output:
            output.seek(max(0, self._output.stat().st_size - _OUTPUT_BYTES))
            return output.read(_OUTPUT_BYTES).decode(errors="replace")

    def tail(self, lines: int = 15) -> str:
        """Its last lines of output, for people."""
        return "\n".join(self.said().splitlines()[-lines:]) or "(it said nothing)"
