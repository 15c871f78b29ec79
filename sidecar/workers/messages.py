"""What a parent and its worker say to each other, over a stream socket.

    message = kind, number of parts, length of each part (little endian), the parts

    INSTALL   version, source, document, digest, key's id, key's secret      no answer
    REDACT    version, signal, tenants, debtors, payload                              ANSWER, SAME or REFUSED
    READY     nothing: the worker has started
    ANSWER    account, payload            SAME      account: all of it may leave as it stands
    REFUSED   the word of a `Malformed`

What it refuses: pickles, for they are programs; and messages beyond a bound, whoever sends them.
"""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Final

from sidecar.redaction import Redacted
from sidecar.senders.debtors import Debtors

INSTALL: Final = 1
REDACT: Final = 2
READY: Final = 3
ANSWER: Final = 4
SAME: Final = 5
REFUSED: Final = 6

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_PARTS: Final = 8
_HEAD: Final = struct.Struct("<BB")
_VERSION: Final = struct.Struct("<Q")
_TIME: Final = struct.Struct("@ll")  # C's `struct timeval`


class Ended(Exception):  # noqa: N818  # a finding, part of ordinary work
    """The other end is gone, or says what it never would."""


@contextlib.contextmanager
def _told_apart() -> Iterator[None]:
    """That time is up, which the system says as if the call would block, from that nobody is there."""
    try:
        yield
    except (BlockingIOError, TimeoutError):
        raise TimeoutError from None
    except OSError:
        raise Ended from None


class Link:
    """One end of the pair."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        end.setblocking(True)

    def send(self, kind: int, *parts: bytes, by: float | None = None) -> None:
        """Send a message.

        Args:
            by: on the monotonic clock, when it must be done; None for no limit.

        Raises:
            Ended: nobody is there.
            TimeoutError: it took too long; nothing more can be said on this link.
        """
        head = _HEAD.pack(kind, len(parts)) + struct.pack(f"<{len(parts)}I", *map(len, parts))
        waiting = [memoryview(part) for part in (head, *parts) if part]
        with _told_apart():
            while waiting:
                self._limit(socket.SO_SNDTIMEO, by)
                sent = self._socket.sendmsg(waiting)
                while waiting and sent >= len(waiting[0]):
                    sent -= len(waiting.pop(0))
                if waiting:
                    waiting[0] = waiting[0][sent:]

    def receive(self, by: float | None = None) -> tuple[int, list[bytes]]:
        """The next message: its kind and parts. As `send`."""
        kind, count = _HEAD.unpack(self._exactly(_HEAD.size, by))
        if count > MAX_PARTS:
            raise Ended
        lengths = struct.unpack(f"<{count}I", self._exactly(4 * count, by))
        if sum(lengths) > MAX_BYTES:
            raise Ended
        return kind, [self._exactly(length, by) for length in lengths]

    def _exactly(self, size: int, by: float | None) -> bytes:
        """So many bytes. The system fills them in where they stay: a request is not copied once more."""
        pieces = []
        with _told_apart():
            while size:
                self._limit(socket.SO_RCVTIMEO, by)
                piece = self._socket.recv(size, socket.MSG_WAITALL)
                if not piece:
                    raise Ended
                pieces.append(piece)
                size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _limit(self, which: int, by: float | None) -> None:
        """Have the system's next call end by then, in the middle of a message, too.

        Python's own timeouts would have it come back for each piece that the other end has written.
        """
        seconds, rest = 0, 0  # no limit
        if by is not None:
            left = by - time.monotonic()
            if left <= 0:
                raise TimeoutError
            seconds = int(left)
            rest = max(1, int((left - seconds) * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, which, _TIME.pack(seconds, rest))

    def close(self) -> None:
        """Hang up; who waits on it is told. Idempotent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def version(number: int) -> bytes:
    """The number of a version, as a part."""
    return _VERSION.pack(number)


def version_in(part: bytes) -> int:
    """The number in a part."""
    number: int = _VERSION.unpack(part)[0]
    return number


@functools.lru_cache(maxsize=1024)
def tenants(allowed: frozenset[str] | None) -> bytes:
    """The ids that a sender may name, as a part; nothing for all."""
    return b"" if allowed is None else json.dumps(sorted(allowed)).encode()


@functools.lru_cache(maxsize=1024)
def tenants_in(part: bytes) -> frozenset[str] | None:
    """The ids in a part."""
    return frozenset(json.loads(part)) if part else None


@functools.lru_cache(maxsize=16)  # they change all the time
def debtors(owing: Debtors | None) -> bytes:
    """Whose records are refused, as a part; nothing where it does not matter."""
    if owing is None:
        return b""
    known = None if owing.known is None else _texts(owing.known)
    return json.dumps([_texts(owing.tenants), known]).encode()


def debtors_in(part: bytes) -> Debtors | None:
    """The debtors in a part."""
    if not part:
        return None
    tenants, known = json.loads(part)
    return Debtors(frozenset(map(_bytes, tenants)), None if known is None else frozenset(map(_bytes, known)))


def _texts(tenants: frozenset[bytes]) -> list[str]:
    return sorted(map(_text, tenants))


def _text(tenant: bytes) -> str:
    return tenant.decode("latin-1")  # they are bytes from outside, and JSON has none


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def account(redacted: Redacted) -> bytes:
    """What became of a request, as a part."""
    return json.dumps(
        [
            redacted.records_in,
            redacted.records_out,
            dict(redacted.dropped),
            [[action, reason, count] for (action, reason), count in redacted.actions.items()],
            {_text(tenant): counts for tenant, counts in redacted.taken.items()},
            {_text(tenant): count for tenant, count in redacted.refused.items()},
        ]
    ).encode()


def redacted_in(parts: Sequence[bytes], payload: bytes) -> Redacted:
    """What a worker answered.

    Raises:
        Ended: that is no answer.
    """
    try:
        came, left, dropped, actions, taken, refused = json.loads(parts[0])
        counts = {(str(action), str(reason)): int(count) for action, reason, count in actions}
        reasons = {str(reason): int(count) for reason, count in dropped.items()}
        accounts = {_bytes(tenant): (int(records), int(size)) for tenant, (records, size) in taken.items()}
        owing = {_bytes(tenant): int(count) for tenant, count in refused.items()}
        return Redacted(payload, int(came), int(left), reasons, counts, accounts, owing)
    except (ValueError, TypeError, AttributeError, IndexError):
        raise Ended from None
