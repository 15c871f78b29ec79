"""One worker, as its parent sees it: a process, a socket to it, and what it has been given.

What it refuses: to be asked by two threads at once, which is for whoever holds it to see to; and to be asked again
after it has not answered: what comes late would be taken for the answer to another request.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.conventions import Signal
from sidecar.redaction import Malformed, MasterKey, Policy, Redacted
from sidecar.senders.debtors import Debtors

from . import messages
from .messages import ANSWER, INSTALL, READY, REDACT, REFUSED, SAME, Ended, Link
from .process import MAX_VERSIONS

_ROOT: Final = Path(__file__).parents[2]
_LAST_WORDS_SECONDS: Final = 1.0
# Enough for most requests, so that sender and receiver need not take turns; the system may give less.
_BUFFER_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Version:
    """A policy and its key, by a number that no other version of this pool has."""

    number: int
    policy: Policy
    key: MasterKey | None

    def parts(self) -> tuple[bytes, ...]:
        """As a worker is given it."""
        return (
            messages.version(self.number),
            self.policy.source.encode(),
            self.policy.document,
            self.policy.digest.encode(),
            b"" if self.key is None else self.key.id.encode(),
            b"" if self.key is None else self.key.secret,
        )


class Member:
    """A worker; a new process each time.

    To be made by a thread that lives as long as the worker should: the system kills it when that thread ends.

    Attributes:
        pid: of the process.

    Raises:
        OSError: the system gives no more processes.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        try:
            self._process = subprocess.Popen(  # noqa: S603  # this interpreter, on a module of ours
                [sys.executable, "-m", "sidecar.workers.process", str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": path},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid
        self._link = Link(ours)
        # What it still has of what it was given: it forgets in the same order.
        self._given: deque[int] = deque(maxlen=MAX_VERSIONS)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def greet(self, seconds: float) -> bool:
        """Wait until it has started; whether it has."""
        try:
            return self._link.receive(time.monotonic() + seconds)[0] == READY
        except (Ended, TimeoutError):
            return False

    def redact(
        self,
        version: Version,
        signal: Signal,
        payload: bytes,
        tenants: frozenset[str] | None,
        debtors: Debtors | None,
        by: float,
    ) -> Redacted:
        """The kernel's answer.

        Args:
            by: on the monotonic clock, when it must be there.

        Raises:
            Malformed: that is its answer.
            Ended: the worker is gone, or makes no sense.
            TimeoutError: it has not answered.
        """
        number = messages.version(version.number)
        if version.number not in self._given:
            self._given.append(version.number)
            self._link.send(INSTALL, *version.parts(), by=by)
        self._link.send(
            REDACT, number, signal.encode(), messages.tenants(tenants), messages.debtors(debtors), payload, by=by
        )
        kind, parts = self._link.receive(by)
        if kind == REFUSED and len(parts) == 1:
            raise Malformed(parts[0].decode("ascii", "replace"))
        if kind == ANSWER and len(parts) == 2:
            return messages.redacted_in(parts, parts[1])
        if kind == SAME and len(parts) == 1:
            return messages.redacted_in(parts, payload)
        raise Ended

    def dismiss(self, grace: float = _LAST_WORDS_SECONDS) -> None:
        """Hang up, kill it if it has not ended within `grace` seconds, and leave no zombie."""
        self._link.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        self._process.kill()  # does nothing to one that has been waited for
        self._process.wait()
