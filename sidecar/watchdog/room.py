"""Room for streams: each takes a thread, every local process can open one, and the applications must still get in.

So a stream that has no loop under watch after a while is ended, and gives way at once when the room is needed. One that
has a loop under watch is never ended for another's sake; when there are only such, who comes is refused, and counted.
A client that speaks for some tenants leaves room for others (`parties.py`).
"""

from __future__ import annotations

import threading
from typing import Final

import grpc
import structlog
from prometheus_client import CollectorRegistry, Counter

from sidecar import conventions

from .parties import leaves_room
from .stream import ClosedError, Stream

MAX_STREAMS: Final = 100  # each takes a thread of the server's for as long as it lasts
SILENT_NS: Final = 5_000_000_000  # an application announces its loops at once
_TELL_NS: Final = 60_000_000_000

_log: Final = structlog.get_logger("sidecar.watchdog")


class Room:
    """The streams that are open.

    Args:
        registry: gets the number of the refused ones, by reason: `room`, `silent` or `unauthenticated`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        refused = conventions.STREAMS_REFUSED
        self._refused = Counter(refused.name, refused.description, refused.labels, registry=registry)
        self._lock = threading.Lock()
        self._open: set[Stream] = set()
        self._silent: dict[Stream, int] = {}  # since when; the oldest first
        self._told: dict[str, tuple[int, int]] = {}  # reason -> when it was last told, refused since then

    def enter(self, stream: Stream, now: int) -> None:
        """A stream was opened.

        Raises:
            ClosedError: there is no room for it.
        """
        with self._lock:
            oldest = self._oldest_silent() if len(self._open) >= MAX_STREAMS else None
            staying = [each.party for each in self._open if oldest is None or each is not oldest[0]]
            if not leaves_room(stream.party, staying, MAX_STREAMS):
                self._count("room", now)
                raise ClosedError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "as many applications as may be are under watch already"
                )
            if oldest is not None:
                self._end(oldest[0], now)
            self._open.add(stream)
            self._silent[stream] = now

    def unauthenticated(self, now: int) -> None:
        """A stream was turned away at the door."""
        with self._lock:
            self._count("unauthenticated", now)

    def leave(self, stream: Stream) -> None:
        """It is over."""
        with self._lock:
            self._open.discard(stream)
            self._silent.pop(stream, None)

    def end_silent(self, now: int) -> None:
        """End those that had their time and have no loop under watch."""
        with self._lock:
            while (oldest := self._oldest_silent()) is not None and now - oldest[1] >= SILENT_NS:
                self._end(oldest[0], now)

    def _oldest_silent(self) -> tuple[Stream, int] | None:
        for stream, since in list(self._silent.items()):
            if not stream.announced:
                return stream, since
            del self._silent[stream]
        return None

    def _end(self, stream: Stream, now: int) -> None:
        self._open.discard(stream)
        self._silent.pop(stream, None)
        self._count("silent", now)
        stream.close(grpc.StatusCode.FAILED_PRECONDITION, "no loop was announced in time that can be watched")

    def _count(self, reason: str, now: int) -> None:
        self._refused.labels(reason).inc()
        last, untold = self._told.get(reason, (now - _TELL_NS, 0))
        if now - last >= _TELL_NS:
            _log.warning("stream refused", reason=reason, more_since_last_told=untold)
            last, untold = now, -1
        self._told[reason] = (last, untold + 1)
