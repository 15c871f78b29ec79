"""A worker: takes requests from its parent, one at a time, runs the kernel, answers.

It holds policies and keys of pseudonyms in memory, as its parent does, and nothing on disk. It ends when its parent
does: its end of the socket pair says so, and where the parent was killed while a request is computed, the kernel
(`PR_SET_PDEATHSIG`). Signals that a terminal or a supervisor sends to all are left to the parent, which drains first.

What it refuses: to redact by a version that it was not given, and to go on when a policy does not come out as the
parent compiled it: two versions of this program would be at work then.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections import OrderedDict
from typing import Any, Final, cast

from sidecar import memory
from sidecar.conventions import SIGNALS, Signal
from sidecar.redaction import Malformed, MasterKey, Policy, Pseudonyms, Redactor, log_fault

from . import messages
from .messages import ANSWER, INSTALL, READY, REDACT, REFUSED, SAME, Ended, Link

#: Versions that a worker knows at once: the one in force, the one before it, and a trial for each.
MAX_VERSIONS: Final = 4
_PR_SET_PDEATHSIG: Final = 1


class Stranger(Exception):  # noqa: N818  # a finding about the parent
    """The parent says what this program's own never would."""


class Worker:
    """Answers one parent."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._versions: OrderedDict[int, Redactor] = OrderedDict()

    def run(self) -> None:
        """Until the parent hangs up. Raises Stranger."""
        try:
            self._link.send(READY)
            while True:
                kind, parts = self._link.receive()
                if kind == INSTALL:
                    self._install(*parts)
                elif kind == REDACT:
                    self._redact(*parts)
                else:
                    raise Stranger("kind")
        except Ended:
            return

    def _install(
        self, number: bytes, source: bytes, document: bytes, digest: bytes, key_id: bytes, secret: bytes
    ) -> None:
        policy = Policy.parse(document, source.decode())
        if policy.digest != digest.decode():
            raise Stranger("digest")
        names = Pseudonyms(MasterKey(key_id.decode(), secret)) if secret else None
        self._versions[messages.version_in(number)] = Redactor(policy, names, _log_fault)
        while len(self._versions) > MAX_VERSIONS:
            self._versions.popitem(last=False)

    def _redact(self, number: bytes, name: bytes, tenants: bytes, debtors: bytes, payload: bytes) -> None:
        redactor = self._versions.get(messages.version_in(number))
        if redactor is None or name.decode() not in SIGNALS:
            raise Stranger("version")
        try:
            redacted = redactor.redact(
                cast("Signal", name.decode()), payload, messages.tenants_in(tenants), messages.debtors_in(debtors)
            )
        except Malformed as malformed:
            self._link.send(REFUSED, str(malformed).encode())
            return
        account = messages.account(redacted)
        if redacted.payload is payload:
            self._link.send(SAME, account)
        else:
            self._link.send(ANSWER, account, redacted.payload)


def _log() -> Any:
    """The log, which as much memory goes to as to all the rest of a worker: when there is something to say."""
    import structlog

    from sidecar import log

    log.configure()
    return structlog.get_logger("sidecar.workers")


def _log_fault(kind: str) -> None:
    _log()
    log_fault(kind)


def end_with_parent(parent: int) -> None:
    """Be killed when the parent's thread that started this process ends; where that cannot be, the socket must do."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        os._exit(0)


def main(descriptor: int, parent: int) -> int:
    """The exit code."""
    end_with_parent(parent)
    memory.configure(several=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        Worker(Link(socket.socket(fileno=descriptor))).run()
    except Exception as error:  # noqa: BLE001  # its text may hold content
        reason = str(error) if isinstance(error, Stranger) else type(error).__name__
        _log().error("a redaction worker gives up", reason=reason)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
