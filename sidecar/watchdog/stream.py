"""One application's `Watch` stream: what its reports mean, and how far it may go.

What it refuses: bytes that are no report (INVALID_ARGUMENT ends the stream), a second process's pid on one stream, and
more announcements, refused cells or loops than an application has use for.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from sidecar.alerts import printable
from sidecar.wire import watchdog_pb2 as wire

from .cell import RefusedError, open_cell
from .poll import Poll
from .watched import Watched

MAX_LOOPS: Final = 256  # under watch, of all applications
MAX_REFUSALS: Final = 32  # of one stream; each is a line in the log
MAX_FRAMES: Final = 64

_log: Final = structlog.get_logger("sidecar.watchdog")
_END: Final = None


class ClosedError(Exception):
    """The stream has to end with this status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code


class Stream:
    """What one application said on its stream.

    Args:
        poll: judges its loops.
        refused: counts a refused cell by reason.
        news: told when there is something to look at.
    """

    def __init__(self, poll: Poll, refused: Callable[[str], None], news: Callable[[], None]) -> None:
        self._poll = poll
        self._refused = refused
        self._news = news
        self._loops: dict[int, Watched] = {}
        self._pid: int | None = None
        self._refusals = 0
        # One object for the life of the stream: the poll tells by it who may answer.
        self._ask = self.ask
        self._ending = threading.Lock()
        self._ended = False
        self.outbox: SimpleQueue[bytes | ClosedError | None] = SimpleQueue()

    def ask(self, stall_id: int, loop_id: int, running: int) -> None:
        """Ask the application for a stack."""
        question = wire.CaptureStack(stall_id=stall_id, loop_id=loop_id, running=running)
        self.outbox.put(wire.Directive(capture_stack=question).SerializeToString())

    def take(self, raw: bytes) -> None:
        """One report.

        Raises:
            ClosedError: the stream has to end.
        """
        try:
            report = wire.Report.FromString(raw)
        except DecodeError:
            raise ClosedError(grpc.StatusCode.INVALID_ARGUMENT, "not a report") from None
        kind = report.WhichOneof("kind")
        if kind == "announce":
            self._announce(report.announce)
        elif kind == "withdraw":
            watched = self._loops.pop(report.withdraw.loop_id, None)
            if watched is not None:
                self._poll.leave(watched)
                self._news()
        elif kind == "stack":
            self._stack(report.stack)
        # A heartbeat needs no answer: what counts is in the cell. Other kinds may come with later versions.

    def end(self) -> None:
        """The stream is over; what becomes of its loops, their cells tell."""
        with self._ending:
            self._ended = True
            for watched in self._loops.values():
                self._poll.cut_off(watched)
            self._loops.clear()
        self._news()
        self.outbox.put(_END)

    def _announce(self, announce: Any) -> None:
        try:
            if self._pid is None:
                self._pid = announce.pid
            elif self._pid != announce.pid:
                raise RefusedError("pid", "this stream speaks for another process")
            if announce.loop_id not in self._loops and len(self._poll) >= MAX_LOOPS:
                raise RefusedError("loops", f"{MAX_LOOPS} loops are under watch already")
            cell = open_cell(announce.cell_path, announce.pid, announce.loop_id)
        except RefusedError as refusal:
            self._refuse(announce, refusal)
            return
        watched = Watched(printable(announce.service_name, 255), printable(announce.instance, 255), cell, self._ask)
        with self._ending:  # the end of the stream comes from another thread; no loop may be added after it
            if self._ended:
                cell.close()
                return
            self._loops[announce.loop_id] = watched
            self._poll.add(watched)
        self._news()

    def _refuse(self, announce: Any, refusal: RefusedError) -> None:
        self._refused(refusal.reason)
        elsewhere = announce.host != socket.gethostname()
        _log.warning(
            "cell refused",
            reason=refusal.reason,
            why=printable(str(refusal))
            + (f"; it was announced by host {printable(announce.host)}" if elsewhere else ""),
            service=printable(announce.service_name),
            pid=announce.pid,
            path=printable(announce.cell_path),
        )
        self._refusals += 1
        if self._refusals >= MAX_REFUSALS:
            raise ClosedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many refused cells")

    def _stack(self, stack: Any) -> None:
        lines = [
            f"{printable(frame.file)}:{frame.line} {printable(frame.function)}" for frame in stack.frames[-MAX_FRAMES:]
        ]
        self._poll.add_stack(stack.stall_id, self._ask, lines, printable(stack.unavailable))
