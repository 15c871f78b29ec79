"""A tap in the line between application and sidecar: passes bytes on, and shows them to the searcher.

Both ends speak plain HTTP/2. Its frames cut long messages into pieces with headers in between, so the payload
of the DATA frames is put together again, stream by stream, and searched as well as the raw bytes.

What it does not see: header fields in HPACK's Huffman code. They are searched raw only.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from .search import Channel, Searcher

APPLICATION: Final = "application to sidecar"
ANSWERS: Final = "sidecar to application"

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEADER: Final = 9
_DATA: Final = 0
_END_STREAM: Final = 0x1
_PADDED: Final = 0x8


class DataFrames:
    """Takes one direction of an HTTP/2 connection apart and feeds each stream's data to its own channel."""

    def __init__(self, name: str, searcher: Searcher) -> None:
        self._name = name
        self._searcher = searcher
        self._pending = bytearray()
        self._streams: dict[int, Channel] = {}
        self._started = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the connection."""
        self._pending += data
        if not self._started and len(self._pending) >= len(_PREFACE):
            self._started = True
            if self._pending.startswith(_PREFACE):
                del self._pending[: len(_PREFACE)]
        while self._started and len(self._pending) >= _FRAME_HEADER:
            length = int.from_bytes(self._pending[:3], "big")
            if len(self._pending) < _FRAME_HEADER + length:
                return
            kind, flags = self._pending[3], self._pending[4]
            stream = int.from_bytes(self._pending[5:_FRAME_HEADER], "big")
            payload = bytes(self._pending[_FRAME_HEADER : _FRAME_HEADER + length])
            del self._pending[: _FRAME_HEADER + length]
            if kind == _DATA:
                self._data(stream, flags, payload)

    def _data(self, stream: int, flags: int, payload: bytes) -> None:
        if flags & _PADDED and payload:
            payload = payload[1 : len(payload) - payload[0]]
        channel = self._streams.setdefault(stream, self._searcher.channel(self._name))
        channel.feed(payload)
        if flags & _END_STREAM:
            self._streams.pop(stream).close()

    def close(self) -> None:
        """The connection is at its end."""
        for channel in self._streams.values():
            channel.close()
        self._streams.clear()


class Tap:
    """Listens on a free port of the loopback and connects every caller to the port given to `aim`.

    Args:
        searcher: gets all bytes of both directions.
        patience: seconds that a call waits for `aim`.

    Attributes:
        port: where it listens.
    """

    def __init__(self, searcher: Searcher, patience: float = 10.0) -> None:
        self._target = 0
        self._aimed = threading.Event()
        self._searcher = searcher
        self._patience = patience
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._accepting: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.port: int = self._listener.getsockname()[1]

    def start(self) -> None:
        """Begin to accept."""
        self._accepting = self._spawn(self._accept)

    def aim(self, target: int) -> None:
        """Pass calls on to this port of the loopback, where somebody listens by now."""
        self._target = target
        self._aimed.set()

    def close(self, timeout: float = 2.0) -> None:
        """Cut all connections and settle what is searched; waits for its threads up to `timeout` seconds."""
        self._closed.set()
        self._aimed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        deadline = time.monotonic() + timeout
        if self._accepting is not None:
            self._accepting.join(timeout)
        self._listener.close()
        with self._lock:
            connections, threads = list(self._open), list(self._threads)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _spawn(self, run: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=run, args=args, name="tap", daemon=True)
        with self._lock:
            self._threads = [t for t in self._threads if t.is_alive()]
            self._threads.append(thread)
            thread.start()
        return thread

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            self._spawn(self._connect, caller)

    def _connect(self, caller: socket.socket) -> None:
        try:
            if not self._aimed.wait(self._patience) or self._closed.is_set():
                return
            with socket.create_connection(("127.0.0.1", self._target)) as target:
                with self._lock:
                    if self._closed.is_set():  # after `close` looked for connections
                        return
                    self._open |= {caller, target}
                other = self._spawn(self._pump, caller, target, APPLICATION)
                self._pump(target, caller, ANSWERS)
                other.join()
                with self._lock:
                    self._open -= {caller, target}
        except OSError:
            pass  # nobody listens there: the caller finds its connection closed
        finally:
            caller.close()

    def _pump(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        raw = self._searcher.channel(f"{name}, as sent")
        data = DataFrames(f"{name}, messages", self._searcher)
        try:
            while piece := source.recv(65536):
                raw.feed(piece)
                data.feed(piece)
                sink.sendall(piece)
        except OSError:
            pass  # one side hung up: so does the other
        finally:
            raw.close()
            data.close()
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
