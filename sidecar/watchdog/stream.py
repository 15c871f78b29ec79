"""One application's `Watch` stream: what its reports mean, and how far it may go.

What it refuses: bytes that are no report (INVALID_ARGUMENT ends the stream), a second process's pid on one stream, a
loop that another stream announced and keeps, and more refused cells than an application has use for. A cell that is
refused is not the end: the application is asked for heartbeats instead, and those have bounds of their own.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from sidecar.alerts import printable
from sidecar.wire import process
from sidecar.wire import watchdog_pb2 as wire

from .cell import CellReader, ProcessKey, RefusedError
from .holders import Shown
from .opening import open_cell
from .poll import Poll
from .stacks import Asked, unreadable
from .told import HeartbeatRefusedError, Sequence, ToldCell
from .watched import Watched

MAX_REFUSALS: Final = 32  # of one stream; each is a line in the log
MAX_DIRECTIVES: Final = 1000  # that wait for an application which does not read them
# Refusals that are not about what can be read here: heartbeats would change nothing.
_FINAL: Final = ("pid", "loops", "announced")

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
        disbelieved: counts a refused heartbeat by reason.
        news: told when there is something to look at.
        shown: how a tenant's id is shown to people.
        clock: nanoseconds of `CLOCK_MONOTONIC`.
        party: the client, by name, if it is to leave room for others; empty otherwise.

    Attributes:
        party: as given.
    """

    def __init__(
        self,
        poll: Poll,
        refused: Callable[[str], None],
        disbelieved: Callable[[str], None],
        news: Callable[[], None],
        shown: Shown = str,
        clock: Callable[[], int] = time.monotonic_ns,
        party: str = "",
    ) -> None:
        self.party = party
        self._poll = poll
        self._shown = shown
        self._refused = refused
        self._disbelieved = disbelieved
        self._news = news
        self._clock = clock
        self._loops: dict[int, Watched] = {}
        # Loops whose cells cannot be read here: as announced, and what heartbeats said of them.
        self._relayed: dict[int, tuple[Any, ToldCell]] = {}
        self._sequence = Sequence()
        self._crowded: set[int] = set()  # of those, for whom there was no room
        self._in_doubt = 0  # heartbeats refused in a row
        self._pid: int | None = None
        self._refusals = 0
        # Announced while another stream had the loop: that may be our own old one, not known yet to be over.
        self._in_the_way: dict[int, Any] = {}
        # Asked of the last cell that came under watch, for its process; and why that cannot be read, as the application
        # was told.
        self._asked: Asked | None = None
        self._unreadable = ""
        self._ending = threading.Lock()
        self._ended = False
        self._announced = False
        self.outbox: SimpleQueue[bytes | ClosedError | None] = SimpleQueue()

    @property
    def announced(self) -> bool:
        """Whether a loop that it announced came under watch."""
        return self._announced

    def close(self, code: grpc.StatusCode, details: str) -> None:
        """End it with this status."""
        self.outbox.put(ClosedError(code, details))

    def _say(self, directive: Any) -> None:
        if self.outbox.qsize() >= MAX_DIRECTIVES:
            raise ClosedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "directives are not read")
        self.outbox.put(directive.SerializeToString())

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
            self._in_the_way.pop(report.withdraw.loop_id, None)
            self._relayed.pop(report.withdraw.loop_id, None)
            self._crowded.discard(report.withdraw.loop_id)
            watched = self._loops.pop(report.withdraw.loop_id, None)
            if watched is not None:
                self._poll.withdrawn(watched)
                self._news()
        elif kind == "heartbeat":
            # It needs no answer: what counts is in the cell, or in itself.
            for announce in list(self._in_the_way.values()):
                self._announce(announce, again=True)
            if report.heartbeat.loops:
                self._heartbeat(report.heartbeat)
        if kind in ("announce", "heartbeat"):
            self._see_to_stacks()
        # Other kinds may come with later versions.

    def end(self) -> None:
        """The stream is over; what becomes of its loops, their cells tell."""
        with self._ending:
            self._ended = True
            for watched in self._loops.values():
                self._poll.cut_off(watched)
            self._loops.clear()
        self._news()
        self.outbox.put(_END)

    def _announce(self, announce: Any, again: bool = False) -> None:
        self._in_the_way.pop(announce.loop_id, None)
        try:
            if self._pid is None:
                self._pid = announce.pid
            elif self._pid != announce.pid:
                raise RefusedError("pid", "this stream speaks for another process")
            if announce.loop_id not in self._relayed:
                self._watch(announce, self._cell(announce))
        except RefusedError as refusal:
            if refusal.reason == "announced":
                self._in_the_way[announce.loop_id] = announce
            if refusal.reason not in _FINAL:
                self._relay(announce)
            if refusal.reason != "announced" or not again:  # what was told and counted is not told again
                self._refuse(announce, refusal)

    def _cell(self, announce: Any) -> CellReader:
        if announce.clock and announce.clock != process.clock():
            raise RefusedError("clock", "its times are of another machine's clock")
        return open_cell(announce.cell_path, announce.pid, announce.loop_id, self._shown, announce.pid_namespace)

    def _watch(self, announce: Any, cell: CellReader | ToldCell) -> None:
        watched = Watched(
            printable(announce.service_name, 255), printable(announce.instance, 255), cell, self,
            printable(announce.host, 255), self.party,
        )  # fmt: skip
        with self._ending:  # the end of the stream comes from another thread; no loop may be added after it
            if self._ended:
                cell.close()
                return
            try:
                asked = cell.stack(0)
                self._poll.add(watched)
            except RefusedError:
                cell.close()
                raise
            self._loops[announce.loop_id] = watched
            self._announced = True
        if isinstance(asked, Asked):
            self._asked = asked
        self._news()

    def _relay(self, announce: Any) -> None:
        """Ask for heartbeats."""
        if len(self._relayed) < MAX_REFUSALS:
            counting = f"{announce.host} {announce.clock} {announce.pid_namespace} {announce.instance}"
            key: ProcessKey = counting, announce.pid, 0
            self._relayed[announce.loop_id] = announce, ToldCell(key, announce.loop_id, self._shown)
            self._say(wire.Directive(relay=wire.Relay(loop_id=announce.loop_id, stall_ns=self._poll.stall_ns)))

    def _heartbeat(self, heartbeat: Any) -> None:
        now = self._clock()
        try:
            self._sequence.take(heartbeat, now)
            for facts in heartbeat.loops:
                self._facts(facts, heartbeat.monotonic_ns, now)
        except HeartbeatRefusedError as refusal:
            self._disbelieved(refusal.reason)
            self._in_doubt += 1
            if self._in_doubt >= MAX_REFUSALS:
                why = f"heartbeats are not to be believed: {refusal.reason}"
                raise ClosedError(grpc.StatusCode.FAILED_PRECONDITION, why) from None
        else:
            self._in_doubt = 0

    def _facts(self, facts: Any, sent: int, now: int) -> None:
        if facts.loop_id not in self._relayed:
            raise HeartbeatRefusedError("loop")
        announce, cell = self._relayed[facts.loop_id]
        cell.take(facts, sent, now)
        watched = self._loops.get(facts.loop_id)
        if watched is not None and watched.leaving is None:
            self._poll.look_at(watched)
            self._news()
            return
        try:  # the first, or heard of again after it was given up
            self._watch(announce, cell)
            self._crowded.discard(facts.loop_id)
        except RefusedError as refusal:
            if facts.loop_id not in self._crowded:
                self._crowded.add(facts.loop_id)
                self._refuse(announce, refusal)

    def _refuse(self, announce: Any, refusal: RefusedError) -> None:
        self._refused(refusal.reason)
        if self._announced and self._relayed:  # one more loop of a process that tells of its loops
            return
        elsewhere = announce.host != socket.gethostname()
        _log.warning(
            "cell refused",
            reason=refusal.reason,
            why=printable(str(refusal))
            + (f"; it was announced by host {printable(announce.host)}" if elsewhere else ""),
            instead="heartbeats" if announce.loop_id in self._relayed else "nothing",
            service=printable(announce.service_name),
            pid=announce.pid,
            path=printable(announce.cell_path),
        )
        self._refusals += 1
        if self._refusals >= MAX_REFUSALS:
            raise ClosedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many refused cells")

    def _see_to_stacks(self) -> None:
        """Have the application leave its stacks for as long as they cannot be read from its memory."""
        if self._asked is None:
            return
        why = unreadable(self._asked)
        for watched in self._loops.copy().values():
            watched.unreadable = why
        if bool(why) != bool(self._unreadable):
            here = os.getpid() if self._asked.process else 0
            self._say(
                wire.Directive(
                    leave_stacks=wire.LeaveStacks(stall_ns=self._poll.stall_ns if why else 0, watchdog_pid=here)
                )
            )
        self._unreadable = why
